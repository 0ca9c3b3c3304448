"""Stages the files of the base set, and moves them in, package by package, once the required packages are configured.

Maintainer scripts depend on what is in the tree: if systemd's programs are there already, trixie's apt enables its
timers by systemctl (other links) and libselinux1 makes /run/setrans. So the base set is unpacked into STAGING, at the
same time as the rest. Each package has a flat folder of its own there, where no file of another package can be in the
way. When dpkg would unpack it (base_set.py) it is moved into the tree by rename(2), 10 µs per file.
"""

import contextlib
import errno
import os
import stat

from toolkit.archive import entries
from toolkit.bootstrap.install.extract_package import Directory, PackageExtractor, Placed, Tree
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

STAGING = ".ctk-unpacked"
NOT_YET = b".dpkg-new"  # dpkg's suffix for a conffile until its package is configured

_OPEN_FOLDERS = 48
_DEVICES = (entries.CHARACTER, entries.BLOCK)


class StagingExtractor(PackageExtractor):
    """Extracts one package into its folder of the staging area, where its files have numbers for names."""

    def __init__(
        self,
        tree: Tree,
        folderfd: int,
        position: int,
        what: str,
        conffiles: frozenset[bytes],
        skips: Skips | None = None,
        *,
        sums: bool = False,
    ) -> None:
        super().__init__(tree, position, what, conffiles, skips, sums=sums)
        self._folderfd = folderfd
        self._numbers: dict[bytes, bytes] = {}

    def _claim(self, path: bytes, name: bytes) -> bool:
        return True

    def _owns(self, path: bytes) -> bool:
        return True

    def _spot(self, path: bytes) -> tuple[int, bytes]:
        return self._folderfd, self._numbers.setdefault(path, b"%d" % len(self._numbers))

    def _make_directory(self, path: bytes, made: Directory) -> None:
        pass

    def _in_dev(self, path: bytes) -> bool:
        return path.rpartition(b"/")[0] == b"dev"


class Staging:
    """Moves packages from the folder STAGING into the tree below `rootfd`."""

    def __init__(self, rootfd: int) -> None:
        self._rootfd = rootfd
        self._stagingfd = open_beneath(rootfd, STAGING, os.O_RDONLY | os.O_DIRECTORY)
        self._folders: dict[bytes, int] = {}

    def close(self) -> None:
        """Remove STAGING. Raises OSError."""
        self.forget()
        for position in os.listdir(self._stagingfd):
            self.drop(int(position))
        os.close(self._stagingfd)
        os.rmdir(STAGING, dir_fd=self._rootfd)

    def drop(self, position: int) -> None:
        """Remove the staging folder of the package at `position`, with what is left in it."""
        with contextlib.suppress(FileNotFoundError):
            folderfd = self._open_folder(position)
            try:
                for name in os.listdir(folderfd):
                    os.unlink(name, dir_fd=folderfd)
            finally:
                os.close(folderfd)
            os.rmdir(str(position), dir_fd=self._stagingfd)

    def in_the_way(self, placed: tuple[Placed, ...], conffiles: frozenset[bytes]) -> bool:
        """Whether something exists at the package's paths that dpkg would not simply replace by rename(2)."""
        fresh: set[bytes] = set()  # directories that don't exist in the tree yet
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
        """Move one package into the tree. Existing directories stay as they are. Raises OSError.

        `diverted` maps paths to where they are diverted. `conffiles` (as the package lists them) are named .dpkg-new.
        """
        folderfd = self._open_folder(position)
        try:
            for one in placed:
                if one.made is not None:
                    self._directory(one.path, one.made)
                    continue
                path = diverted.get(one.path, one.path) + (NOT_YET if one.name in conffiles else b"")
                above, _, name = path.rpartition(b"/")
                into = self._folder(above) if one.kind not in _DEVICES else self._dev(above)
                os.rename(one.spot, name, src_dir_fd=folderfd, dst_dir_fd=into)
        finally:
            os.close(folderfd)
        os.rmdir(str(position), dir_fd=self._stagingfd)

    def _open_folder(self, position: int) -> int:
        return os.open(
            str(position), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._stagingfd
        )

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
        # A daemon left by a script may have put a link there since; chmod(2) by name would follow it.
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        try:
            os.fchown(fd, made.uid, made.gid)
            os.fchmod(fd, made.mode)
            os.utime(fd, (made.mtime_s, made.mtime_s))
        finally:
            os.close(fd)

    def _look(self, path: bytes) -> int:
        """A descriptor of an existing folder of the tree. Raises OSError."""
        fd = self._folders.get(path)
        if fd is None:
            try:
                fd = open_beneath(self._rootfd, os.fsdecode(path), O_PATH | os.O_DIRECTORY)
            except SystemCall as error:
                raise OSError(error.errno, os.strerror(error.errno), os.fsdecode(path)) from None
            self._keep(path, fd)
        return fd

    def _folder(self, path: bytes) -> int:
        """A descriptor of a folder of the tree, made if it is missing."""
        fd = self._folders.get(path)
        if fd is None:
            fd = make_directories(self._rootfd, os.fsdecode(path))
            self._keep(path, fd)
        return fd

    def _dev(self, path: bytes) -> int:
        """The tree's own /dev. Raises OSError for any other folder: through a link that a script put there a node could
        be made elsewhere, and with it a disk of the host be opened."""
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
        """Close all folders, to look them up again: a script may have moved one, or replaced it by a link."""
        for fd in self._folders.values():
            os.close(fd)
        self._folders.clear()
