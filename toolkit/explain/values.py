"""The values that a field allows if the standard has a fixed list, for "did you mean". Keys as in fields_process.py."""

from collections.abc import Iterable

from toolkit.oci import check_linux, check_process, check_seccomp
from toolkit.runtime import mount_options
from toolkit.runtime.identity import RLIMITS

_CAPABILITIES = tuple("CAP_" + name for name in check_process.CAPABILITIES)

VALUES: dict[str, tuple[str, ...]] = {
    "linux.namespaces[].type": check_linux.NAMESPACES,
    "linux.rootfsPropagation": tuple(sorted(check_linux.PROPAGATIONS)),
    "linux.devices[].type": ("c", "b", "u", "p"),
    "linux.resources.devices[].type": ("a", "b", "c"),
    "linux.personality.domain": ("LINUX", "LINUX32"),
    "linux.memoryPolicy.mode": check_linux.MEMORY_POLICIES,
    "linux.memoryPolicy.flags[]": check_linux.MEMORY_FLAGS,
    "linux.timeOffsets": ("monotonic", "boottime"),
    "linux.seccomp.defaultAction": check_seccomp.ACTIONS,
    "linux.seccomp.syscalls[].action": check_seccomp.ACTIONS,
    "linux.seccomp.syscalls[].args[].op": check_seccomp.OPERATORS,
    "linux.seccomp.architectures[]": tuple(sorted(check_seccomp.ARCHITECTURES)),
    "linux.seccomp.flags[]": check_seccomp.FLAGS,
    "process.rlimits[].type": tuple(RLIMITS),
    "process.scheduler.policy": check_process.POLICIES,
    "process.ioPriority.class": check_process.IO_CLASSES,
    **{
        f"process.capabilities.{kind}[]": _CAPABILITIES
        for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
    },
}

MOUNT_OPTIONS = (*mount_options.FLAGS, *mount_options.PROPAGATION, *mount_options.RECURSIVE, *mount_options.EXTENSIONS)

# What people write instead: names used by the kernel and other tools.
_OTHER_NAMES = {"net": "network", "mnt": "mount", "ns": "mount", "hostname": "uts", "users": "user"}


def nearest(word: str, known: Iterable[str], likeness: float = 0.65) -> str:
    """The known word that was probably meant, "" if none is as like as `likeness` (1: equal, 0: nothing in common)."""
    words = list(known)
    other = _OTHER_NAMES.get(word.lower(), "")
    if other in words:
        return other
    folded = {known.lower(): known for known in words}
    if word.lower() in folded:
        return folded[word.lower()]
    for prefix in ("cap_", "rlimit_", "scmp_act_", "scmp_cmp_", "scmp_arch_", "sched_", "ioprio_class_", "mpol_"):
        if prefix + word.lower() in folded:
            return folded[prefix + word.lower()]
    import difflib

    near = difflib.get_close_matches(word.lower(), folded, 1, likeness)
    return folded[near[0]] if near else ""


def system_calls() -> set[str]:
    """The names of all system calls of all machines that ctk has tables for."""
    from importlib import import_module

    found: set[str] = set()
    for machine in ("aarch64", "arm", "loongarch64", "riscv64", "x32", "x86", "x86_64"):
        found.update(import_module("toolkit.runtime.seccomp.calls." + machine).CALLS.split())
    return found
