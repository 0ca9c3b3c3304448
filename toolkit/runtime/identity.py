"""Credentials of the container's process: `process` of config.json from user to capabilities, in the one safe order."""

import errno
import os
import stat as st

from toolkit.errors import LaunchFailed, SystemCall, reason
from toolkit.kernel import capabilities, libc, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from toolkit.oci.types import Linux, MemoryPolicy, Process, Rlimit, Scheduler

_SPEC_AMBIENT = capabilities.mask(("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"))
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
    """The process object's privileges, computed before the clone: `apply` only makes system calls."""

    __slots__ = (
        "cwd", "gid", "groups", "keeps_groups", "last", "masks", "no_new_privileges", "sets", "spec", "uid", "umask",
        "unknown",
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
        self.sets = (0, 0, 0)  # effective, permitted, inheritable: as set by `apply`
        self.no_new_privileges = bool(spec.get("noNewPrivileges"))
        self.cwd = spec.get("cwd") or "/"
        self.last = capabilities.last()

    def filter_is_late(self) -> bool:
        """Whether the last step can load the seccomp filter: it needs no_new_privs or CAP_SYS_ADMIN (seccomp(2))."""
        return self.no_new_privileges or bool(self.masks["effective"] >> capabilities.NUMBERS["CAP_SYS_ADMIN"] & 1)

    def shape(self) -> None:
        """Set scheduler, I/O priority, personality and memory policy, which need the privileges that `apply` drops."""
        scheduler = self.spec.get("scheduler")
        if scheduler:
            _schedule(scheduler)
        priority = self.spec.get("ioPriority")
        if priority:
            value = _IO_CLASSES.get(priority.get("class", "IOPRIO_CLASS_BE"), 2) << 13 | priority.get("priority", 0)
            process.ioprio_set(1, 0, value)

    def apply(self, warn: "Callable[[str], None]", *, keep: int = 0) -> None:
        """Become the container's user. `keep`: capabilities to keep for `with_kept`. Raises CtkError."""
        if self.no_new_privileges:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        effective, permitted, _ = capabilities.capget()
        masks = self.masks
        can = permitted
        missing = (masks["permitted"] | masks["effective"] | masks["inheritable"]) & ~can
        missing &= (2 << self.last) - 1
        if missing or self.unknown:
            # The spec: a capability that cannot be granted causes a warning, not an error.
            words = capabilities.names(missing) + self.unknown
            warn("capabilities that this host cannot grant are left out: " + ", ".join(words))
        if effective >> capabilities.NUMBERS["CAP_SETPCAP"] & 1:
            capabilities.drop_bounding(masks["bounding"], self.last)
        process.prctl(process.PR_SET_KEEPCAPS, 1)
        self._become_user()
        process.prctl(process.PR_SET_KEEPCAPS, 0)
        granted = masks["permitted"] & can
        inheritable = masks["inheritable"] & can
        self.sets = (masks["effective"] & granted, granted, inheritable)
        capabilities.capset(masks["effective"] & granted, granted | keep & can, inheritable)
        ambient = masks["ambient"] & granted & inheritable
        capabilities.set_ambient(ambient)
        lost = masks["ambient"] & ~ambient & ((2 << self.last) - 1)
        # No warning for the three default capabilities, or some of them: the `spec` of runc up to 1.1, and ours, lists
        # them as ambient and not as inheritable.
        if lost & ~_SPEC_AMBIENT:
            for name in capabilities.names(lost):
                warn(f"can't raise ambient capability {name}: it is not permitted and inheritable")
        os.umask(self.umask)

    def with_kept(self, kept: int, act: "Callable[[], None]") -> None:
        """Call `act` with the capabilities that `apply` kept, then drop them for good. Raises SystemCall."""
        effective, permitted, inheritable = self.sets
        try:
            capabilities.capset(effective | kept, permitted | kept, inheritable)
        except SystemCall as error:
            if error.errno != errno.EPERM:
                raise
            # We never had them; `act` will fail with what it lacks.
        act()
        capabilities.capset(effective, permitted, inheritable)

    def _become_user(self) -> None:
        try:
            try:
                if not self.keeps_groups:
                    os.setgroups(self.groups)
            except PermissionError:
                # A user namespace made without privilege has setgroups(2) denied; then there are none to set.
                if self.groups:
                    raise
            os.setresgid(self.gid, self.gid, self.gid)
            if self.uid != os.getuid() or self.uid:
                _own_stdio(self.uid, self.gid)
            os.setresuid(self.uid, self.uid, self.uid)
        except OSError as error:
            because = reason(error)
            hint = ""
            if error.errno == errno.EINVAL:
                hint = "the id is not mapped in the container's user namespace: see linux.uidMappings and gidMappings"
            raise LaunchFailed(f"become user {self.uid}:{self.gid}", because=because, hint=hint) from None

    def try_directory(self) -> bool:
        """chdir(2) before we become the container's user, who may not be allowed to (as runc does); whether it worked.

        On a FUSE or NFS mount it may fail for root and succeed for the user: then `enter_directory` tries again.
        """
        try:
            self._change_directory()
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM):
                self._cannot_enter(error)
            return False
        return True

    def enter_directory(self) -> None:
        """chdir(2) as the container's user. Raises LaunchFailed."""
        try:
            self._change_directory()
        except OSError as error:
            self._cannot_enter(error)

    def _change_directory(self) -> None:
        os.chdir(self.cwd)
        # A directory of the host that was reached by a leaked descriptor is outside the root: getcwd(2) shows it as
        # "(unreachable)" (CVE-2024-21626).
        if not _below_root():
            raise OSError(errno.ENOENT, "it is outside the container's root")

    def _cannot_enter(self, error: OSError) -> "NoReturn":
        raise LaunchFailed(
            f"chdir to cwd ({self.cwd!r}) set in config.json failed",
            because=reason(error),
            hint="process.cwd must be a directory inside the root that the container's user may enter",
        ) from None


def _below_root() -> bool:
    """Whether the working directory is below the root."""
    try:
        return os.getcwd().startswith("/")
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
    # A seccomp filter refuses getcwd(2): follow `..` upwards, which ends at our root if we are below it.
    root = os.stat("/")
    way, last = ".", os.stat(".")
    while not os.path.samestat(last, root):
        way += "/.."
        above = os.stat(way)
        if os.path.samestat(above, last):
            return False
        last = above
    return True


def _own_stdio(uid: int, gid: int) -> None:
    """Make the process's user the owner of its standard streams, except for /dev/null (as runc does)."""
    null = os.stat("/dev/null").st_rdev if os.path.exists("/dev/null") else -1
    for fd in (0, 1, 2):
        try:
            status = os.fstat(fd)
            if status.st_uid != uid and status.st_rdev != null:
                os.fchown(fd, uid, gid if st.S_ISREG(status.st_mode) or st.S_ISFIFO(status.st_mode) else -1)
        except OSError:
            # Closed, on a read-only file system, or not ours: the process can do without.
            pass


def _schedule(scheduler: "Scheduler") -> None:
    flags = 0
    for name in scheduler.get("flags") or ():
        flags |= _SCHED_FLAGS.get(name, 0)
    attributes = {
        "policy": _POLICIES.get(scheduler.get("policy", ""), 0),
        "flags": flags,
        "nice": scheduler.get("nice") or 0,
        "priority": scheduler.get("priority") or 0,
        "runtime": scheduler.get("runtime") or 0,
        "deadline": scheduler.get("deadline") or 0,
        "period": scheduler.get("period") or 0,
    }
    try:
        process.sched_setattr(0, attributes)
    except SystemCall as error:
        raise LaunchFailed(
            f"set the scheduler to {scheduler.get('policy')!r} (process.scheduler)",
            because=_deadline_problem(scheduler) or str(error),
        ) from None


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


def set_personality(linux: "Linux") -> None:
    """linux.personality. Raises SystemCall."""
    wanted = linux.get("personality")
    if wanted:
        process.personality(_PERSONALITIES.get(wanted.get("domain", "LINUX"), 0))


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


def set_memory_policy(policy: "MemoryPolicy") -> None:
    """linux.memoryPolicy (runtime spec 1.3). Raises SystemCall."""
    mode = MEMORY_MODES[policy["mode"]]
    for flag in policy.get("flags") or ():
        mode |= MEMORY_FLAGS[flag]
    bits = 0
    for node in _numbers(policy.get("nodes") or ""):
        bits |= 1 << node
    mask = bits.to_bytes((bits.bit_length() + 63) // 64 * 8 or 8, "little") if bits else b""
    process.set_mempolicy(mode, mask)


def raise_rlimits(pid: int, rlimits: "list[Rlimit]") -> None:
    """Raise another process's hard limits as far as process.rlimits needs it, from the parent, which has the privilege.

    This happens before the child changes its ids: without CAP_SYS_RESOURCE prlimit(2) works only on processes with the
    same ids. The child sets the limits themselves at its end (`set_rlimits`), because they may be too low for the
    interpreter. Raises LaunchFailed.
    """
    for limit in rlimits:
        number = RLIMITS[limit["type"]]
        _, hard = _prlimit(pid, number, None)
        if limit["hard"] > hard:
            try:
                _prlimit(pid, number, (min(limit["soft"], hard), limit["hard"]))
            except OSError as error:
                raise LaunchFailed(
                    f"error setting rlimit {limit['type']} to {limit['soft']}:{limit['hard']}",
                    because=reason(error),
                    hint=f"the caller's hard limit is {hard}, and raising it takes CAP_SYS_RESOURCE",
                ) from None


def set_rlimits(rlimits: "list[Rlimit]") -> None:
    """Set process.rlimits on the calling process. Raises LaunchFailed."""
    for limit in rlimits:
        try:
            _prlimit(0, RLIMITS[limit["type"]], (limit["soft"], limit["hard"]))
        except OSError as error:
            raise LaunchFailed(
                f"error setting rlimit {limit['type']} to {limit['soft']}:{limit['hard']}",
                because=reason(error),
            ) from None


def _prlimit(pid: int, number: int, new: "tuple[int, int] | None") -> "tuple[int, int]":
    """prlimit(2); returns the previous limits (soft, hard). Raises OSError."""
    before = libc.buffer(16)
    wanted = None if new is None else libc.buffer(new[0].to_bytes(8, "little") + new[1].to_bytes(8, "little"))
    libc.syscall(libc.number("prlimit64"), pid, number, wanted, before)
    data = bytes(before)
    return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
