"""The members of a tree in one order that never changes: by name, a directory before what is in it.

The tree must be at rest. Nothing here follows a link, and nothing leaves the tree: every name is taken below an open
directory.
"""

import errno
import os
import stat
from collections.abc import Iterator

from toolkit.archive.extract import XATTRS

FILE, DIRECTORY, SYMLINK, HARD_LINK, CHARACTER, BLOCK, FIFO = "file", "dir", "symlink", "link", "char", "block", "fifo"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK,
    stat.S_IFIFO: FIFO,
}
_DEEPEST = 200
_NO_XATTRS = (errno.ENOTSUP, errno.EPERM, errno.ENODATA)


def kind(found: os.stat_result) -> str | None:
    """Which of the kinds it is, but for HARD_LINK; None for a socket: nobody listens on it any more."""
    return _KINDS.get(stat.S_IFMT(found.st_mode))


class Member:
    """One path of a tree. `path` is relative, b"" for the root itself; `mode` holds the permission bits only."""

    __slots__ = (
        "gid",
        "kind",
        "link",
        "links",
        "major",
        "minor",
        "mode",
        "mtime_s",
        "path",
        "size_bytes",
        "uid",
        "xattrs",
    )

    def __init__(self, path: bytes, kind: str, found: os.stat_result) -> None:
        self.path = path
        self.kind = kind
        self.mode = found.st_mode & 0o7777
        self.uid = found.st_uid
        self.gid = found.st_gid
        self.mtime_s = int(found.st_mtime)
        self.size_bytes = found.st_size if kind == FILE else 0
        self.links = found.st_nlink
        self.link = b""  # a symlink's text; for HARD_LINK the path of the first of its names
        self.major = os.major(found.st_rdev)
        self.minor = os.minor(found.st_rdev)
        self.xattrs: dict[str, bytes] = {}


def walk(rootfd: int, *, without: frozenset[bytes] = frozenset(), latest_s: int | None = None) -> Iterator[Member]:
    """The members below the directory `rootfd`, itself first. Sockets are left out: nobody listens on them any more.

    `without` names entries of the root that don't belong to it; no time is later than `latest_s`. Raises OSError.
    """
    names: dict[tuple[int, int], bytes] = {}
    root = Member(b"", DIRECTORY, os.fstat(rootfd))
    root.xattrs = _xattrs(f"/proc/self/fd/{rootfd}/.")
    yield _clamped(root, latest_s)
    for member in _below(rootfd, b"", without, names):
        yield _clamped(member, latest_s)


def _clamped(member: Member, latest_s: int | None) -> Member:
    if latest_s is not None and member.mtime_s > latest_s:
        member.mtime_s = latest_s
    return member


def folders(fd: int, path: bytes = b"") -> Iterator[tuple[int, list[tuple[str, os.stat_result]]]]:
    """Each folder of the tree `fd`, itself first: its descriptor, and the names in it with what they are.

    The descriptor is good until the next one is asked for. Raises OSError, as `walk`.
    """
    _check_depth(path)
    found = [(name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in os.listdir(fd)]
    yield fd, found
    for name, about in found:
        if stat.S_ISDIR(about.st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                yield from folders(inner, path + b"/" + os.fsencode(name))
            finally:
                os.close(inner)


def _check_depth(path: bytes) -> None:
    """A script may nest folders without end; each level holds a descriptor and a frame of ours."""
    if path.count(b"/") > _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, f"folders are nested more than {_DEEPEST} deep", os.fsdecode(path[:60]) + "…")


def _below(fd: int, path: bytes, without: frozenset[bytes], names: dict[tuple[int, int], bytes]) -> Iterator[Member]:
    _check_depth(path)
    prefix = path + b"/" if path else b""
    for name in sorted(os.fsencode(one) for one in os.listdir(fd)):
        if name in without:
            continue
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        sort = kind(found)
        if sort is None:
            continue
        member = Member(prefix + name, sort, found)
        if sort == SYMLINK:
            member.link = os.readlink(name, dir_fd=fd)
        elif sort != DIRECTORY and found.st_nlink > 1:
            first = names.setdefault((found.st_dev, found.st_ino), member.path)
            if first != member.path:
                member.kind, member.link, member.size_bytes = HARD_LINK, first, 0
        if member.kind not in (SYMLINK, HARD_LINK):
            member.xattrs = _xattrs(b"/proc/self/fd/%d/%s" % (fd, name))
        yield member
        if sort == DIRECTORY:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                yield from _below(inner, member.path, frozenset(), names)
            finally:
                os.close(inner)


def _xattrs(path: str | bytes) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names) if name.startswith(XATTRS)}


def read(rootfd: int, member: Member, piece_bytes: int = 1 << 20) -> Iterator[bytes]:
    """The content of a FILE in pieces: exactly its size of them. Raises OSError, also when the file is shorter now."""
    fd = os.open(member.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=rootfd)
    try:
        left = member.size_bytes
        while left:
            piece = os.read(fd, min(left, piece_bytes))
            if not piece:
                raise OSError(errno.EIO, "it became shorter while it was read", os.fsdecode(member.path))
            left -= len(piece)
            yield piece
    finally:
        os.close(fd)
