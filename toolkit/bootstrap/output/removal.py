"""Remove a tree that ctk made, complete or not, even if its files belong to an ordinary user's subordinate ids.

Only a tree with our marker or our result file is removed. One with something mounted in it is refused before the first
file is removed.
"""

import errno
import fcntl
import os
from collections.abc import Callable

from toolkit.bootstrap.output import builds_in_progress
from toolkit.bootstrap.output.target import (
    MARKER,
    check_unmounted,
    forget,
    is_marked,
    open_marker,
    read_result,
    result_path,
)
from toolkit.children import rootless
from toolkit.errors import CtkError, InUse, NotFound, SystemCall, reason
from toolkit.events import Done, Emit
from toolkit.kernel import rmtree_beneath, subids
from toolkit.kernel.host import HostFacts
from toolkit.text import quote

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def ours(path: str, fd: int = -1) -> bool:
    """Whether the tree at `path` was made by ctk, complete or not; with `fd`, whether that opened folder is it."""
    return is_marked(path if fd < 0 else fd) or read_result(path, fd) is not None


def remove(path: str, emit: Emit) -> None:
    """Remove the tree at `path`, and its result file.

    Raises NotFound if ctk did not make
    the tree, InUse if it is being made or has something mounted in it, CtkError if files could not be removed.
    """
    whole = os.path.abspath(path)
    doing = f"remove the tree {path!r}"
    if os.path.islink(whole) or not os.path.isdir(whole):
        raise _no_folder(doing, path, whole)
    if os.path.realpath(whole) == "/":
        raise InUse(doing, because="it is this system's own root")
    if not ours(whole):
        raise _not_ours(doing)
    with_ids(remove_here, whole, emit)
    emit(Done(f"removed {path}", 0.0, {"target": whole}))


def with_ids(function: Callable[[str, Emit], None], path: str, emit: Emit) -> None:
    """Call it; for an ordinary user who has subordinate ids, with power over their files, too."""
    if os.geteuid() != 0 and len(subids.of_caller()[0]) > 1 and not HostFacts().user_namespaces:
        rootless.run(function, path, emit)
    else:
        function(path, emit)


def _not_ours(doing: str) -> CtkError:
    hint = "only trees that `ctk bootstrap` made are removed; remove others with rm"
    return NotFound(doing, because="ctk did not make it", hint=hint)


def _no_folder(doing: str, path: str, whole: str) -> CtkError:
    if os.path.islink(whole):
        return NotFound(doing, because="it is a symbolic link", hint="name the folder itself")
    if os.path.lexists(whole):
        files = [path, *([result_path(path)] if read_result(whole) is not None else [])]
        return NotFound(doing, because="it is a file", hint="remove a file with rm " + " ".join(map(quote, files)))
    return NotFound(doing, because="no such folder")


def remove_here(path: str, emit: Emit) -> None:  # noqa: ARG001 (rootless.run calls functions like this)
    """Remove the tree with the rights of this process. Raises InUse, CtkError."""
    doing = f"remove the tree {path!r}"
    check_unmounted(path)
    fd = os.open(path, _FLAGS | os.O_CLOEXEC)
    try:
        if not ours(path, fd):  # checked again on the opened folder: the path may lead elsewhere by now
            raise _not_ours(doing)
        marker = open_marker(fd, doing)
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # From here on the tree counts as half made: if we are killed, the next call continues.
            forget(path)
            rmtree_beneath.empty(fd, but=(MARKER, "lost+found"))
            os.unlink(MARKER, dir_fd=fd)
        finally:
            os.close(marker)
    except BlockingIOError:
        raise InUse(doing, because="another ctk is working in it", hint="wait for it, or stop it") from None
    except (OSError, SystemCall) as error:
        raise _failed(doing, error) from None
    finally:
        os.close(fd)
    builds_in_progress.forget(path)
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):  # a mount point stays, with its lost+found
            raise _failed(doing, error) from None


def _failed(doing: str, error: OSError | SystemCall) -> CtkError:
    number = getattr(error, "errno", 0)
    if number == errno.EXDEV:
        return InUse(doing, because="something is mounted in it", hint="grep the folder in /proc/self/mountinfo")
    because = str(error) if isinstance(error, SystemCall) else reason(error)
    hint = "run it as the user that made the tree, or with sudo" if number in (errno.EPERM, errno.EACCES) else ""
    return CtkError(doing, because=because, hint=hint)
