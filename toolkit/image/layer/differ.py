"""What a container has changed, as the members of one more layer: the upper folder of its overlay mount, translated.

overlayfs marks a removed file by a character device 0:0 and a folder that hides what is below by an attribute; a layer
has whiteouts for both, which stand before the other names of their folder (image-spec 1.1, layer.md, "Whiteouts").
Whiteouts are written only for what the layers below have: others break readers.

Sources: Linux, Documentation/filesystems/overlayfs.rst; image-spec 1.1, layer.md, "Representing Changes".
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from toolkit.archive import walk
from toolkit.archive.entries import DIRECTORY, FILE, Entry, of_file
from toolkit.archive.epoch import clamped
from toolkit.errors import CtkError, reason_and_path
from toolkit.image.layer import merged
from toolkit.image.layer.forms import OVERLAY
from toolkit.image.layer.names import OPAQUE, WHITEOUT, join
from toolkit.image.layer.tree import is_whiteout
from toolkit.image.layer.write import check_mounts, fit

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Marks of mount options that ctk's mounts don't have. What such a file is made of lies elsewhere.
_REFUSED = {
    "redirect": "a folder that was renamed (redirect_dir)",
    "metacopy": "a file whose content is below (metacopy)",
    "whiteout": "a whiteout of an overlay inside the overlay",
}


class _Names(NamedTuple):
    """Of a folder of the upper layer: names that are removed, and those that are there, each in order."""

    removed: list[bytes]
    there: list[bytes]


def changes(
    upperfd: int, lowers: Sequence[str], form: str, doing: str, *, latest_s: int | None = None
) -> Iterator[Entry]:
    """The members of a layer with what the upper folder `upperfd` has over `lowers`, the topmost first.

    `form` says whose attributes are overlayfs's marks: forms.OVERLAY trusted.*, forms.USERXATTR user.*. Times later
    than `latest_s` are set to it. Nothing must change meanwhile. There are none if nothing has changed but the root
    folder itself. Raises CtkError, which begins with `doing`.
    """
    check_mounts(upperfd, doing)
    try:
        with ExitStack() as stack:
            below = []
            for lower in lowers:
                below.append(os.open(lower, _FOLDER))
                stack.callback(os.close, below[-1])
            yield from _Differ(form, doing, latest_s).members(upperfd, below)
    except OSError as error:
        raise CtkError(doing, because=reason_and_path(error)) from None


class _Differ:
    def __init__(self, form: str, doing: str, latest_s: int | None) -> None:
        self._marks = "trusted.overlay." if form == OVERLAY else "user.overlay."
        self._doing = doing
        self._latest_s = latest_s
        self._names: dict[tuple[int, int], bytes] = {}

    def members(self, upperfd: int, below: list[int]) -> Iterator[Entry]:
        """All of them, the root first."""
        if not os.listdir(upperfd):
            return
        root = of_file(b"", os.fstat(upperfd))
        assert root is not None
        root.xattrs = walk.xattrs(f"/proc/self/fd/{upperfd}/.")
        yield self._kept(root)
        yield from self._inside(upperfd, b"", below)

    def _inside(self, fd: int, path: bytes, below: list[int]) -> Iterator[Entry]:
        """What is in the folder `path`; `below` are the folders that it is merged with, or would be without a mark."""
        walk.check_depth(path)
        if path and self._mark(fd, b".", path, "opaque") == b"y":
            if any(os.listdir(one) for one in below):
                yield self._whiteout(join(path, OPAQUE), os.fstat(fd))
            below = []
        names = self._sorted(fd)
        for name in names.removed:
            with ExitStack() as stack:
                if merged.look(stack, below, os.fsdecode(name)) is not None:
                    about = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    yield self._whiteout(join(path, WHITEOUT + name), about)
        for name in names.there:
            yield from self._member(fd, name, join(path, name), below)

    def _member(self, fd: int, name: bytes, path: bytes, below: list[int]) -> Iterator[Entry]:
        entry = walk.entry_at(fd, name, path, self._names)
        if entry is None:
            return
        for mark, what in _REFUSED.items():
            if entry.kind in (FILE, DIRECTORY) and self._mark(fd, name, path, mark) is not None:
                raise CtkError(self._doing, because=f"{os.fsdecode(path)!r} is {what}, which can't be read from here")
        yield self._kept(entry)
        if entry.kind != DIRECTORY:
            return
        with ExitStack() as stack:
            inner = os.open(name, _FOLDER, dir_fd=fd)
            stack.callback(os.close, inner)
            found = merged.look(stack, below, os.fsdecode(name))
            yield from self._inside(inner, path, found[1] if found and found[0] == stat.S_IFDIR else [])

    def _sorted(self, fd: int) -> _Names:
        names = _Names([], [])
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            white = is_whiteout(os.stat(name, dir_fd=fd, follow_symlinks=False))
            (names.removed if white else names.there).append(name)
        return names

    def _mark(self, fd: int, name: bytes, path: bytes, mark: str) -> bytes | None:
        """The value of one of overlayfs's attributes; None if the file does not have it."""
        try:
            return os.getxattr(b"/proc/self/fd/%d/%s" % (fd, name), f"{self._marks}{mark}", follow_symlinks=False)
        except OSError as error:
            if error.errno in walk.NO_XATTRS:
                return None
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None

    def _whiteout(self, path: bytes, about: os.stat_result) -> Entry:
        entry = Entry(path, FILE, 0)
        entry.mode = 0o600
        entry.mtime_ns = about.st_mtime_ns
        return clamped(entry, self._latest_s)

    def _kept(self, entry: Entry) -> Entry:
        return clamped(fit(entry, self._doing), self._latest_s)
