"""A file that a reader never sees half of: written under another name beside it, then renamed (rename(2)).

The other name is random and must be new: one left by a process that was killed is in nobody's way, and one that
somebody else made (a link to a file of ours, where others may write) is never opened.
"""

import os


def replace(path: str, data: bytes, *, mode: int = 0o600, dir_fd: "int | None" = None) -> None:
    """Make the file `path` (below `dir_fd`) hold `data`; `mode` is its mode but for the umask.

    Raises OSError; then what was there is as it was, and nothing is left beside it.
    """
    temporary = _beside(path, data, mode, dir_fd)
    try:
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        os.unlink(temporary, dir_fd=dir_fd)
        raise


def create(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """The same for a file that is not there: link(2) fails if the name exists, whenever it came. Raises OSError."""
    temporary = _beside(path, data, mode, None)
    try:
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def _beside(path: str, data: bytes, mode: int, dir_fd: "int | None") -> str:
    """A new file in the folder of `path` that holds `data`; its name."""
    folder, slash, _ = path.rpartition("/")
    # Short, whatever the name: a name may have 255 bytes, and be that long already.
    temporary = f"{folder}{slash}.{os.urandom(8).hex()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, mode, dir_fd=dir_fd)
    try:
        try:
            write(fd, data)
        finally:
            os.close(fd)  # a disk that is full may say so only here
    except BaseException:
        os.unlink(temporary, dir_fd=dir_fd)
        raise
    return temporary


def write(fd: int, data: bytes) -> None:
    """Write all of `data`: one write(2) may take less of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
