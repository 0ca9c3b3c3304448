"""The spec that `spec` writes without options: the distribution's `runc spec`, value for value and key for key.

tests/unit/test_defaults.py compares the two. The version is the oldest one that has all of these fields, so that older
runtimes and engines accept the file too.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OCI_VERSION = "1.0.2-dev"
_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_MOUNTS = (
    ("/proc", "proc", "proc", ""),
    ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
)
_MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
)  # fmt: skip
_READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def default_spec(rootless: bool = False, *, uid: int = -1, gid: int = -1) -> "dict[str, Any]":
    """A fresh config.json document, which the caller may change.

    `rootless`: one that needs no privileges, with a user namespace that maps `uid` and `gid` (-1: ours) to 0, the
    host's network and /sys, and no limits.
    """
    mounts = [_mount(*row) for row in _MOUNTS]
    namespaces = ["pid", "network", "ipc", "uts", "mount"]
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        namespaces.append(
            "cgroup"
        )  # on pure cgroup v2 only, as in runc: there the namespace costs nothing and hides the host's cgroups
    linux: dict[str, Any] = {}
    if rootless:
        namespaces = [name for name in namespaces if name != "network"] + ["user"]
        # gid 5 has no mapping there, and only the owner of the network namespace can mount sysfs.
        mounts[2]["options"].remove("gid=5")
        mounts[5] = _mount("/sys", "none", "/sys", "rbind,nosuid,noexec,nodev,ro")
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid() if uid < 0 else uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid() if gid < 0 else gid, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    linux["namespaces"] = [{"type": name} for name in namespaces]
    linux["maskedPaths"] = list(_MASKED)
    linux["readonlyPaths"] = list(_READONLY)
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {kind: list(_CAPABILITIES) for kind in ("bounding", "effective", "permitted", "ambient")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": mounts,
        "linux": linux,
    }


def _mount(destination: str, kind: str, source: str, options: str) -> "dict[str, Any]":
    mount: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    if options:
        mount["options"] = options.split(",")
    return mount
