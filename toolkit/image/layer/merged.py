"""Look into layers that lie in folders of their own, as overlayfs shows them on top of each other, without mounting it.

Needed before there is a container: whose id an image's user has is in the image's etc/passwd, which some layer holds.
Links are followed inside the root, and nothing but directories and regular files is opened.

Source: Linux, Documentation/filesystems/overlayfs.rst ("whiteouts and opaque directories").
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from toolkit.kernel import reading

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_MOST_LINKS = 40  # as path_resolution(7)


def read(layers: Sequence[str], path: str, limit_bytes: int) -> bytes:
    """The content of a regular file in the merged root of `layers`, the topmost first.

    Raises OSError: FileNotFoundError as open(2) would, EFBIG beyond `limit_bytes`, EINVAL for what is not a file.
    """
    with ExitStack() as stack:
        roots = []
        for layer in layers:
            fd = os.open(layer, _DIRECTORY)
            stack.callback(os.close, fd)
            roots.append(fd)
        return _read(stack, roots, path, limit_bytes)


def _read(stack: ExitStack, roots: list[int], path: str, limit_bytes: int) -> bytes:
    found = find(stack, roots, path)
    if found.missing:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), found.missing[0])
    if found.kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if found.kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return _content(found.where[0], os.path.basename(found.path), path, limit_bytes)


class Found(NamedTuple):
    """Where a path leads. `path` is that of what is there, without links and without a slash before it.

    `kind` (stat.S_IFMT) and `where` are as `look` returns them. `missing` are the words of the path that are not there.
    """

    kind: int
    where: list[int]
    path: str
    missing: tuple[str, ...]


def find(stack: ExitStack, roots: list[int], path: str, *, follow: bool = True) -> Found:
    """Follow a path in merged directories, the topmost first; links stay inside. `follow`: one at its end, too.

    `stack` closes the directories. Raises OSError: NotADirectoryError, ELOOP.
    """
    words = _words(path)
    above: list[tuple[str, list[int]]] = []  # names and merged directories on the way
    links = 0
    while words:
        word = words.pop(0)
        if word == "..":
            above[-1:] = []
            continue
        here = above[-1][1] if above else roots
        looked = look(stack, here, word)
        way = [name for name, _ in above]
        if looked is None:
            return Found(stat.S_IFDIR, here, "/".join(way), tuple(_words(_normal((word, *words)))))
        kind, found = looked
        if kind == stat.S_IFDIR:
            above.append((word, found))
        elif kind == stat.S_IFLNK and (words or follow):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(word, dir_fd=found[0])
            if target.startswith("/"):
                above = []
            words = _words(target) + words
        elif words:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        else:
            return Found(kind, found, "/".join((*way, word)), ())
    return Found(stat.S_IFDIR, above[-1][1] if above else roots, "/".join(name for name, _ in above), ())


def names(directories: list[int]) -> list[str]:
    """The names that may be in merged directories, in order; `look` says of each whether it is. Raises OSError."""
    return sorted({name for directory in directories for name in os.listdir(directory)}, key=os.fsencode)


def _normal(words: tuple[str, ...]) -> str:
    """Words that are not there, without `..`."""
    return os.path.normpath("/" + "/".join(words))


def _words(path: str) -> list[str]:
    return [word for word in path.split("/") if word not in ("", ".")]


def look(stack: ExitStack, directories: list[int], name: str) -> tuple[int, list[int]] | None:
    """What `name` is in merged directories, the topmost first, without following it; None if there is no such name.

    Its type (stat.S_IFMT), and the directories of that name, which `stack` closes, or the one that it is in. Raises
    OSError.
    """
    merged: list[int] = []
    for directory in directories:
        try:
            about = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
            break  # a whiteout: what is below does not show
        if not stat.S_ISDIR(about.st_mode):
            if merged:
                break  # hidden by the directory above it
            return stat.S_IFMT(about.st_mode), [directory]
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
        stack.callback(os.close, fd)
        merged.append(fd)
        if _is_opaque(fd):
            break
    if not merged:
        return None
    return stat.S_IFDIR, merged


def _is_opaque(fd: int) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:
            continue
    return False


def _content(directory: int, name: str, path: str, limit_bytes: int) -> bytes:
    fd = os.open(name, _FILE, dir_fd=directory)
    try:
        reading.check(fd, path, limit_bytes)
        return reading.whole(fd, path, limit_bytes)
    finally:
        os.close(fd)
