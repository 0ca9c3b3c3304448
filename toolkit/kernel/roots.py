"""Our `/` and the root of our mount namespace, which differ in a chroot (chroot(2)).

setns(2) into a mount namespace makes that namespace's root ours, whatever the roots of its members are. pivot_root(2)
in a chroot moves only the mount that is our `/`. So whoever enters a container that was made by this alone ends up
outside of it (quirk 42).
"""

import errno
import os

from toolkit.errors import SystemCall
from toolkit.kernel import mounts, namespaces


def is_own(path: str) -> bool:
    """Whether `path` leads to our own `/`, by any name or link but not by a bind mount of it. Raises OSError."""
    places = []
    for each in ("/", path):
        fd = os.open(each, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            places.append(mounts.place_of(fd))
        finally:
            os.close(fd)
    return places[0] == places[1]


def leave_chroot() -> "tuple[int, int] | None":
    """Make the root of our mount namespace our `/`.

    Returns descriptors of our former `/` and working directory (-1 if we may not search it) for `come_back`. Returns
    None if nothing was changed: because it is our `/` already, or because we lack CAP_SYS_CHROOT, and then nothing that
    we start can do this either. Raises OSError, SystemCall.
    """
    namespace = namespaces.open_namespace("self", "mount")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        folder = -1
    same = True
    try:
        namespaces.setns(namespace, namespaces.CLONE_NEWNS)
        now = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        same = mounts.place_of(now) == mounts.place_of(root)
        os.close(now)
        if same and folder >= 0:
            os.fchdir(folder)
    except SystemCall as error:
        if error.errno != errno.EPERM:
            raise
    finally:
        os.close(namespace)
        if same:
            os.close(root)
            if folder >= 0:
                os.close(folder)
    return None if same else (root, folder)


def come_back(former: "tuple[int, int]") -> None:
    """Go back to the `/` and the working directory that `leave_chroot` left. Raises OSError."""
    root, folder = former
    os.fchdir(root)
    os.chroot(".")
    if folder >= 0:
        os.fchdir(folder)
        os.close(folder)
    os.close(root)


def in_chroot() -> bool:
    """Whether our `/` differs from the root of our mount namespace. A child finds out, so nothing of ours changes.

    False where we can't know, for lack of CAP_SYS_CHROOT. Raises OSError.
    """
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if leave_chroot() is None else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
