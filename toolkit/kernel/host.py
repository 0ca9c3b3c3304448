"""Facts about this host: each is read once, when it is first needed, from the file or call that proves it.

`HostFacts` is lazy because the hot path needs two or three of the facts and `doctor` all of them.
"""

import os

from toolkit.kernel import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read(path: str, limit: int = 65536) -> str:
    """The text of a small file of /proc or /sys; "" if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    data = b""
    try:
        # The kernel returns such a file in parts of less than a page, however large the buffer (fs/seq_file.c).
        while len(data) < limit and (part := os.read(fd, limit)):
            data += part
        return data.decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


class HostFacts:
    """Facts about the running host; each attribute is worked out at its first use."""

    kernel: "tuple[int, int]"
    cgroup_layout: str
    user_namespaces: str
    lsms: "tuple[str, ...]"
    apparmor: bool
    selinux: bool
    wsl: bool
    in_user_namespace: bool

    def __getattr__(self, name: str) -> "Any":
        maker = _FACTS.get(name)
        if maker is None:
            raise AttributeError(name)
        value = maker()
        setattr(self, name, value)
        return value


def _kernel() -> "tuple[int, int]":
    words = os.uname().release.split(".")
    digits = "".join(c if c.isdigit() else " " for c in words[1]).split()
    return int(words[0]), int(digits[0])


def _cgroup_layout() -> str:
    """'v2', 'hybrid' (v1 controllers beside a v2 hierarchy), 'v1' or 'none' (cgroups(7))."""
    kinds = set()
    for mount in mountinfo.mounts(mountinfo.read()):
        if "/sys/fs/cgroup" in mount[3]:
            kinds.add(mount[5])
    if "cgroup" in kinds:
        return "hybrid" if "cgroup2" in kinds else "v1"
    return "v2" if "cgroup2" in kinds else "none"


def _user_namespaces() -> str:
    """'' if an unprivileged user may create a user namespace, else what forbids it."""
    if not os.path.exists("/proc/self/ns/user"):
        return "the kernel is built without CONFIG_USER_NS"
    if read("/proc/sys/user/max_user_namespaces").strip() == "0":
        return "sysctl user.max_user_namespaces is 0"
    if read("/proc/sys/kernel/unprivileged_userns_clone").strip() == "0":
        return "sysctl kernel.unprivileged_userns_clone is 0"
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
        return "sysctl kernel.apparmor_restrict_unprivileged_userns is 1"
    return ""


def _lsms() -> "tuple[str, ...]":
    return tuple(word for word in read("/sys/kernel/security/lsm").strip().split(",") if word)


def _in_user_namespace() -> bool:
    return read("/proc/self/uid_map").split() != ["0", "0", "4294967295"]


_FACTS = {
    "kernel": _kernel,
    "cgroup_layout": _cgroup_layout,
    "user_namespaces": _user_namespaces,
    "lsms": _lsms,
    "apparmor": lambda: read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
    "selinux": lambda: os.path.exists("/sys/fs/selinux/enforce"),
    "wsl": lambda: "microsoft" in os.uname().release.lower(),
    "in_user_namespace": _in_user_namespace,
}
