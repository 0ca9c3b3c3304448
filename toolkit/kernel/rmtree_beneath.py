"""Remove all that is in a folder, whatever strangers made in it: modes that keep even the owner out, folders in folders
without end.

Every folder is opened by the kernel with the one above it as its limit (openat2: no symlinks, no other mount), so
neither a link in the tree nor a mount below it leads out.
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
    """Remove all that is in the folder `fd` save the names `but`; `last` goes when nothing else is left.

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
    """Remove the folder `name` of the folder `fd`, with all in it. Raises OSError, SystemCall."""
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
        # Each level holds a descriptor, and a container may nest folders without end: what is deep begins anew above.
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
    """A folder of the tree, whose owner may have kept even itself out (mode 0555 or less)."""
    here = beneath.openat2(fd, name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _STAY_HERE)
    try:
        if os.fstat(here).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{here}", 0o700)
        return os.open(f"/proc/self/fd/{here}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(here)
