"""Remove a tree that ctk made: whole or half made, also one whose files belong to an ordinary user's subordinate ids.

Only what carries our marker or our result file is removed. Every folder is opened by the kernel with the one above it
as its limit (openat2: no symlinks, no other mount), so neither a link in the tree nor a mount below it leads out; a
tree with something mounted in it is refused before the first file goes.
"""

import errno
import fcntl
import os

from toolkit.bootstrap import journal, rootless
from toolkit.bootstrap.target import MARKER, check_unmounted, forget, read_result
from toolkit.errors import CtkError, InUse, NotFound, SystemCall
from toolkit.events import Done, Emit
from toolkit.kernel import beneath, subids
from toolkit.kernel.host import HostFacts

_DEEP = 100
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_STAY_HERE = (
    beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_SYMLINKS | beneath.RESOLVE_NO_MAGICLINKS | beneath.RESOLVE_NO_XDEV
)


def ours(path: str) -> bool:
    """Whether a tree that ctk made, whole or half, stands at `path`."""
    return os.path.lexists(os.path.join(path, MARKER)) or read_result(path) is not None


def remove(path: str, emit: Emit) -> None:
    """Remove the tree at `path`, and what is noted about it beside it.

    An ordinary user with subordinate ids becomes root of a user namespace for it. Raises NotFound for what is no tree
    of ours, InUse for one that is being made or that has something mounted in it, CtkError when files stay.
    """
    whole = os.path.abspath(path)
    doing = f"remove the tree {path!r}"
    if os.path.islink(whole) or not os.path.isdir(whole):
        because = "it is a symbolic link" if os.path.islink(whole) else "no such folder"
        raise NotFound(doing, because=because, hint="name the folder itself")
    if os.path.realpath(whole) == "/":
        raise InUse(doing, because="it is this system's own root")
    if not ours(whole):
        hint = "only trees that `ctk bootstrap` made are removed; others are yours to remove with rm"
        raise NotFound(doing, because="ctk did not make it", hint=hint)
    if os.geteuid() != 0 and len(subids.of_caller()[0]) > 1 and not HostFacts().user_namespaces:
        rootless.run(remove_here, whole, emit)
    else:
        remove_here(whole, emit)
    emit(Done(f"removed {path}", 0.0, {"target": whole}))


def remove_here(path: str, emit: Emit) -> None:  # noqa: ARG001 (rootless.run calls functions like this)
    """Remove the tree with the rights that this process has. Raises InUse, CtkError."""
    doing = f"remove the tree {path!r}"
    check_unmounted(path)
    fd = os.open(path, _FLAGS | os.O_CLOEXEC)
    try:
        marker = os.open(
            MARKER, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=fd
        )
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # From here on the tree is known as half made: killed on the way, the next call goes on.
            forget(path)
            _empty(fd, keep=MARKER)
            os.unlink(MARKER, dir_fd=fd)
        finally:
            os.close(marker)
    except BlockingIOError:
        raise InUse(doing, because="another ctk is at work in it", hint="wait for it, or stop it") from None
    except (OSError, SystemCall) as error:
        raise _failed(doing, error) from None
    finally:
        os.close(fd)
    journal.forget(path)
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):  # a file system of its own stays, with its lost+found
            raise _failed(doing, error) from None


def _failed(doing: str, error: Exception) -> CtkError:
    number = getattr(error, "errno", 0)
    if number == errno.EXDEV:
        return InUse(doing, because="something is mounted in it", hint="grep the folder in /proc/self/mountinfo")
    because = str(error) if isinstance(error, SystemCall) else (getattr(error, "strerror", "") or str(error)).lower()
    hint = "run it as who made the tree, or with sudo" if number in (errno.EPERM, errno.EACCES) else ""
    return CtkError(doing, because=because, hint=hint)


def _empty(fd: int, keep: str) -> None:
    """Remove all that is in the tree's own folder but `keep`, and a file system's lost+found."""
    while True:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        found = [one for one in found if one[0] not in (keep, "lost+found")]
        if not found:
            return
        for name, is_folder in found:
            _remove(fd, name, is_folder, fd, 0)


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
