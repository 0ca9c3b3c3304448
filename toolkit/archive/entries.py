"""One member of a tree, as an archive holds it or as it was found on a file system: the same for whoever reads, walks,
extracts or writes.
"""

import os
import stat
from collections.abc import Mapping

# The kinds, by the letters of a tar header.
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
# What belongs to the file and not to the host that it lies on (security.selinux, trusted.overlay.*, … do).
XATTRS = ("user.", "security.capability", "system.posix_acl_access", "system.posix_acl_default")
SECOND_NS = 10**9
_NO_XATTRS: Mapping[str, bytes] = {}


class Entry:
    """One member. `mode` holds the permission bits (setuid and kin included), `mtime_ns` nanoseconds.

    `name` is its path as the archive has it; of what was found, the path below the tree's root, b"" for the root.
    `link` is a symlink's text, and for a HARD_LINK the name of the member that it is one more name of. `uname` and
    `gname` are its owner's and group's names, b"" where the archive has none; who is root has the number 0.
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


def of_file(name: bytes, about: os.stat_result) -> Entry | None:
    """What stat(2) knows of a file: all but its attributes and, of a symlink, the text.

    None for a socket: without its program it is nothing.
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
