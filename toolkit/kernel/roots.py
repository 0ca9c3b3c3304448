"""Our `/` and the root of our mount namespace: two things in a chroot (chroot(2)), where the second is somebody else's.

setns(2) into a mount namespace makes its root ours, whatever the members' own roots are. So a container that was made
in a chroot by pivot_root(2) alone, which moves the mount that is our `/`, is left by whoever enters it (quirk 40).
"""

import errno
import os

from toolkit.errors import SystemCall
from toolkit.kernel import mounts, namespaces


def is_own(path: str) -> bool:
    """Does `path` lead to our own `/`, by whatever name or link? Not by a bind mount of it. Raises OSError."""
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

    None if it was already: nothing has changed. Otherwise descriptors of our former `/` and working directory (-1 where
    we may not search it), for `come_back`. None, too, where we lack CAP_SYS_CHROOT: then nobody that we start can do
    this. Raises OSError, SystemCall.
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
    """Take the `/` and the working directory again that `leave_chroot` gave up. Raises OSError."""
    root, folder = former
    os.fchdir(root)
    os.chroot(".")
    if folder >= 0:
        os.fchdir(folder)
        os.close(folder)
    os.close(root)


def in_chroot() -> bool:
    """Is our `/` another than the root of our mount namespace? Asked by a child, so that nothing of ours changes.

    False where that can't be told, for lack of CAP_SYS_CHROOT. Raises OSError.
    """
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if leave_chroot() is None else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
