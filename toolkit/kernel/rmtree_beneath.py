"""Remove the contents of an untrusted folder, even with modes that keep the owner out and with any depth of nesting.

Each folder is opened beneath the one above it (openat2: no symlinks, no other mount), so neither a link in the tree nor
a mount below it leads out.
"""

import os

from toolkit.kernel import beneath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

_DEEP = 100
_STAY_HERE = (
    beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_SYMLINKS | beneath.RESOLVE_NO_MAGICLINKS | beneath.RESOLVE_NO_XDEV
)


def empty(fd: int, *, but: "Collection[str]" = (), last: str = "") -> None:
    """Remove everything in the folder `fd` except the names `but`; `last` is removed after everything else.

    Raises OSError, SystemCall (EXDEV: something is mounted there).
    """
    while True:
        with os.scandir(fd) as entries:
            found = [(one.name, one.is_dir(follow_symlinks=False)) for one in entries if one.name not in but]
        if not found:
            return
        for name, is_folder in found:
            if name != last or len(found) == 1:
                _remove(fd, name, is_folder, fd, 0)


def remove(fd: int, name: str) -> None:
    """Remove the folder `name` in the folder `fd` with its contents. Raises OSError, SystemCall."""
    inside = _open(fd, name)
    try:
        empty(inside)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=fd)


def _remove(fd: int, name: str, is_folder: bool, top: int, depth: int) -> None:
    if not is_folder:
        os.unlink(name, dir_fd=fd)
        return
    if depth > _DEEP:
        # Each level holds a descriptor, and a container can nest folders without limit: move a deep one to the top.
        os.rename(name, f".ctk-deep-{os.urandom(8).hex()}", src_dir_fd=fd, dst_dir_fd=top)
        return
    inside = _open(fd, name)
    try:
        with os.scandir(inside) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for inner, is_inner_folder in found:
            _remove(inside, inner, is_inner_folder, top, depth + 1)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=fd)


def _open(fd: int, name: str) -> int:
    """Open a folder of the tree, even if its mode keeps its owner out (0555 or less)."""
    here = beneath.openat2(fd, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _STAY_HERE)
    try:
        if os.fstat(here).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{here}", 0o700)
        return os.open(f"/proc/self/fd/{here}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(here)
