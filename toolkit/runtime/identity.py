"""Credentials, limits and scheduling of the container's process: `process` of config.json as the kernel's numbers."""

import os

from toolkit.errors import LaunchFailed, SystemCall, reason
from toolkit.kernel import capabilities, libc, reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Linux, MemoryPolicy, Process, Rlimit, Scheduler

_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")

# sched_setattr(2), ioprio_set(2): the spec's names are the kernel's.
_POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}  # fmt: skip
_SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4, "SCHED_FLAG_KEEP_POLICY": 8,
    "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32, "SCHED_FLAG_UTIL_CLAMP_MAX": 64,
}  # fmt: skip
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}
MEMORY_MODES = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
RLIMITS = {
    "RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4, "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9, "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13, "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}  # fmt: skip


class Identity:
    """The process object's credentials as numbers; `credentials` emits what takes them on."""

    __slots__ = (
        "cwd", "gid", "groups", "keeps_groups", "last", "masks", "no_new_privileges", "spec", "uid", "umask", "unknown",
    )  # fmt: skip

    def __init__(self, spec: "Process") -> None:
        user = spec.get("user") or {}
        self.spec = spec
        self.uid = user.get("uid") or 0
        self.gid = user.get("gid") or 0
        self.groups = list(user.get("additionalGids") or ())
        self.keeps_groups = False  # annotation run.oci.keep_original_groups (crun's)
        umask = user.get("umask")
        self.umask = 0o22 if umask is None else umask
        wanted: "Mapping[str, Any]" = spec.get("capabilities") or {}
        self.masks = {name: capabilities.mask(wanted.get(name) or ()) for name in _SETS}
        known = capabilities.NUMBERS
        self.unknown = sorted({word for name in _SETS for word in wanted.get(name) or () if word not in known})
        self.no_new_privileges = bool(spec.get("noNewPrivileges"))
        self.cwd = spec.get("cwd") or "/"
        self.last = capabilities.last()

    def known(self) -> int:
        """The mask of the capabilities that this kernel knows."""
        return (2 << self.last) - 1

    def filter_is_late(self) -> bool:
        """Whether the handover can load the seccomp filter: it needs no_new_privs or CAP_SYS_ADMIN (seccomp(2))."""
        return self.no_new_privileges or bool(self.masks["effective"] >> capabilities.NUMBERS["CAP_SYS_ADMIN"] & 1)


def shape(p: "Program", process: "Process", linux: "Linux") -> None:
    """Emit scheduler, I/O priority, memory policy and personality, which need privileges that are dropped later."""
    policy = linux.get("memoryPolicy")
    if policy:
        _set_memory_policy(p, policy)
    scheduler = process.get("scheduler")
    if scheduler:
        _schedule(p, scheduler)
    priority = process.get("ioPriority")
    if priority:
        value = _IO_CLASSES.get(priority.get("class", "IOPRIO_CLASS_BE"), 2) << 13 | priority.get("priority", 0)
        p.call("ioprio_set", 1, 0, value)
    personality = linux.get("personality")
    if personality:
        p.call("personality", _PERSONALITIES.get(personality.get("domain", "LINUX"), 0))


def _schedule(p: "Program", scheduler: "Scheduler") -> None:
    flags = 0
    for name in scheduler.get("flags") or ():
        flags |= _SCHED_FLAGS.get(name, 0)
    # struct sched_attr, its first version.
    fields = (
        (56, 4), (_POLICIES.get(scheduler.get("policy", ""), 0), 4), (flags, 8), (scheduler.get("nice") or 0, 4),
        (scheduler.get("priority") or 0, 4), (scheduler.get("runtime") or 0, 8), (scheduler.get("deadline") or 0, 8),
        (scheduler.get("period") or 0, 8), (0, 8),
    )  # fmt: skip
    attributes = b"".join([(value & (1 << 8 * size) - 1).to_bytes(size, "little") for value, size in fields])

    def failed(error: SystemCall) -> LaunchFailed:
        return LaunchFailed(
            f"set the scheduler to {scheduler.get('policy')!r} (process.scheduler)",
            because=_deadline_problem(scheduler) or str(error),
        )

    p.owned_by(failed)
    p.call("sched_setattr", 0, p.data(attributes), 0)
    p.owned_by(None)


def _deadline_problem(scheduler: "Scheduler") -> str:
    """The cause of the kernel's EINVAL for SCHED_DEADLINE (sched(7)); "" for another policy."""
    if scheduler.get("policy") != "SCHED_DEADLINE":
        return ""
    runtime, deadline, period = scheduler.get("runtime"), scheduler.get("deadline"), scheduler.get("period")
    said = "sched_setattr: `SCHED_DEADLINE` "
    if runtime is None or deadline is None:
        return said + f"requires `{'runtime' if runtime is None else 'deadline'}`"
    if runtime == 0:
        return said + "runtime must be greater than 0"
    if not 1024 <= runtime < 1 << 63:
        return said + f"runtime ({runtime}) must be between 1024 and {(1 << 63) - 1} ns"
    if runtime > deadline:
        return said + f"runtime ({runtime}) must be <= deadline ({deadline})"
    if period and deadline > period:
        return said + f"deadline ({deadline}) must be <= period ({period})"
    return ""


def _numbers(text: str) -> "set[int]":
    """The numbers of a list like "0-2,5" (cpuset(7), "List format")."""
    found: "set[int]" = set()
    for part in text.split(","):
        if part.strip():
            first, _, last = part.strip().partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found


def set_affinity(pid: int, cpus: "str | None") -> None:
    """Set process.execCPUAffinity: the cpus that a process may run on (sched_setaffinity(2)). Raises LaunchFailed."""
    if not cpus:
        return
    try:
        os.sched_setaffinity(pid, _numbers(cpus))
    except OSError as error:
        raise LaunchFailed(
            f"run on cpus {cpus!r} (process.execCPUAffinity)",
            because=reason(error),
            hint=f"this host has {os.cpu_count()} cpus",
        ) from None


def _set_memory_policy(p: "Program", policy: "MemoryPolicy") -> None:
    """linux.memoryPolicy (runtime spec 1.3): set_mempolicy(2)."""
    mode = MEMORY_MODES[policy["mode"]]
    for flag in policy.get("flags") or ():
        mode |= MEMORY_FLAGS[flag]
    bits = 0
    for node in _numbers(policy.get("nodes") or ""):
        bits |= 1 << node
    mask = bits.to_bytes((bits.bit_length() + 63) // 64 * 8 or 8, "little") if bits else b""
    p.call("set_mempolicy", mode, p.data(mask) if mask else 0, len(mask) * 8 + 1)


def raise_rlimits(pid: int, rlimits: "list[Rlimit]") -> None:
    """Raise another process's hard limits as far as process.rlimits needs it, from the parent, which has the privilege.

    This happens before the child changes its ids: without CAP_SYS_RESOURCE prlimit(2) works only on processes with the
    same ids. The program sets the limits themselves at its end, because they may be too low for what comes before.
    Raises LaunchFailed.
    """
    known = _hard_limits(pid) if rlimits else []
    for limit in rlimits:
        number = RLIMITS[limit["type"]]
        hard = known[number] if known else _prlimit(pid, number, None)[1]
        if limit["hard"] > hard:
            try:
                _prlimit(pid, number, (min(limit["soft"], hard), limit["hard"]))
            except OSError as error:
                raise LaunchFailed(
                    f"error setting rlimit {limit['type']} to {limit['soft']}:{limit['hard']}",
                    because=reason(error),
                    hint=f"the caller's hard limit is {hard}, and raising it takes CAP_SYS_RESOURCE",
                ) from None


def _hard_limits(pid: int) -> "list[int]":
    """A process's hard limits by number, as /proc/PID/limits shows them; [] if it does not.

    Few limits have to be raised, so `exec` mostly need not load what makes system calls (native.py).
    """
    try:
        lines = reading.read(f"/proc/{pid}/limits").split(b"\n")[1:-1]
        # fs/proc/base.c, proc_pid_limits: "%-25s %-20s %-20s %-10s", in the order of their numbers.
        words = [line[47:].split()[0] for line in lines]
        limits = [_UNLIMITED if word == b"unlimited" else int(word) for word in words]
    except (OSError, ValueError, IndexError):
        return []
    return limits if len(limits) > max(RLIMITS.values()) else []


_UNLIMITED = (1 << 64) - 1  # RLIM_INFINITY


def _prlimit(pid: int, number: int, new: "tuple[int, int] | None") -> "tuple[int, int]":
    """prlimit(2); returns the previous limits (soft, hard). Raises OSError."""
    before = libc.buffer(16)
    wanted = None if new is None else libc.buffer(new[0].to_bytes(8, "little") + new[1].to_bytes(8, "little"))
    libc.syscall(libc.number("prlimit64"), pid, number, wanted, before)
    data = bytes(before)
    return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
