"""The Packages indexes listed in a verified Release: fetched, checked by hash, unpacked within a limit, cached."""

import bz2
import lzma
import mmap
import os
import time
import zlib
from collections.abc import Iterator
from typing import Any

from toolkit.bootstrap.acquire.sources import ENDINGS, INDEX_LIMIT, Opened
from toolkit.bootstrap.facts.architectures import suggestion
from toolkit.bootstrap.facts.pool import Member
from toolkit.deb.index import Index
from toolkit.deb.release import Entry, Release
from toolkit.errors import Malformed, NotFound, Unreachable, Untrusted
from toolkit.events import Emit, Progressed
from toolkit.fetch.cache import Cache, check
from toolkit.fetch.http import Client

_TABLE = "offsets"  # stored beside an index: where its paragraphs begin
_SLICE_BYTES = 128 << 10
# Decompression on one core, output bytes per second (measured: lzma 95, zlib 380 MB/s; docs/performance.md).
_SPEED = dict(zip(ENDINGS, (95e6, 380e6, 30e6, 1e12), strict=True))


def load_members(
    client: Client, cache: Cache, number: int, opened: Opened, architectures: tuple[str, ...], emit: Emit
) -> list[Member]:
    """The indexes of a source's components. `number` is the source's place in Lock.sources; the first of
    `architectures` is the root's own. Raises like `Client.receive`, and Untrusted, Malformed, NotFound."""
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
            + suggestion(missing[0], release.architectures),
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

    # The uncompressed file is listed but seldom on the mirror, so it is tried last.
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
            hint="the mirror may be in the middle of an update: try again in a few minutes, or use another --mirror",
        )
    if plain is None:
        # No signed file gives the size of the text; the limit only stops a decompression bomb.
        return Index(b"".join(_unpacked(packed, ending, what, limit=INDEX_LIMIT)), what=what)
    fd = cache.store(
        _unpacked(packed, ending, what, limit=plain.size_bytes), plain.sha256, plain.size_bytes, doing=f"unpack {what}"
    )
    index = _mapped(fd, what, None)
    cache.note(plain.sha256, _TABLE, index.table())
    return index


def _fetch_entry(client: Client, opened: Opened, entry: Entry, emit: Emit) -> bytes:
    import hashlib

    if entry.path in opened.prefetched:
        return opened.prefetched[entry.path]
    folder = opened.folder
    name = entry.path.rpartition("/")[2]
    urls = [f"{folder}/{entry.path}"]
    if opened.release.by_hash:
        # By hash the index always fits the Release file, even while the mirror is being updated.
        urls.insert(0, f"{folder}/{entry.path.removesuffix(name)}by-hash/SHA256/{entry.sha256}")

    if entry.size_bytes > INDEX_LIMIT:
        raise Untrusted(f"fetch {urls[0]}", because=f"its Release says {entry.size_bytes} bytes, too many for an index")

    def consume(chunks: Iterator[bytes]) -> bytes:
        parts = []
        done = 0
        reported = 0.0
        for chunk in chunks:
            parts.append(chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - reported > 0.05:
                emit(Progressed("index", done, entry.size_bytes, "bytes", entry.path))
                reported = now
        emit(Progressed("index", done, entry.size_bytes, "bytes", entry.path))
        return b"".join(parts)

    for number, url in enumerate(urls):
        try:
            data = client.receive(url, consume, limit=entry.size_bytes, exact=entry.size_bytes, fresh=True)
        except NotFound:
            if number + 1 == len(urls):
                raise
            continue
        check(f"check {url}", hashlib.sha256(data).hexdigest(), len(data), entry.sha256, entry.size_bytes)
        return data
    raise AssertionError(urls)


def _unpacked(packed: bytes, ending: str, what: str, *, limit: int) -> Iterator[bytes]:
    """The text of an index in pieces. Raises Untrusted as soon as a piece goes beyond `limit` bytes."""
    if ending == "":
        yield packed
        return
    # The input is fed in slices: zlib copies its unused input on every call, and a slice bounds how far a bomb can
    # grow before it is counted.
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
