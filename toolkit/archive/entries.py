"""The members of archives and trees: one type for the readers, the writers, the extractor and the walk over a tree."""

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

# The kinds, as the type flags of a tar header.
FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
KINDS = {
    FILE: "file",
    HARD_LINK: "hard link",
    SYMLINK: "symlink",
    CHARACTER: "character device",
    BLOCK: "block device",
    DIRECTORY: "directory",
    FIFO: "fifo",
}
_FOUND = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK,
    stat.S_IFIFO: FIFO,
}
# Attributes that belong to the file. Others (security.selinux, trusted.overlay.*, …) belong to the host that it is on.
XATTRS = ("user.", "security.capability", "system.posix_acl_access", "system.posix_acl_default")
SECOND_NS = 10**9
_NO_XATTRS: Mapping[str, bytes] = {}


class Entry:
    """One member. `mode` holds the permission bits (with setuid, setgid and sticky), `mtime_ns` nanoseconds.

    `name` is its path as in the archive; for a file of a tree, the path below the tree's root, b"" for the root itself.
    `link` is a symlink's target, and for a HARD_LINK the name of the member that it links to. `uname` and `gname` are
    the names of its owner and group, b"" if the archive has none, and b"" for root, whose number is 0.
    """

    __slots__ = (
        "gid", "gname", "kind", "link", "major", "minor", "mode", "mtime_ns", "name", "size_bytes", "uid", "uname",
        "xattrs",
    )  # fmt: skip

    def __init__(self, name: bytes, kind: bytes, size_bytes: int) -> None:
        self.name = name
        self.kind = kind
        self.size_bytes = size_bytes
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.uname = b"root"
        self.gname = b"root"
        self.mtime_ns = 0
        self.link = b""
        self.major = 0
        self.minor = 0
        self.xattrs = _NO_XATTRS

    @property
    def mtime_s(self) -> int:
        """The whole seconds of `mtime_ns`."""
        return self.mtime_ns // SECOND_NS


class Hole(NamedTuple):
    """A part of a sparse file's content that nothing is stored for: so many zeros."""

    size_bytes: int


def of_file(name: bytes, about: os.stat_result) -> Entry | None:
    """The entry for a file, from its stat(2): everything except its attributes and a symlink's target.

    None for a socket: it is useless without the program that listens on it.
    """
    kind = _FOUND.get(stat.S_IFMT(about.st_mode))
    if kind is None:
        return None
    entry = Entry(name, kind, about.st_size if kind == FILE else 0)
    entry.mode, entry.uid, entry.gid = stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
    entry.mtime_ns = about.st_mtime_ns
    if kind in (CHARACTER, BLOCK):
        entry.major, entry.minor = os.major(about.st_rdev), os.minor(about.st_rdev)
    return entry
