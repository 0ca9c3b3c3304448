"""From a mirror's address to a verified suite: fetch its Release file, check the signature, the dates and the names."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from toolkit.bootstrap.acquire.mirrors import Choice, note_login
from toolkit.bootstrap.acquire.repositories import Repository, site
from toolkit.bootstrap.facts.model import Source
from toolkit.bootstrap.facts.policy import Facts
from toolkit.bootstrap.facts.suites import Suite, for_release
from toolkit.deb.release import Release, check_dates, check_suite, parse_date, parse_release
from toolkit.errors import NotFound, Unreachable, Untrusted
from toolkit.events import Emit, Note
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
INDEX_LIMIT = 512 << 20  # held in memory; Debian's largest, main of sid, has 12 MB compressed and 60 uncompressed
ENDINGS = (".xz", ".gz", ".bz2", "")  # of an index, the smallest form first


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified suite: its Release, the rules that apply to it, and how fast the mirror answered."""

    source: Source
    release: Release
    suite: Suite
    bytes_per_s: float
    folder: str  # where its Release file is
    prefetched: Mapping[str, bytes] = field(default_factory=dict)  # indexes that are fetched already, by their paths

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


def open_source(
    client: Client, repository: Repository, emit: Emit, *, as_of: str = "", architectures: tuple[str, ...] = ()
) -> Opened:
    """Fetch and verify the Release of a repository from the first of its mirrors that has it.

    `as_of` is the timestamp of a snapshot, as in its address. `architectures` are those whose indexes are taken from a
    trusted folder that has no Release file (sources.list(5), trusted=yes). Raises Unreachable, Untrusted, Malformed,
    NotFound. If a mirror has the suite but fails the checks, that is an error; the next mirror is tried only if one
    does not have the suite or does not answer.
    """
    suite = repository.suite
    failed: NotFound | Unreachable | None = None
    choices = [replace(choice, mirror=client.logins.take(choice.mirror)) for choice in repository.choices]
    for given, choice in zip(repository.choices, choices, strict=True):
        folder = f"{choice.mirror}/{suite.name}" if repository.flat else f"{choice.mirror}/dists/{suite.name}"
        what = f"the Release of {suite.name!r} from {choice.mirror}"
        prefetched: dict[str, bytes] = {}
        try:
            try:
                verified = _verified_release(client, repository.keyring, folder, what, emit)
            except NotFound as error:
                if repository.keyring is not None or not repository.own:
                    raise
                prefetched = _indexes_alone(client, repository, folder, architectures, error)
                verified = Verified(_release_of(prefetched, architectures), ())
                emit(
                    Note(f"{what} does not exist: nothing shows that its packages are intact and current", warning=True)
                )
        except Untrusted as error:
            if suite.weak_keys and repository.table_keys:
                error.hint = (
                    "the keys of this suite's time are too weak for today's rules (SHA-1, DSA): its signature can't be "
                    "verified any more. --no-check-gpg builds it all the same, trusting the network"
                )
            elif repository.own and not repository.key:
                error.hint = "name the source's own key: 'deb [signed-by=FILE] URL SUITE COMPONENTS'"
            raise
        except (NotFound, Unreachable) as error:
            failed = failed or error
            if len(choices) > 1:
                emit(Note(f"suite {suite.name!r} not from {choice.mirror} ({choice.why}): {error.because}"))
            continue
        # A file: mirror is treated as fast, so that the index form that decompresses fastest is chosen.
        rate = client.bytes_per_s if local_path(folder) is None else 1e9
        note_login(given.mirror, emit)
        return _opened(verified, prefetched, repository, choice, folder, what, rate, as_of, emit)
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
    prefetched: Mapping[str, bytes],
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
    if not (repository.flat or prefetched):
        _check_suite(release, repository, what, emit)
    if as_of:
        _check_snapshot(release, as_of, what, emit)
    else:
        _check_dates(release, repository.check_date, choice, what, emit)
    _warn_expired(verified, repository, what, emit)
    components = () if repository.flat else _components(release, repository, what)
    # A pocket may have another Origin ("Debian Backports"); the signature of the same keys shows that it belongs here.
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
    return Opened(source, release, replace(actual, name=suite.name), rate, folder, prefetched)


def _verified_release(client: Client, keys: Keyring | None, folder: str, what: str, emit: Emit) -> Verified:
    try:
        inline: bytes | None = client.read(f"{folder}/InRelease", limit=_RELEASE_LIMIT, fresh=True)
    except NotFound:
        # Only a 404 leads to the other form: an attacker who can drop an answer must not choose the form.
        inline = None
    if keys is None:
        emit(Note(f"the signature of {what} was NOT checked, as asked (--no-check-gpg, trusted=yes)", warning=True))
        if inline is not None:
            return Verified(unverified_inline(inline, what=what), ())
        text = client.read(f"{folder}/Release", limit=_RELEASE_LIMIT, fresh=True)
        return Verified(text, ())
    if inline is not None:
        return verify_inline(inline, keys, what=what)
    text = client.read(f"{folder}/Release", limit=_RELEASE_LIMIT, fresh=True)
    try:
        signature = client.read(f"{folder}/Release.gpg", limit=_RELEASE_LIMIT, fresh=True)
    except NotFound:
        raise Untrusted(
            f"check the signature of {what}",
            because="the mirror has neither InRelease nor Release.gpg: the suite is not signed",
            hint="--no-check-gpg builds from it all the same, trusting the network",
        ) from None
    return verify_detached(text, signature, keys, what=what)


def _indexes_alone(
    client: Client, repository: Repository, folder: str, architectures: tuple[str, ...], error: NotFound
) -> dict[str, bytes]:
    """The indexes of a folder without a Release file, by their paths, each in the first form that exists.

    Raises `error` if there are no indexes either.
    """
    bases = ["Packages"]
    if not repository.flat:
        components = repository.components or ("main",)
        bases = [f"{part}/binary-{one}/Packages" for part in components for one in (*architectures, "all")]
    found = {}
    for base in bases:
        for end in ENDINGS:
            try:
                found[base + end] = client.read(f"{folder}/{base}{end}", limit=INDEX_LIMIT, fresh=True)
                break
            except NotFound:
                continue
    if not found:
        raise error
    return found


def _release_of(indexes: Mapping[str, bytes], architectures: tuple[str, ...]) -> bytes:
    """The text of a Release file that lists these indexes, so that the lock records their hashes."""
    import hashlib

    names = [*architectures, *(["all"] if any("/binary-all/" in path for path in indexes) else [])]
    lines = [f"Architectures: {' '.join(names)}", "SHA256:"]
    lines += [f" {hashlib.sha256(data).hexdigest()} {len(data)} {path}" for path, data in sorted(indexes.items())]
    return "\n".join(lines).encode() + b"\n"


def _check_suite(release: Release, repository: Repository, what: str, emit: Emit) -> None:
    """Strict for the distribution's own suites. For an added source apt only warns, and many have another name."""
    try:
        check_suite(release, repository.suite.name, what=what)
    except Untrusted as error:
        if not repository.own:
            raise
        emit(Note(f"{what}: {error.because}; going on, as apt does with a source that is added", warning=True))


def _warn_expired(verified: Verified, repository: Repository, what: str, emit: Emit) -> None:
    """Warn about keys that have expired. A signature counts if its key was valid when it signed (decision 0002)."""
    if repository.keyring is None:
        return
    for fingerprint, until in expired_signers(repository.keyring, verified.signed_by, _now()):
        emit(
            Note(
                f"{what} is signed by key {fingerprint[-16:]}, which expired on {until:%Y-%m-%d}: it was valid when it "
                "signed, and an archived suite is not signed again",
                warning=True,
            )
        )


def _check_snapshot(release: Release, as_of: str, what: str, emit: Emit) -> None:
    """Raise Untrusted for a snapshot newer than requested. An expired Valid-Until is expected; its date is noted."""
    date = parse_date(release.date, what=what)
    requested = datetime.strptime(as_of, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)  # noqa: UP017
    if date > requested:
        raise Untrusted(
            f"check {what}",
            because=f"it is dated {release.date}, later than the time asked for ({as_of})",
            hint="the mirror is not a snapshot service, or it sends another state",
        )
    emit(Note(f"{what} is the state of {release.date}: it has no later updates"))


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
                    f"{what}: {error.because}; going on, because the host's apt is configured not to check dates "
                    "(Acquire::Check-Valid-Until)",
                    warning=True,
                )
            )
        else:
            raise


def _components(release: Release, repository: Repository, what: str) -> tuple[str, ...]:
    """The requested components in the order of the Release file. Raises NotFound for one that it does not have."""
    distribution = repository.suite.distribution
    wanted = repository.components or (distribution.components if distribution else ("main",))
    missing = [one for one in wanted if release.components and one not in release.components]
    if repository.pocket and len(missing) < len(wanted):
        missing = []  # the pocket may lack a component that the release got later: non-free-firmware
    if missing:
        raise NotFound(
            f"use component {missing[0]!r}",
            because=f"{what} has only: {' '.join(release.components)}",
            hint="name others with --components",
        )
    return tuple(one for one in release.components if one in wanted) or tuple(wanted)
