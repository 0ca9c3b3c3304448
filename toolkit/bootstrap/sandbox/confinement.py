"""Checks, before anything is fetched, that a build's namespaces can be made here. In a container they often can't."""

import os
import tempfile

from toolkit.bootstrap.sandbox.sandbox import Sandbox
from toolkit.errors import HostLacks
from toolkit.kernel import capabilities, mountinfo
from toolkit.kernel.host import read

_HINT = (
    "start the container with --privileged (or --cap-add SYS_ADMIN and /proc unmasked), or build outside of it; "
    "--foreign and --variant extract run nothing in the tree"
)


def check(where: str) -> None:
    """Raise HostLacks if a program of a tree below `where` can't be run isolated from the host.

    Costs nothing on a plain host. If /proc is masked or system calls are filtered, as container engines do, it makes
    the namespaces once to find out (about 50 ms).
    """
    doing = "build in namespaces of its own"
    effective, _, _ = capabilities.capget()
    if not effective & capabilities.mask(["CAP_SYS_ADMIN"]):
        raise HostLacks(doing, because="root here lacks CAP_SYS_ADMIN (is this a container?)", hint=_HINT)
    if not (_masked() or _held_back()):
        return
    with tempfile.TemporaryDirectory(prefix=".ctk-try-", dir=where) as folder:
        try:
            with Sandbox(folder, os.devnull, lambda _: None, lambda _: None):
                pass
        except HostLacks as error:
            raise HostLacks(doing, because=error.because, hint=_HINT) from None


def _masked() -> bool:
    """Whether something is mounted below /proc: a new proc mount is then refused in a user namespace."""
    points = (mount[3] for mount in mountinfo.mounts(mountinfo.read()))
    return any(one.startswith("/proc/") and one != "/proc/sys/fs/binfmt_misc" for one in points)


def _held_back() -> bool:
    """Whether a seccomp filter or a label (AppArmor, SELinux) may refuse a mount(2) that the capabilities allow."""
    lines = read("/proc/self/status").split("\n")
    label = read("/proc/self/attr/current").strip("\0\n")
    return "Seccomp:\t2" in lines or (bool(label) and "unconfined" not in label)
