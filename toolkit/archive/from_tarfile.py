"""Members of the standard library's tarfile, for `extract`: of archives that anybody may have written.

tar_read.py reads what packages hold. What else is met (sparse files, global headers, other charsets) tarfile reads.
"""

import os
import tarfile
from collections.abc import Iterator

from toolkit.archive.tar_read import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    LATEST_NS,
    NO_ID,
    SYMLINK,
    Entry,
)
from toolkit.errors import Malformed

_PIECE_BYTES = 1 << 20


def as_entry(member: tarfile.TarInfo, doing: str) -> Entry | None:
    """The member, without extended attributes. Raises Malformed.

    None for a kind that no tree holds, as a volume's name is.
    """
    kind = _kind(member)
    if kind is None:
        return None
    entry = Entry(_bytes(member.name), kind, member.size if kind == FILE else 0)
    if not -LATEST_NS < member.mtime * 10**9 < LATEST_NS or not (
        0 <= member.uid < NO_ID and 0 <= member.gid < NO_ID and member.size >= 0
    ):
        raise Malformed(doing, because=f"{member.name!r} has an owner, a time or a size that can't be")
    entry.mtime_ns = int(member.mtime * 10**9)
    entry.mode, entry.uid, entry.gid = member.mode & 0o7777, member.uid, member.gid
    entry.link = _bytes(member.linkname)
    if kind in (CHARACTER, BLOCK):
        if not (0 <= member.devmajor < 1 << 32 and 0 <= member.devminor < 1 << 32):
            raise Malformed(doing, because=f"{member.name!r} has a device number that can't be")
        entry.major, entry.minor = member.devmajor, member.devminor
    if b"\0" in entry.name or b"\0" in entry.link:
        raise Malformed(doing, because=f"{member.name!r} has a NUL in its name")
    return entry


def pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    """The content of a regular file; nothing for other kinds. Raises tarfile.ReadError when it ends in the middle."""
    source = archive.extractfile(member) if member.isreg() else None
    if source is None:
        return
    while piece := source.read(_PIECE_BYTES):
        yield piece


def _kind(member: tarfile.TarInfo) -> bytes | None:
    if member.isreg():
        return FILE
    if member.type in (DIRECTORY, SYMLINK, CHARACTER, BLOCK, FIFO, HARD_LINK):
        return member.type
    return None


def _bytes(name: str) -> bytes:
    return os.fsencode(name)
