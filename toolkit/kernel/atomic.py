"""A file that a reader never sees half of: written under another name beside it, then renamed (rename(2)).

The other name is random and must be new: one left by a process that was killed is in nobody's way, and one that
somebody else made (a link to a file of ours, where others may write) is never opened.

`replace` and `create` are for what is whole in memory, `Writing` for what comes piece by piece.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class Writing:
    """A new file at `path` (below `dir_fd`) until `name` renames it; after the block it is gone if nobody did.

    `fd` is open for reading and writing. The place must be on the file system of the name. Raises OSError.
    """

    def __init__(self, path: str, *, mode: int = 0o600, dir_fd: "int | None" = None) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._dir_fd = dir_fd
        self.fd = os.open(path, flags, mode, dir_fd=dir_fd)
        self.path = path

    def __enter__(self) -> "Self":
        return self

    def name(self, path: str) -> None:
        """Give it its name, in place of what has it. Raises OSError."""
        os.rename(self.path, path, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        self.path = ""

    def close(self) -> None:
        """Close it: a disk that is full may say so only here. Raises OSError."""
        os.close(self.take())

    def take(self) -> int:
        """The descriptor, which is the caller's to close from now on."""
        fd, self.fd = self.fd, -1
        return fd

    def __exit__(self, *_: object) -> None:
        try:
            if self.fd >= 0:
                self.close()
        finally:
            if self.path:
                try:
                    os.unlink(self.path, dir_fd=self._dir_fd)
                except OSError:
                    pass  # what failed before is what is to be told


def replace(path: str, data: bytes, *, mode: int = 0o600, dir_fd: "int | None" = None) -> None:
    """Make the file `path` (below `dir_fd`) hold `data`; `mode` is its mode but for the umask.

    Raises OSError; then what was there is as it was, and nothing is left beside it.
    """
    with Writing(beside(path), mode=mode, dir_fd=dir_fd) as new:
        write(new.fd, data)
        new.close()
        new.name(path)


def create(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """The same for a file that is not there: link(2) fails if the name exists, whenever it came. Raises OSError."""
    with Writing(beside(path), mode=mode) as new:
        write(new.fd, data)
        new.close()
        os.link(new.path, path)


def beside(path: str) -> str:
    """A name for what will be `path`, in its folder. Short, whatever that is: a name may have 255 bytes already."""
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}.{os.urandom(8).hex()}.new"


def write(fd: int, data: bytes) -> None:
    """Write all of `data`: one write(2) may take less of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
