"""Write files atomically: under another name in the same folder, then renamed (rename(2)).

The temporary name is random and must be new: one left by a killed process does no harm, and one that somebody else
made (a link to a file of ours, in a folder where others can write) is never opened.

`replace` and `create` are for data that is whole in memory, `Writing` for data that comes piece by piece.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_WRITING_S = 60


class Writing:
    """A temporary file at `path` (below `dir_fd`). `name` renames it; if it was not called, the block's end removes it.

    `fd` is open for reading and writing. `path` must be on the same file system as the final name. Raises OSError.
    """

    def __init__(self, path: str, *, mode: int = 0o600, dir_fd: "int | None" = None) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._dir_fd = dir_fd
        self.fd = os.open(path, flags, mode, dir_fd=dir_fd)
        self.path = path

    def __enter__(self) -> "Self":
        return self

    def name(self, path: str, *, dir_fd: "int | None" = None) -> None:
        """Give it its final name, replacing a file of that name. Raises OSError.

        `path` is below `dir_fd`; without that, below the folder that the temporary file was made in.
        """
        os.rename(self.path, path, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd if dir_fd is None else dir_fd)
        self.path = ""

    def close(self) -> None:
        """Close it: a full disk may be reported only here. Raises OSError."""
        os.close(self.take())

    def take(self) -> int:
        """The descriptor; from now on the caller has to close it."""
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
                    pass  # the earlier error is the one to report


def replace(path: str, data: bytes, *, mode: int = 0o600, dir_fd: "int | None" = None) -> None:
    """Make the file `path` (below `dir_fd`) hold `data`; `mode` is its mode, less the umask.

    Raises OSError; then an existing file is unchanged, and no temporary file is left.
    """
    with Writing(beside(path), mode=mode, dir_fd=dir_fd) as new:
        write(new.fd, data)
        new.close()
        new.name(path)


def create(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """The same for a new file: link(2) fails if the name exists, even if it came a moment ago. Raises OSError."""
    with Writing(beside(path), mode=mode) as new:
        write(new.fd, data)
        new.close()
        os.link(new.path, path)


def beside(path: str) -> str:
    """A temporary name in the folder of `path`. It is always short: the name itself may have 255 bytes already."""
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}.{os.urandom(8).hex()}.new"


def abandoned(path: str) -> bool:
    """Whether it is a temporary file of `beside` whose writer was killed: nobody has written to it for a minute."""
    name = path.rpartition("/")[2]
    try:
        return name.startswith(".") and name.endswith(".new") and time.time() - os.lstat(path).st_mtime > _WRITING_S
    except OSError:
        return False


def write(fd: int, data: bytes) -> None:
    """Write all of `data`: a single write(2) may write less. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
