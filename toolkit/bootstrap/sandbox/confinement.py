"""Whether a build's namespaces can be made here, asked before anything is fetched: in a container they often can't."""

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
    """Raise HostLacks if no program of a tree below `where` could be run apart from the host.

    Costs nothing on a host; where /proc is masked, or calls are filtered, as container engines do it, it is tried once
    (some 50 ms).
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
    """Whether something is mounted below /proc: then only who may see all of it may mount it anew."""
    points = (mount[3] for mount in mountinfo.mounts(mountinfo.read()))
    return any(one.startswith("/proc/") and one != "/proc/sys/fs/binfmt_misc" for one in points)


def _held_back() -> bool:
    """Whether a filter (seccomp(2)) or a label (AppArmor, SELinux) may refuse a mount(2) that capabilities allow."""
    lines = read("/proc/self/status").split("\n")
    label = read("/proc/self/attr/current").strip("\0\n")
    return "Seccomp:\t2" in lines or (bool(label) and "unconfined" not in label)
