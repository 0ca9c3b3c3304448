"""A tree that several threads extract packages into: owners of paths, attributes of directories, safe opening.

The kernel opens every directory with the tree's root as its `/` (openat2, RESOLVE_IN_ROOT), so no link that a package
ships leads out of it.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Callable

from toolkit.bootstrap.install.extract_package import Directory
from toolkit.bootstrap.install.usrmerge import ALIASES
from toolkit.errors import SystemCall
from toolkit.kernel.beneath import O_PATH, open_beneath


class Tree:
    """The tree below the directory `rootfd`. Single dict operations are atomic; the rest holds the mutex.

    `choose` returns which of two positions gets a path that both ship, given the name under which each lists it.
    """

    def __init__(
        self, rootfd: int, umask: int, choose: Callable[[dict[int, bytes]], int] = max, *, merged_usr: bool
    ) -> None:
        self.rootfd = rootfd
        self.umask = umask
        self.aliases: set[bytes] = set()
        self.contested: dict[bytes, dict[int, bytes]] = {}  # path → position of each package that ships it → its name
        self._choose = choose
        self._merged = merged_usr
        self._owner: dict[bytes, tuple[int, bytes]] = {}
        self._directories: dict[bytes, Directory] = {}
        self._mutex = threading.Lock()
        self.unclaimable = self._mutex  # while it is held, no path changes its owner

    def place(self, name: bytes) -> bytes:
        """The path in the tree of a name in a package: below usr/ if /usr is merged and the name is an alias."""
        if self._merged:
            head = name.partition(b"/")[0]
            if head in ALIASES:
                self.aliases.add(head)
                return b"usr/" + name
        return name

    def claim(self, path: bytes, position: int, name: bytes) -> bool:
        """Whether this package may create `path`, which it lists as `name`; False if dpkg gives it to another one.

        If more than two ship it, one that has lost it once does not get it back.
        """
        first = self._owner.setdefault(path, (position, name))
        if first[0] == position:
            return True
        with self._mutex:
            holder, its_name = self._owner[path]
            claims = self.contested.setdefault(path, {holder: its_name})
            claims.setdefault(position, name)
            if self._choose({holder: its_name, position: name}) != position:
                return False
            self._owner[path] = (position, name)
            return True

    def owns(self, path: bytes, position: int) -> bool:
        """Whether the path (still) belongs to this package."""
        return self.owner(path) == position

    def owner(self, path: bytes) -> int | None:
        """The position of the package that owns the path."""
        found = self._owner.get(path)
        return found[0] if found else None

    def directory(self, path: bytes, made: Directory) -> None:
        """Record the final attributes of a directory. The first package in dpkg's order decides."""
        known = self._directories.setdefault(path, made)
        if known is not made and made.rank < known.rank:
            with self._mutex:
                if made.rank < self._directories[path].rank:
                    self._directories[path] = made

    def open_directory(self, path: bytes) -> int:
        """A descriptor of the directory, which is made with its parents if it is missing. Raises OSError."""
        try:
            return open_beneath(self.rootfd, os.fsdecode(path), O_PATH | os.O_DIRECTORY)
        except SystemCall as error:
            if error.errno != errno.ENOENT:
                raise OSError(error.errno, os.strerror(error.errno), os.fsdecode(path)) from None
        # Not by recursion: a package may nest folders as deep as PATH_MAX allows.
        words = path.split(b"/")
        current = os.dup(self.rootfd)
        try:
            for count, name in enumerate(words, 1):
                # Another thread may have made it. If it is a dangling link, opening it fails below.
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=current)
                above = os.fsdecode(b"/".join(words[:count]))
                try:
                    found = open_beneath(self.rootfd, above, O_PATH | os.O_DIRECTORY)
                except SystemCall as error:
                    raise OSError(error.errno, os.strerror(error.errno), above) from None
                os.close(current)
                current = found
            return os.dup(current)
        finally:
            os.close(current)

    def finish_directories(self) -> None:
        """Set the owners, modes and times of directories. Raises OSError, SystemCall."""
        for path, directory in sorted(self._directories.items(), reverse=True):
            fd = open_beneath(self.rootfd, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY)
            try:
                if directory.uid or directory.gid:
                    os.fchown(fd, directory.uid, directory.gid)
                if directory.mode != 0o755 & ~self.umask:
                    os.fchmod(fd, directory.mode)
                os.utime(fd, (directory.mtime_s, directory.mtime_s))
            finally:
                os.close(fd)


def umask() -> int:
    """The process's umask, read from /proc: umask(2) can only read it by setting it, for all threads."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o777  # before Linux 4.7; every mode is then set explicitly
