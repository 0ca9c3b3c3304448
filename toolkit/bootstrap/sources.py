"""From a mirror's address to indexes that can be believed: Release, its signature, its promises, the Packages files."""

import bz2
import lzma
import mmap
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from toolkit.bootstrap.architectures import meant
from toolkit.bootstrap.mirrors import Choice, tell_login
from toolkit.bootstrap.model import Source
from toolkit.bootstrap.policy import Facts
from toolkit.bootstrap.pool import Member
from toolkit.bootstrap.repositories import Repository, site
from toolkit.bootstrap.suites import Suite, for_release
from toolkit.deb.index import Index
from toolkit.deb.release import Entry, Release, check_dates, check_suite, parse_date, parse_release
from toolkit.errors import Malformed, NotFound, Unreachable, Untrusted
from toolkit.events import Emit, Note, Progressed
from toolkit.fetch.cache import Cache, check
from toolkit.fetch.http import Client, local_path
from toolkit.fetch.verify import (
    Keyring,
    Verified,
    expired_signers,
    unverified_inline,
    verify_detached,
    verify_inline,
)

_RELEASE_LIMIT = 32 << 20  # sid's InRelease has 0.2 MB
_INDEX_LIMIT = 512 << 20  # held in memory; Debian's largest, main of sid, has 12 MB packed and 60 plain
_TABLE = "offsets"  # kept beside an index: where its paragraphs begin
_SLICE_BYTES = 128 << 10
# Decompression on one core, output bytes per second (measured: lzma 95, zlib 380 MB/s; docs/performance.md).
_SPEED = {".xz": 95e6, ".gz": 380e6, ".bz2": 30e6, "": 1e12}


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified suite: what its Release says, which rules apply, and how fast the mirror answered."""

    source: Source
    release: Release
    suite: Suite
    bytes_per_s: float
    folder: str  # where its Release file is

    @property
    def facts(self) -> Facts:
        release = self.release
        return Facts(
            archive=release.suite,
            codename=release.codename,
            version=release.version,
            origin=release.origin,
            label=release.label,
            site=site(self.source.mirror),
            not_automatic=release.not_automatic,
            automatic_upgrades=release.automatic_upgrades,
        )


def open_source(client: Client, repository: Repository, emit: Emit, *, as_of: str = "") -> Opened:
    """Fetch and verify the Release of a repository from the first of its mirrors that has it.

    `as_of` is the moment of a snapshot, as in its address. Raises Unreachable, Untrusted, Malformed, NotFound. A mirror
    that has the suite but fails the checks is an error, never a reason to try the next one: only "not there" and "no
    answer" are.
    """
    suite = repository.suite
    failed: NotFound | Unreachable | None = None
    choices = [replace(choice, mirror=client.logins.take(choice.mirror)) for choice in repository.choices]
    for given, choice in zip(repository.choices, choices, strict=True):
        folder = f"{choice.mirror}/{suite.name}" if repository.flat else f"{choice.mirror}/dists/{suite.name}"
        what = f"the Release of {suite.name!r} from {choice.mirror}"
        try:
            verified = _verified_release(client, repository.keyring, folder, what, emit)
        except Untrusted as error:
            if suite.weak_keys and repository.table_keys:
                error.hint = (
                    "the keys of this suite's time are too weak for today's rules (SHA-1, DSA): nothing can vouch for "
                    "it any more. --no-check-gpg builds it all the same, trusting the network"
                )
            elif repository.own and not repository.key:
                error.hint = "name the source's own key: 'deb [signed-by=FILE] URL SUITE COMPONENTS'"
            raise
        except (NotFound, Unreachable) as error:
            failed = failed or error
            if len(choices) > 1:
                emit(Note(f"suite {suite.name!r} not from {choice.mirror} ({choice.why}): {error.because}"))
            continue
        # A file: mirror counts as fast: the index form that is read soonest is taken.
        rate = client.bytes_per_s if local_path(folder) is None else 1e9
        tell_login(given.mirror, emit)
        return _opened(verified, repository, choice, folder, what, rate, as_of, emit)
    assert failed is not None
    if isinstance(failed, Unreachable):
        raise failed
    raise Unreachable(
        f"find suite {suite.name!r} on {choices[0].mirror}",
        because=f"the mirror has neither InRelease nor Release for it ({failed.because})",
        hint="check the suite's name, or name a mirror that has it with --mirror",
    )


def _opened(
    verified: Verified,
    repository: Repository,
    choice: Choice,
    folder: str,
    what: str,
    rate: float,
    as_of: str,
    emit: Emit,
) -> Opened:
    suite = repository.suite
    release = parse_release(verified.text, what=what)
    if not repository.flat:
        check_suite(release, suite.name, what=what)
    if as_of:
        _check_moment(release, as_of, what, emit)
    else:
        _check_dates(release, repository.check_date, choice, what, emit)
    _tell_expired(verified, repository, what, emit)
    components = () if repository.flat else _components(release, repository, what)
    # A pocket's Origin may be another ("Debian Backports"); that the same keys signed it says whose it is.
    is_main = not (repository.own or repository.pocket)
    actual = for_release(suite, release.codename, release.origin) if is_main else suite
    if repository.table_keys and actual.distribution != suite.distribution:
        raise Untrusted(
            f"check {what}",
            because=f"its Origin is {release.origin!r}",
            hint="for an archive other than Debian's and Ubuntu's give its keyring with --keyring FILE",
        )
    import hashlib

    source = Source(
        mirror=choice.mirror,
        suite=suite.name,
        codename=release.codename or suite.codename,
        origin=release.origin,
        components=components,
        date=release.date,
        release_sha256=hashlib.sha256(verified.text).hexdigest(),
        signed_by=verified.signed_by,
        options=repository.options,
        key=repository.key,
        kind="flat" if repository.flat else "archive",
    )
    return Opened(source, release, replace(actual, name=suite.name), rate, folder)


def _verified_release(client: Client, keys: Keyring | None, folder: str, what: str, emit: Emit) -> Verified:
    try:
        inline: bytes | None = client.read(f"{folder}/InRelease", limit=_RELEASE_LIMIT)
    except NotFound:
        # Only "not there" leads to the other form: whoever can drop one answer must not choose the form.
        inline = None
    if keys is None:
        emit(Note(f"the signature of {what} was NOT checked, as asked (--no-check-gpg, trusted=yes)", warning=True))
        if inline is not None:
            return Verified(unverified_inline(inline, what=what), ())
        text = client.read(f"{folder}/Release", limit=_RELEASE_LIMIT)
        return Verified(text, ())
    if inline is not None:
        return verify_inline(inline, keys, what=what)
    text = client.read(f"{folder}/Release", limit=_RELEASE_LIMIT)
    try:
        signature = client.read(f"{folder}/Release.gpg", limit=_RELEASE_LIMIT)
    except NotFound:
        raise Untrusted(
            f"check the signature of {what}",
            because="the mirror has neither InRelease nor Release.gpg: the suite is not signed",
            hint="--no-check-gpg builds from it all the same, trusting the network",
        ) from None
    return verify_detached(text, signature, keys, what=what)


def _tell_expired(verified: Verified, repository: Repository, what: str, emit: Emit) -> None:
    """A signature counts if its key was good when it signed (decision 0002); who builds from such a suite is told."""
    if repository.keyring is None:
        return
    for fingerprint, until in expired_signers(repository.keyring, verified.signed_by, _now()):
        emit(
            Note(
                f"{what} is signed by key {fingerprint[-16:]}, which expired on {until:%Y-%m-%d}: it was good when it "
                "signed, and an archived suite gets no newer one",
                warning=True,
            )
        )


def _check_moment(release: Release, as_of: str, what: str, emit: Emit) -> None:
    """A snapshot must not be newer than asked for; that its Valid-Until is over is the point of it, and is told."""
    date = parse_date(release.date, what=what)
    moment = datetime.strptime(as_of, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)  # noqa: UP017
    if date > moment:
        raise Untrusted(
            f"check {what}",
            because=f"it is dated {release.date}, later than the moment asked for ({as_of})",
            hint="the mirror is no snapshot service, or sends another state",
        )
    emit(Note(f"{what} is the state of {release.date}: no update since is in it"))


def _now() -> datetime:
    return datetime.now(timezone.utc)  # noqa: UP017


def _check_dates(release: Release, asked: bool, choice: Choice, what: str, emit: Emit) -> None:
    try:
        check_dates(release, _now(), what=what)
    except Untrusted as error:
        if not asked:
            emit(Note(f"{what}: {error.because}; going on, as asked (--no-check-date)", warning=True))
        elif choice.dates_unchecked:
            emit(
                Note(
                    f"{what}: {error.because}; going on, because the host's apt is told not to check dates "
                    "(Acquire::Check-Valid-Until)",
                    warning=True,
                )
            )
        else:
            raise


def _components(release: Release, repository: Repository, what: str) -> tuple[str, ...]:
    """Those asked for, in the order of the Release file. Raises NotFound for one that it does not have."""
    distribution = repository.suite.distribution
    wanted = repository.components or (distribution.components if distribution else ("main",))
    missing = [one for one in wanted if release.components and one not in release.components]
    if repository.pocket and len(missing) < len(wanted):
        missing = []  # one that was added to the release later: non-free-firmware
    if missing:
        raise NotFound(
            f"use component {missing[0]!r}",
            because=f"{what} has only: {' '.join(release.components)}",
            hint="name others with --components",
        )
    return tuple(one for one in release.components if one in wanted) or tuple(wanted)


def load_members(
    client: Client, cache: Cache, number: int, opened: Opened, architectures: tuple[str, ...], emit: Emit
) -> list[Member]:
    """The indexes of a source's components. `number` is its place among the sources, `architectures` begin with the
    root's own. Raises as `Client.receive`, Untrusted, Malformed, NotFound."""
    release, own = opened.release, architectures[0]
    if opened.source.kind == "flat":
        # One index for all architectures.
        index = _index(client, cache, opened, "Packages", emit)
        return [Member(number, "", index), *(Member(number, "", index, other) for other in architectures[1:])]
    missing = [one for one in architectures if release.architectures and one not in release.architectures]
    if missing:
        raise NotFound(
            f"use architecture {missing[0]!r}",
            because=f"suite {opened.source.suite!r} has only: {' '.join(release.architectures)}"
            + meant(missing[0], release.architectures),
            hint="old and new architectures live on a ports mirror: name it with --mirror",
        )
    separate_all = "all" in release.architectures and not release.packages_without_all
    members = []
    for component in opened.source.components:
        for architecture in (*architectures, "all") if separate_all else architectures:
            base = f"{component}/binary-{architecture}/Packages"
            if architecture == "all" and not _forms(release, base):
                continue
            index = _index(client, cache, opened, base, emit)
            members.append(Member(number, component, index, "" if architecture in (own, "all") else architecture))
    return members


def _forms(release: Release, base: str) -> list[tuple[str, Entry]]:
    return [(end, release.entries[base + end]) for end in _SPEED if base + end in release.entries]


def _index(client: Client, cache: Cache, opened: Opened, base: str, emit: Emit) -> Index:
    release, source = opened.release, opened.source
    what = f"{base} of {source.suite!r} from {source.mirror}"
    forms = _forms(release, base)
    if not forms:
        raise Malformed(
            f"find {what}",
            because="the signed Release file lists no such index",
            hint="does the suite have this component and architecture?",
        )
    plain = release.entries.get(base)
    if plain is not None and plain.size_bytes == 0:
        return Index(b"", what=what)
    if plain is not None:
        fd = cache.open(plain.sha256, plain.size_bytes)
        if fd is not None:
            emit(Progressed("index", plain.size_bytes, plain.size_bytes, "bytes", f"{base} (cached)"))
            return _mapped(fd, what, cache.noted(plain.sha256, _TABLE))
    size = plain.size_bytes if plain else max(entry.size_bytes for _, entry in forms) * 8

    def seconds(form: tuple[str, Entry]) -> float:
        return form[1].size_bytes / opened.bytes_per_s + size / _SPEED[form[0]]

    # The plain file is listed by its hash but seldom served; it is taken last.
    for form in sorted(forms, key=lambda form: (form[0] == "", seconds(form))):
        try:
            packed, ending = _fetch_entry(client, opened, form[1], emit), form[0]
            break
        except NotFound:
            continue
    else:
        raise Unreachable(
            f"fetch {what}",
            because="the mirror has none of the forms that its Release file lists",
            hint="the mirror may be in the middle of an update: try again in some minutes, or take another --mirror",
        )
    if plain is None:
        # Nothing signed says how long the text is; the limit only stops a decompression bomb.
        return Index(b"".join(_unpacked(packed, ending, what, limit=_INDEX_LIMIT)), what=what)
    fd = cache.store(
        _unpacked(packed, ending, what, limit=plain.size_bytes), plain.sha256, plain.size_bytes, doing=f"unpack {what}"
    )
    index = _mapped(fd, what, None)
    cache.note(plain.sha256, _TABLE, index.table())
    return index


def _fetch_entry(client: Client, opened: Opened, entry: Entry, emit: Emit) -> bytes:
    import hashlib

    folder = opened.folder
    name = entry.path.rpartition("/")[2]
    urls = [f"{folder}/{entry.path}"]
    if opened.release.by_hash:
        # Never out of step with the Release file, even while the mirror is being updated.
        urls.insert(0, f"{folder}/{entry.path.removesuffix(name)}by-hash/SHA256/{entry.sha256}")

    if entry.size_bytes > _INDEX_LIMIT:
        raise Untrusted(f"fetch {urls[0]}", because=f"its Release says {entry.size_bytes} bytes, too many for an index")

    def consume(chunks: Iterator[bytes]) -> bytes:
        parts = []
        done = 0
        told = 0.0
        for chunk in chunks:
            parts.append(chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - told > 0.05:
                emit(Progressed("index", done, entry.size_bytes, "bytes", entry.path))
                told = now
        emit(Progressed("index", done, entry.size_bytes, "bytes", entry.path))
        return b"".join(parts)

    for number, url in enumerate(urls):
        try:
            data = client.receive(url, consume, limit=entry.size_bytes, exact=entry.size_bytes)
        except NotFound:
            if number + 1 == len(urls):
                raise
            continue
        check(f"check {url}", hashlib.sha256(data).hexdigest(), len(data), entry.sha256, entry.size_bytes)
        return data
    raise AssertionError(urls)


def _unpacked(packed: bytes, ending: str, what: str, *, limit: int) -> Iterator[bytes]:
    """The text of an index in pieces, never more than `limit` bytes and a piece of it."""
    if ending == "":
        yield packed
        return
    # Fed a slice at a time: zlib would copy all that is left over on every call, and a slice bounds what a bomb can
    # become before it is counted.
    machine: Any = (
        zlib.decompressobj(31)
        if ending == ".gz"
        else lzma.LZMADecompressor(memlimit=1 << 28)
        if ending == ".xz"
        else bz2.BZ2Decompressor()
    )
    done = 0
    try:
        for start in range(0, len(packed), _SLICE_BYTES):
            piece = machine.decompress(packed[start : start + _SLICE_BYTES])
            done += len(piece)
            if done > limit:
                raise Untrusted(f"unpack {what}", because=f"it is longer than the {limit} bytes that were promised")
            if piece:
                yield piece
            if machine.eof:
                break
        if not machine.eof:
            raise EOFError("the compressed data ends in the middle")
    except (lzma.LZMAError, zlib.error, OSError, EOFError) as error:
        raise Malformed(f"unpack {what}", because=str(error)) from None


def _mapped(fd: int, what: str, table: bytes | None) -> Index:
    try:
        return Index(mmap.mmap(fd, 0, access=mmap.ACCESS_READ), what=what, table=table)
    finally:
        os.close(fd)
