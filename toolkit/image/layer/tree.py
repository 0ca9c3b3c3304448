"""The folder that layers are laid out in: folders found and made, files removed, and what belongs to which layer.

A layer is a stranger's. Its folders are opened by the kernel, below the root and without any symbolic link on the way
(openat2). Where a link is on the way, which merged /usr makes common, each component is looked at and the link followed
with the root as `/`; from then on the path is the real one, so that each folder has one name here.
"""

import errno
import os
import stat

from toolkit.errors import CtkError, SystemCall
from toolkit.image.layer.names import BadName, Link, followed, join
from toolkit.kernel import beneath, rmtree_beneath

_NO_LINKS = beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_SYMLINKS | beneath.RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_PATH | os.O_DIRECTORY
_READ = os.O_RDONLY | os.O_DIRECTORY
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_MOST_OPEN = 64


def is_whiteout(about: os.stat_result) -> bool:
    """Whether it is what overlayfs takes for a whiteout: a character device 0:0."""
    return stat.S_ISCHR(about.st_mode) and about.st_rdev == 0


class Tree:
    """The folder `rootfd`, in which nobody else is at work. Paths are below it, b"" is the folder itself.

    `whiteouts`: character devices 0:0 in it are whiteouts. Each method raises OSError, SystemCall, BadName.
    """

    def __init__(self, rootfd: int, doing: str, *, whiteouts: bool, limit_folders: int) -> None:
        self.rootfd = rootfd
        self.doing = doing
        self.fresh = not os.listdir(rootfd)  # what is in it belongs to the layer that is being laid out
        self.implicit: dict[bytes, int] = {}  # folders that no layer has a member for, and when they were made
        self.opaque: list[bytes] = []  # folders that took the place of a whiteout
        self._whiteouts = whiteouts
        self._limit_folders = limit_folders
        self._ours: set[bytes] = set()  # unless fresh: the paths of this layer, and all above them
        self._open: dict[bytes, int] = {}  # folders by their real paths
        self._aliases: dict[bytes, bytes] = {}  # paths through links, to the real ones
        self._followed: set[bytes] = set()  # those links
        self._removals = 0
        self._removed: dict[bytes, int] = {}  # folders, and which removal it was

    def close(self) -> None:
        """Close the folders."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def next_layer(self) -> None:
        """What is there from now on belongs to the layers below."""
        self.fresh = self.fresh and not os.listdir(self.rootfd)
        self._ours.clear()

    # ---- whose a path is

    def is_ours(self, path: bytes) -> bool:
        """Whether what lies at `path` belongs to the layer that is being laid out."""
        return self.fresh or path in self._ours

    def take(self, path: bytes) -> None:
        """Note that `path`, and each folder above it, belongs to this layer now."""
        if not self.fresh:
            ours = self._ours
            while path and path not in ours:
                ours.add(path)
                path = path.rpartition(b"/")[0]

    # ---- folders

    def folder(self, above: bytes) -> tuple[int, bytes]:
        """The folder `above`, made if it is missing: a descriptor (O_PATH) that is good until the next call, and its
        real path."""
        real = self._aliases.get(above, above)
        fd = self._open.get(real)
        if fd is None:
            try:
                fd = self._opened(real)
            except SystemCall as error:
                if error.errno not in _NOT_THERE:
                    raise
                real = followed(above, self._step)
                fd = self._open.get(real) or self._opened(real)
                if real != above:
                    self._aliases[above] = real
        self.take(real)
        return fd, real

    def open_as_it_is(self, path: bytes, flags: int = _READ) -> int:
        """Open a folder without following or making anything; -1 if there is none. The caller closes it."""
        try:
            return beneath.openat2(self.rootfd, os.fsdecode(path) or ".", flags, 0, _NO_LINKS)
        except SystemCall as error:
            if error.errno not in _NOT_THERE:
                raise
            return -1

    def is_below_link(self, path: bytes) -> bool:
        """Whether there is a symbolic link on the way to `path`, or at its end."""
        try:
            os.close(beneath.openat2(self.rootfd, os.fsdecode(path) or ".", _FOLDER, 0, _NO_LINKS))
        except SystemCall as error:
            if error.errno not in _NOT_THERE:
                raise
            return error.errno == errno.ELOOP
        return False

    def _opened(self, real: bytes) -> int:
        fd = beneath.openat2(self.rootfd, os.fsdecode(real) or ".", _FOLDER, 0, _NO_LINKS)
        if len(self._open) >= _MOST_OPEN:
            for path in list(self._open)[: _MOST_OPEN // 2]:
                os.close(self._open.pop(path))
        self._open[real] = fd
        return fd

    def _step(self, real: bytes, word: bytes) -> Link | None:
        """The link `word` in the folder `real`; None for a folder, made if it is missing."""
        path = join(real, word)
        fd = self._open.get(real) or self._opened(real)
        try:
            about = os.stat(word, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(about.st_mode):
                return None
            if stat.S_ISLNK(about.st_mode):
                self._followed.add(path)
                return Link(os.readlink(word, dir_fd=fd), self.is_ours(path))
            if self._whiteouts and is_whiteout(about):
                self.opaque.append(path)
            elif self.is_ours(path):
                raise BadName(f"{os.fsdecode(path)!r}: the layer has members below it, and it is no folder")
            os.unlink(word, dir_fd=fd)
        self.check_count(len(self.implicit))
        os.mkdir(word, 0o755, dir_fd=fd)
        self.implicit[path] = self.now
        return None

    def check_count(self, folders: int) -> None:
        """Raise CtkError if one more than so many is too many."""
        if folders >= self._limit_folders:
            raise CtkError(self.doing, because=f"it has more than {self._limit_folders} folders")

    # ---- removal

    def remove(self, parent: int, name: bytes, path: bytes) -> bool:
        """Remove whatever `path` is, which is `name` in the folder `parent`; False if there is nothing."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        except IsADirectoryError:
            rmtree_beneath.remove(parent, os.fsdecode(name))
            self._forget(path)
        else:
            if path in self._followed:
                self._aliases.clear()
        return True

    def purge(self, path: bytes) -> None:
        """Remove what the layers below have in the folder `path`; what is this layer's stays."""
        if self.fresh:
            return
        folders = [path]
        while folders:
            here = folders.pop()
            fd = self.open_as_it_is(here)
            if fd < 0:  # this layer's, and no folder
                continue
            try:
                for name in os.listdir(fd):
                    inner = join(here, os.fsencode(name))
                    if inner in self._ours:
                        folders.append(inner)
                    else:
                        self.remove(fd, os.fsencode(name), inner)
            finally:
                os.close(fd)

    def _forget(self, path: bytes) -> None:
        below = path + b"/"
        self._removals += 1
        self._removed[path] = self._removals
        for known in [known for known in self._open if known == path or known.startswith(below)]:
            os.close(self._open.pop(known))
        self._aliases.clear()

    @property
    def now(self) -> int:
        """A moment, for `is_gone`."""
        return self._removals

    def is_gone(self, path: bytes, since: int) -> bool:
        """Whether the folder `path`, or one above it, has been removed since that moment."""
        if not self._removed:
            return False
        while path:
            if self._removed.get(path, 0) > since:
                return True
            path = path.rpartition(b"/")[0]
        return False
