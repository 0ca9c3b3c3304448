"""Read untrusted files: regular files only, up to a limit, and without ever blocking.

A name can turn out to be a fifo that has no writer, /dev/zero, or a sparse file of a terabyte. Such files have hung
other programs or filled their memory (containers/storage CVE-2024-9676 and similar ones).
"""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20
_HANDED = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
_TYPE, _FILE, _FOLDER, _FIFO = 0o170000, 0o100000, 0o040000, 0o010000


def read(
    path: str,
    *,
    limit_bytes: int = MOST_BYTES,
    dir_fd: "int | None" = None,
    follow: bool = False,
    owners: "Sequence[int]" = (),
    handed: bool = False,
) -> bytes:
    """The contents of the regular file `path`, of at most `limit_bytes`.

    A symlink as its last component is followed only with `follow`. With `owners` it must belong to one of these uids.
    `handed`: the name may be that of a pipe passed to us (/dev/fd/N, a shell's `<(…)`), which is read to its end.
    Raises OSError with a `strerror` of our own: EISDIR, EINVAL (not a regular file), EFBIG, EPERM (owner), ELOOP.
    """
    fd = open_file(path, limit_bytes=limit_bytes, dir_fd=dir_fd, follow=follow, owners=owners, handed=handed)
    try:
        return whole(fd, path, limit_bytes)
    finally:
        os.close(fd)


def named(path: str, *, limit_bytes: int = MOST_BYTES) -> bytes:
    """The contents of a file named on the command line: symlinks are followed, pipes passed to us are read.

    Raises OSError.
    """
    return read(path, limit_bytes=limit_bytes, follow=True, handed=True)


def text(path: str, *, limit_bytes: int = MOST_BYTES, errors: str = "strict") -> str:
    """The same as text (UTF-8, with any line endings). Raises OSError (EILSEQ: not valid UTF-8)."""
    try:
        found = named(path, limit_bytes=limit_bytes).decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"byte {error.start} is not UTF-8", path) from None
    return found.replace("\r\n", "\n").replace("\r", "\n")


def open_file(
    path: str,
    *,
    limit_bytes: int = MOST_BYTES,
    dir_fd: "int | None" = None,
    follow: bool = True,
    owners: "Sequence[int]" = (),
    handed: bool = False,
) -> int:
    """A descriptor of a regular file, checked as by `read`. Raises OSError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    fd = os.open(path, flags, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        if owners and status.st_uid not in owners:
            raise OSError(errno.EPERM, f"it belongs to uid {status.st_uid}", path)
        if handed and status.st_mode & _TYPE == _FIFO and path.startswith(_HANDED):
            os.set_blocking(fd, True)
        else:
            check(fd, path, limit_bytes)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check(fd: int, path: str, limit_bytes: int = MOST_BYTES) -> None:
    """Raise OSError, with `path` as the name, unless `fd` is a regular file of at most `limit_bytes`.

    For files that were opened in another way, such as below a root: open with O_NONBLOCK, and read with `whole`.
    """
    status = os.fstat(fd)
    kind = status.st_mode & _TYPE
    if kind == _FOLDER:
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind != _FILE:
        raise OSError(errno.EINVAL, "not a regular file", path)
    if status.st_size > limit_bytes:
        raise too_large(path, limit_bytes)


def too_large(path: str, limit_bytes: int) -> OSError:
    """The error of a file that has more than `limit_bytes`."""
    return OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)}: the limit is {limit_bytes} bytes", path)


def whole(fd: int, path: str, limit_bytes: int = MOST_BYTES) -> bytes:
    """All that can be read from `fd`; errors name it `path`. Raises OSError: EFBIG if there are over `limit_bytes`."""
    parts = []
    left = limit_bytes
    while part := os.read(fd, 1 << 16):
        parts.append(part)
        left -= len(part)
        if left < 0:
            raise too_large(path, limit_bytes)
    return b"".join(parts)


def pieces(fd: int) -> "Iterator[bytes]":
    """What can be read from `fd`, from where it stands, in pieces of 1 MiB at most. Raises OSError."""
    while piece := os.read(fd, _PIECE_BYTES):
        yield piece
