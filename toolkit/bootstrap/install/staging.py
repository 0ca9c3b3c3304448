"""The base set's files, kept aside until the required packages are configured, and then moved in, package by package.

A maintainer script looks at what is there: with systemd's programs in the tree already, trixie's apt enables its timers
by systemctl (other links) and libselinux1 makes /run/setrans. So the base set is unpacked into HOLD, at the same time
as the rest, each package onto a shelf of its own (a flat folder: what other packages ship has no say in it), and comes
into the tree by rename(2), 10 µs a file, when dpkg would have unpacked it (base_set.py).
"""

import contextlib
import errno
import os
import stat

from toolkit.archive import entries
from toolkit.bootstrap.install.extract_package import Directory, Layout, Placed, Tree
from toolkit.bootstrap.install.path_filter import Skips
from toolkit.errors import SystemCall
from toolkit.kernel.beneath import (
    O_PATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    make_directories,
    open_beneath,
    openat2,
)

HOLD = ".ctk-unpacked"
NOT_YET = b".dpkg-new"  # how dpkg names a conffile until its package is configured

_OPEN_FOLDERS = 48
_DEVICES = (entries.CHARACTER, entries.BLOCK)


class Shelf(Layout):
    """One package on its way onto its shelf: the directory `shelf`, in which its files are numbers."""

    def __init__(
        self,
        tree: Tree,
        shelf: int,
        position: int,
        what: str,
        conffiles: frozenset[bytes],
        skips: Skips | None = None,
        *,
        sums: bool = False,
    ) -> None:
        super().__init__(tree, position, what, conffiles, skips, sums=sums)
        self._shelf = shelf
        self._numbers: dict[bytes, bytes] = {}

    def _claim(self, path: bytes, name: bytes) -> bool:
        return True

    def _owns(self, path: bytes) -> bool:
        return True

    def _spot(self, path: bytes) -> tuple[int, bytes]:
        return self._shelf, self._numbers.setdefault(path, b"%d" % len(self._numbers))

    def _make_directory(self, path: bytes, made: Directory) -> None:
        pass

    def _in_dev(self, path: bytes) -> bool:
        return path.rpartition(b"/")[0] == b"dev"


class Held:
    """Moves packages from HOLD into the tree below `rootfd`."""

    def __init__(self, rootfd: int) -> None:
        self._rootfd = rootfd
        self._holdfd = open_beneath(rootfd, HOLD, os.O_RDONLY | os.O_DIRECTORY)
        self._folders: dict[bytes, int] = {}

    def close(self) -> None:
        """Remove HOLD. Raises OSError."""
        self.forget()
        for shelf in os.listdir(self._holdfd):
            self.drop(int(shelf))
        os.close(self._holdfd)
        os.rmdir(HOLD, dir_fd=self._rootfd)

    def drop(self, position: int) -> None:
        """Remove the shelf of the package at `position`, with what is left on it."""
        with contextlib.suppress(FileNotFoundError):
            shelf = self._shelf(position)
            try:
                for name in os.listdir(shelf):
                    os.unlink(name, dir_fd=shelf)
            finally:
                os.close(shelf)
            os.rmdir(str(position), dir_fd=self._holdfd)

    def in_the_way(self, placed: tuple[Placed, ...], conffiles: frozenset[bytes]) -> bool:
        """Whether something stands where the package's files go that dpkg would not simply rename(2) them over."""
        fresh: set[bytes] = set()  # directories that aren't there, with all below them
        for one in placed:
            above, _, last = one.path.rpartition(b"/")
            if not one.path:
                continue
            if above not in fresh:
                try:
                    found = os.stat(last, dir_fd=self._look(above), follow_symlinks=False).st_mode
                except OSError as error:
                    if error.errno != errno.ENOENT:
                        return True
                else:
                    followed = one.kind == entries.SYMLINK or one.name in conffiles
                    if stat.S_ISDIR(found) != (one.kind == entries.DIRECTORY) or (followed and stat.S_ISLNK(found)):
                        return True
                    continue
            if one.kind == entries.DIRECTORY:
                fresh.add(one.path)
        return False

    def release(
        self, position: int, placed: tuple[Placed, ...], diverted: dict[bytes, bytes], conffiles: frozenset[bytes]
    ) -> None:
        """Move one package in, directories that are there stay as they are. Raises OSError.

        `diverted` says which paths of it go elsewhere; `conffiles` (as the package lists them) wait as .dpkg-new.
        """
        shelf = self._shelf(position)
        try:
            for one in placed:
                if one.made is not None:
                    self._directory(one.path, one.made)
                    continue
                path = diverted.get(one.path, one.path) + (NOT_YET if one.name in conffiles else b"")
                above, _, name = path.rpartition(b"/")
                into = self._folder(above) if one.kind not in _DEVICES else self._dev(above)
                os.rename(one.spot, name, src_dir_fd=shelf, dst_dir_fd=into)
        finally:
            os.close(shelf)
        os.rmdir(str(position), dir_fd=self._holdfd)

    def _shelf(self, position: int) -> int:
        return os.open(str(position), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._holdfd)

    def _directory(self, path: bytes, made: Directory) -> None:
        if not path:
            return
        above, _, name = path.rpartition(b"/")
        target = self._folder(above)
        try:
            os.mkdir(name, 0o755, dir_fd=target)
        except FileExistsError:
            there = os.stat(name, dir_fd=target, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode) and not stat.S_ISLNK(there.st_mode):
                raise FileExistsError(
                    errno.EEXIST, "a file is in the place of this directory", os.fsdecode(path)
                ) from None
            return
        # A daemon that a script has left may have put a link there since: chmod(2) by its name would follow it.
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        try:
            os.fchown(fd, made.uid, made.gid)
            os.fchmod(fd, made.mode)
            os.utime(fd, (made.mtime_s, made.mtime_s))
        finally:
            os.close(fd)

    def _look(self, path: bytes) -> int:
        """A descriptor of a folder of the tree, which must be there. Raises OSError."""
        fd = self._folders.get(path)
        if fd is None:
            try:
                fd = open_beneath(self._rootfd, os.fsdecode(path), O_PATH | os.O_DIRECTORY)
            except SystemCall as error:
                raise OSError(error.errno, os.strerror(error.errno), os.fsdecode(path)) from None
            self._keep(path, fd)
        return fd

    def _folder(self, path: bytes) -> int:
        """A descriptor of a folder of the tree, made if it isn't there."""
        fd = self._folders.get(path)
        if fd is None:
            fd = make_directories(self._rootfd, os.fsdecode(path))
            self._keep(path, fd)
        return fd

    def _dev(self, path: bytes) -> int:
        """The tree's own /dev, and no other folder: a script that has put a link there would open the host's disk."""
        folder = self._folder(path)
        try:
            dev = openat2(self._rootfd, "dev", O_PATH | os.O_DIRECTORY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
        except SystemCall as error:
            raise OSError(error.errno, os.strerror(error.errno), "/dev") from None
        try:
            if path != b"dev" or not os.path.sameopenfile(dev, folder):
                raise OSError(errno.EPERM, "a device outside of /dev", os.fsdecode(path))
        finally:
            os.close(dev)
        return folder

    def _keep(self, path: bytes, fd: int) -> None:
        if len(self._folders) >= _OPEN_FOLDERS:
            self.forget()
        self._folders[path] = fd

    def forget(self) -> None:
        """Look anew where each folder is: a script may have moved one, or put a link in its place."""
        for fd in self._folders.values():
            os.close(fd)
        self._folders.clear()
