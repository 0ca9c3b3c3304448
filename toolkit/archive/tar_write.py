"""Write a tree as a tar stream that depends on nothing but the tree: sorted, whole seconds, ids without names.

Plain ustar headers, with a pax header where a member does not fit (long names, large numbers, extended attributes as
SCHILY.xattr, which GNU tar, bsdtar, podman and Docker read). The stream comes in segments, which can be compressed in
parallel.

Source: POSIX.1-2017 pax, "ustar Interchange Format", "pax Header Block"; tar(5) of libarchive for SCHILY.xattr.
"""

from collections.abc import Callable, Iterable, Iterator

from toolkit.archive.entries import BLOCK, CHARACTER, DIRECTORY, FILE, HARD_LINK, Entry
from toolkit.archive.walk import read

END = bytes(1024)
_SEGMENT_BYTES = 2 << 20


def header(entry: Entry, *, prefix: bytes = b"./") -> bytes:
    """The header of a member, preceded by a pax header if it needs one."""
    name = prefix + entry.name
    if entry.kind == DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    link = prefix + entry.link if entry.kind == HARD_LINK else entry.link
    records = b"".join(_record(b"SCHILY.xattr." + key.encode(), value) for key, value in sorted(entry.xattrs.items()))
    if len(name) > 100:
        records += _record(b"path", name)
    if len(link) > 100:
        records += _record(b"linkpath", link)
    numbers = {b"uid": (entry.uid, 7), b"gid": (entry.gid, 7), b"size": (entry.size_bytes, 11)}
    numbers[b"mtime"] = (entry.mtime_s, 11)
    fitting = {}
    for key, (value, digits) in numbers.items():
        fits = 0 <= value < 8**digits
        fitting[key] = value if fits else 0
        if not fits:
            records += _record(key, b"%d" % value)
    pax = b""
    if records:
        pax = _block(b"./PaxHeaders/" + name[-80:].strip(b"/").rpartition(b"/")[2], 0o644, 0, 0, len(records), 0, b"x")
        pax += records + bytes(-len(records) % 512)
    return pax + _block(
        name[:100],
        entry.mode,
        fitting[b"uid"],
        fitting[b"gid"],
        fitting[b"size"],
        fitting[b"mtime"],
        entry.kind,
        link[:100],
        entry.major if entry.kind in (CHARACTER, BLOCK) else 0,
        entry.minor if entry.kind in (CHARACTER, BLOCK) else 0,
    )


def _block(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
) -> bytes:
    block = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0        %s%s" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
        kind,
        link.ljust(100, b"\0"),
    )
    block += b"ustar\x0000" + bytes(64)
    block += b"%07o\0%07o\0" % (major, minor) + bytes(167)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where LENGTH counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def segments(
    rootfd: int,
    entries: Iterable[Entry],
    *,
    prefix: bytes = b"./",
    content: Callable[[Entry], Iterable[bytes]] | None = None,
) -> Iterator[bytes]:
    """The whole stream in segments of at least some MiB each, except for the last. Raises OSError.

    Names begin with `prefix`, except for the root's: that is `./` in any case.
    `content` gives that of a FILE, exactly its size; else it is read below `rootfd`.
    """
    parts: list[bytes] = []
    size = 0
    for entry in entries:
        parts.append(header(entry, prefix=prefix if entry.name else b"./"))
        size += len(parts[-1])
        if entry.kind == FILE and entry.size_bytes:
            for piece in read(rootfd, entry) if content is None else content(entry):
                parts.append(piece)
                size += len(piece)
                if size >= _SEGMENT_BYTES:
                    yield b"".join(parts)
                    parts, size = [], 0
            padding = -entry.size_bytes % 512
            parts.append(bytes(padding))
            size += padding
        if size >= _SEGMENT_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join((*parts, END))
