"""The members of a tree in a fixed order: by name, a directory before its contents.

The tree must not change meanwhile. Nothing here follows a link or leaves the tree: every name is looked up below an
open directory.
"""

import errno
import os
import stat
from collections.abc import Iterator

from toolkit.archive.entries import DIRECTORY, HARD_LINK, SYMLINK, XATTRS, Entry, of_file
from toolkit.archive.epoch import clamped
from toolkit.errors import SystemCall
from toolkit.kernel import beneath

_DEEPEST = 200
_BENEATH = beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_SYMLINKS | beneath.RESOLVE_NO_MAGICLINKS
NO_XATTRS = (errno.ENOTSUP, errno.EPERM, errno.ENODATA)


def walk(rootfd: int, *, without: frozenset[bytes] = frozenset(), latest_s: int | None = None) -> Iterator[Entry]:
    """The members below the directory `rootfd`, itself first. Sockets are left out: nothing listens on them any more.

    `without` names entries of the root to leave out; times later than `latest_s` are set to it. Raises OSError.
    """
    names: dict[tuple[int, int], bytes] = {}
    root = of_file(b"", os.fstat(rootfd))
    assert root is not None
    root.xattrs = xattrs(f"/proc/self/fd/{rootfd}/.")
    yield clamped(root, latest_s)
    for entry in _below(rootfd, b"", without, names):
        yield clamped(entry, latest_s)


def folders(fd: int, path: bytes = b"") -> Iterator[tuple[int, list[tuple[str, os.stat_result]]]]:
    """Each folder of the tree `fd`, itself first: its descriptor, and the names in it with their stat(2).

    The descriptor is valid until the next folder is asked for. Raises OSError, as `walk` does.
    """
    check_depth(path)
    found = [(name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in os.listdir(fd)]
    yield fd, found
    for name, about in found:
        if stat.S_ISDIR(about.st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                yield from folders(inner, path + b"/" + os.fsencode(name))
            finally:
                os.close(inner)


def check_depth(path: bytes) -> None:
    """Raise OSError beyond a depth: a script may nest folders without end, and each level takes a descriptor."""
    if path.count(b"/") > _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, f"folders are nested more than {_DEEPEST} deep", os.fsdecode(path[:60]) + "…")


def _below(fd: int, path: bytes, without: frozenset[bytes], names: dict[tuple[int, int], bytes]) -> Iterator[Entry]:
    check_depth(path)
    prefix = path + b"/" if path else b""
    for name in sorted(os.fsencode(one) for one in os.listdir(fd)):
        if name in without:
            continue
        entry = entry_at(fd, name, prefix + name, names)
        if entry is None:
            continue
        yield entry
        if entry.kind == DIRECTORY:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            try:
                yield from _below(inner, entry.name, frozenset(), names)
            finally:
                os.close(inner)


def entry_at(fd: int, name: bytes, path: bytes, names: dict[tuple[int, int], bytes]) -> Entry | None:
    """The member for `name` in the folder `fd`, which is `path` in the tree; None for a socket. Raises OSError.

    `names` has the first path of each file with several names, and gets it: the others are hard links to that one.
    """
    about = os.stat(name, dir_fd=fd, follow_symlinks=False)
    entry = of_file(path, about)
    if entry is None:
        return None
    if entry.kind == SYMLINK:
        entry.link = os.readlink(name, dir_fd=fd)
    if entry.kind != DIRECTORY and about.st_nlink > 1:  # a symbolic link may have several names, too
        first = names.setdefault((about.st_dev, about.st_ino), path)
        if first != path:
            entry.kind, entry.link, entry.size_bytes = HARD_LINK, first, 0
    if entry.kind not in (SYMLINK, HARD_LINK):
        entry.xattrs = xattrs(b"/proc/self/fd/%d/%s" % (fd, name))
    return entry


def xattrs(path: str | bytes) -> dict[str, bytes]:
    """The attributes of a file that belong to it (entries.XATTRS). Raises OSError."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in NO_XATTRS:
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names) if name.startswith(XATTRS)}


def read(rootfd: int, entry: Entry, piece_bytes: int = 1 << 20) -> Iterator[bytes]:
    """The content of a FILE in pieces, exactly its size in all. Raises OSError, also if the file became shorter.

    What is in the tree may be at work meanwhile: a folder that became a link leads nowhere (CVE-2020-10696), and a
    file that became a fifo is not waited for.
    """
    try:
        fd = beneath.openat2(rootfd, os.fsdecode(entry.name), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, 0, _BENEATH)
    except SystemCall as error:
        raise OSError(error.errno, os.strerror(error.errno), os.fsdecode(entry.name)) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "it is no file any more", os.fsdecode(entry.name))
        left = entry.size_bytes
        while left:
            piece = os.read(fd, min(left, piece_bytes))
            if not piece:
                raise OSError(errno.EIO, "it became shorter while it was read", os.fsdecode(entry.name))
            left -= len(piece)
            yield piece
    finally:
        os.close(fd)
