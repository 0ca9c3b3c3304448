"""unshare(2), setns(2) and the namespaces that the OCI runtime spec names (config-linux.md, "Namespaces")."""

import errno
import os

from toolkit.errors import SystemCall
from toolkit.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# The spec's name: (clone flag, name in /proc/PID/ns). In the order in which they are joined: the user namespace first,
# because the others may belong to it; the mount namespace last, because the paths of the others are looked up before.
NAMESPACES = {
    "user": (CLONE_NEWUSER, "user"),
    "pid": (CLONE_NEWPID, "pid"),
    "network": (CLONE_NEWNET, "net"),
    "ipc": (CLONE_NEWIPC, "ipc"),
    "uts": (CLONE_NEWUTS, "uts"),
    "time": (CLONE_NEWTIME, "time"),
    "cgroup": (CLONE_NEWCGROUP, "cgroup"),
    "mount": (CLONE_NEWNS, "mnt"),
}

_FLAG_NAMES = {"CLONE_NEW" + ("NS" if k == "mnt" else k.upper()): flag for flag, k in NAMESPACES.values()}


def flag_names(flags: int) -> str:
    """CLONE_NEW* flags as strace prints them."""
    return libc.flag_names(flags, _FLAG_NAMES)


def unshare(flags: int) -> None:
    """unshare(2). Raises SystemCall."""
    try:
        libc.syscall(libc.number("unshare"), flags)
    except OSError as error:
        refused(f"unshare({flag_names(flags)})", flags, error)


def refused(call: str, flags: int, error: OSError) -> "NoReturn":
    """Raise `refusal`."""
    raise refusal(call, flags, error.errno or 0) from None


def refusal(call: str, flags: int, number: int) -> SystemCall:
    """The error for namespaces that could not be created; strerror(3) misleads here (user_namespaces(7))."""
    reason, hint = os.strerror(number).lower(), ""
    user = flags & CLONE_NEWUSER
    what = "user namespaces" if user else "namespaces"
    if number in (errno.ENOSPC, errno.EUSERS):
        reason += f" (the host allows no more {what})"
        limit = "/proc/sys/user/max_user_namespaces" if user else "the limits in /proc/sys/user"
        hint = f"run as root, or raise {limit}; they nest 32 deep at most" if user else f"raise {limit}"
    elif number == errno.EPERM and user:
        reason += " (the host does not let this user create user namespaces)"
        hint = "run as root, or allow them: sysctl kernel.unprivileged_userns_clone=1 on Debian, "
        hint += "kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu; "
        hint += "in a container its seccomp profile may forbid it, and a chroot always does (user_namespaces(7))"
    elif number == errno.EPERM and flags & ~CLONE_NEWUSER & sum(_FLAG_NAMES.values()):
        if os.geteuid():
            reason += " (only root can create namespaces without a user namespace)"
            hint = "run as root, or make the config with `ctk spec --rootless`"
        else:
            reason += " (root here lacks CAP_SYS_ADMIN: is this a container?)"
            hint = "start the container with --privileged or --cap-add SYS_ADMIN, or run this outside of it"
    return SystemCall(call, number, reason, hint=hint)


def setns(fd: int, flags: int) -> None:
    """setns(2) by a namespace fd (flags: its type or 0) or, since Linux 5.8, by a pidfd (flags: which namespaces).

    Raises SystemCall.
    """
    try:
        libc.syscall(libc.number("setns"), fd, flags)
    except OSError as error:
        libc.failed(f"setns({fd}, {flag_names(flags)})", error)


def open_namespace(pid: "int | str", kind: str) -> int:
    """An fd of the namespace `kind` (the spec's name) of a process. Raises OSError."""
    return os.open(f"/proc/{pid}/ns/{NAMESPACES[kind][1]}", os.O_RDONLY | os.O_CLOEXEC)


def returns_to_own_pid_namespace() -> bool:
    """Whether setns(2) into our own pid namespace is allowed, so that we could come back from another one.

    Root of a user namespace that does not own our pid namespace can leave it but not come back: rootless podman's
    runtime is in this situation.
    """
    fd = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, CLONE_NEWPID)
    except SystemCall:
        return False
    finally:
        os.close(fd)
    return True
