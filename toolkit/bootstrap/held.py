"""The base set's files, kept aside until the required packages are configured, and then moved in, package by package.

A maintainer script looks at what is there: with systemd's programs in the tree already, trixie's apt enables its timers
by systemctl (other links) and libselinux1 makes /run/setrans. So the base set is unpacked into HOLD, at the same time
as the rest, and comes into the tree by rename(2), 10 µs a file, when dpkg would have unpacked it: after its own
preinst, which may have diverted a path.
"""

import errno
import os
import stat

from toolkit.kernel.beneath import O_PATH, make_directories, open_beneath

HOLD = ".ctk-unpacked"

_OPEN_FOLDERS = 48


class Held:
    """Moves packages from HOLD into the tree below `rootfd`."""

    def __init__(self, rootfd: int) -> None:
        self._rootfd = rootfd
        self._holdfd = open_beneath(rootfd, HOLD, O_PATH | os.O_DIRECTORY)
        self._folders: dict[bytes, tuple[int, int]] = {}
        self._seen: set[bytes] = set()

    def close(self) -> None:
        """Remove HOLD, which must be empty but for folders. Raises OSError."""
        self._forget()
        for path in sorted(self._seen, reverse=True):
            above, _, name = path.rpartition(b"/")
            parent = open_beneath(self._holdfd, os.fsdecode(above), O_PATH | os.O_DIRECTORY)
            try:
                os.rmdir(name, dir_fd=parent)
            finally:
                os.close(parent)
        os.close(self._holdfd)
        os.rmdir(HOLD, dir_fd=self._rootfd)

    def release(self, paths: tuple[bytes, ...], diverted: dict[bytes, bytes]) -> None:
        """Move one package in: `paths` in the package's order, directories with a slash at their end.

        `diverted` says which paths of it go elsewhere. Directories that are there stay as they are. Raises OSError.
        """
        for path in paths:
            if path.endswith(b"/"):
                self._directory(path.rstrip(b"/"))
                continue
            above, _, name = path.rpartition(b"/")
            source, target = self._folder(above)
            new = diverted.get(path)
            if new is None:
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
                continue
            folder, _, new_name = new.rpartition(b"/")
            parent = make_directories(self._rootfd, os.fsdecode(folder))
            try:
                os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=parent)
            finally:
                os.close(parent)

    def _directory(self, path: bytes) -> None:
        if not path or path in self._seen:
            return
        above, _, name = path.rpartition(b"/")
        source, target = self._folder(above)
        self._note(path)
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
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
            os.fchown(fd, found.st_uid, found.st_gid)
            os.fchmod(fd, stat.S_IMODE(found.st_mode))
        finally:
            os.close(fd)

    def _note(self, path: bytes) -> None:
        """Remember a folder of HOLD and those above it, for `close`."""
        while path and path not in self._seen:
            self._seen.add(path)
            path = path.rpartition(b"/")[0]

    def _folder(self, path: bytes) -> tuple[int, int]:
        """Descriptors of a folder, in HOLD and in the tree."""
        pair = self._folders.get(path)
        if pair is None:
            if len(self._folders) >= _OPEN_FOLDERS:
                self._forget()
            self._note(path)
            source = open_beneath(self._holdfd, os.fsdecode(path), O_PATH | os.O_DIRECTORY)
            pair = self._folders[path] = (source, make_directories(self._rootfd, os.fsdecode(path)))
        return pair

    def _forget(self) -> None:
        for pair in self._folders.values():
            for fd in pair:
                os.close(fd)
        self._folders.clear()
