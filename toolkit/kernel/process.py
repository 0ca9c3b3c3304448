"""clone3(2), prctl(2), pidfds and the identity of a process."""

import os

from toolkit.kernel import libc, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SIGCHLD = 17

CLONE_PARENT = 0x8000
CLONE_PIDFD = 0x1000
CLONE_INTO_CGROUP = 0x200000000

CLOSE_RANGE_CLOEXEC = 4

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47

_PRCTL_NAMES = {
    PR_SET_PDEATHSIG: "PR_SET_PDEATHSIG",
    PR_SET_DUMPABLE: "PR_SET_DUMPABLE",
    PR_SET_KEEPCAPS: "PR_SET_KEEPCAPS",
    PR_SET_NAME: "PR_SET_NAME",
    PR_CAPBSET_READ: "PR_CAPBSET_READ",
    PR_CAPBSET_DROP: "PR_CAPBSET_DROP",
    PR_SET_CHILD_SUBREAPER: "PR_SET_CHILD_SUBREAPER",
    PR_SET_NO_NEW_PRIVS: "PR_SET_NO_NEW_PRIVS",
    PR_CAP_AMBIENT: "PR_CAP_AMBIENT",
}


def clone3(
    flags: int, *, exit_signal: int = SIGCHLD, cgroup_fd: int = -1, want_pidfd: bool = False
) -> "tuple[int, int]":
    """clone3(2) without CLONE_VM, like fork(2): (0, -1) in the child, (pid, pidfd or -1) in the caller.

    Only for a process with one thread: Python's own work after a fork is skipped. Raises SystemCall.
    """
    holder = libc.buffer(4) if want_pidfd else None
    if want_pidfd:
        flags |= CLONE_PIDFD
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
    fields = (flags, libc.address(holder) if holder is not None else 0, 0, 0, exit_signal, 0, 0, 0, 0, 0)
    data = b"".join(n.to_bytes(8, "little") for n in (*fields, max(cgroup_fd, 0)))
    arguments = libc.buffer(data)
    try:
        pid = libc.syscall(libc.number("clone3"), arguments, len(data))
    except OSError as error:
        names = namespaces.flag_names(flags)
        namespaces.refused(f"clone3({{flags={names}, exit_signal={exit_signal}}}, {len(data)})", flags, error)
    if pid == 0 or holder is None:
        return pid, -1
    return pid, int.from_bytes(bytes(holder), "little")


def prctl_name(operation: int) -> str:
    """The name of an operation of prctl(2), its number if it is not one of ours."""
    return _PRCTL_NAMES.get(operation, str(operation))


def prctl(operation: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2). Raises SystemCall."""
    try:
        return libc.syscall(libc.number("prctl"), operation, a, b, c, d)
    except OSError as error:
        libc.failed(f"prctl({prctl_name(operation)}, {a}, {b}, {c}, {d})", error)


def knows_capability(number: int) -> bool:
    """Whether the kernel knows this capability number (PR_CAPBSET_READ fails with EINVAL if not)."""
    try:
        libc.syscall(libc.number("prctl"), PR_CAPBSET_READ, number)
    except OSError:
        return False
    return True


def hide() -> None:
    """Become undumpable: no process in a user namespace below the one we were executed in can trace us (ptrace(2)).

    Call it before such a namespace is joined, while its processes can't trace us yet, and again after each change of
    credentials, which resets the flag to fs.suid_dumpable (proc(5)): 0 on most hosts, but not on all. From then on our
    files in /proc belong to root. Children inherit it, up to execve(2). Raises SystemCall.
    """
    prctl(PR_SET_DUMPABLE, 0)


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2), Linux 5.9. Raises SystemCall."""
    try:
        libc.syscall(libc.number("close_range"), first, last, flags)
    except OSError as error:
        libc.failed(f"close_range({first}, {last}, {flags})", error)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2), Linux 5.3. Raises SystemCall (ESRCH: no such process)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        libc.failed(f"pidfd_open({pid}, 0)", error)


def execveat(fd: int, path: str, argv: "Sequence[str]", environment: "Sequence[bytes]", flags: int) -> None:
    """execveat(2), Linux 3.19; AT_EMPTY_PATH executes the file open as `fd`. `environment`: b"NAME=value" strings.

    Raises SystemCall; does not return otherwise.
    """
    keep, argument_vector = _vector([os.fsencode(word) for word in argv])
    keep2, environment_vector = _vector(environment)
    try:
        libc.syscall(libc.number("execveat"), fd, os.fsencode(path), argument_vector, environment_vector, flags)
    except OSError as error:
        libc.failed(f"execveat({fd}, {libc.quoted(path)}, {_shown(argv)}, …, {hex(flags)})", error)
    finally:
        del keep, keep2


def _shown(argv: "Sequence[str]") -> str:
    """argv as strace shows it: only the first words, and the beginning of each. The rest could be long, or a secret."""
    words = [libc.quoted(word[:32]) + "…" * (len(word) > 32) for word in argv[:8]]
    return f"[{', '.join(words + ['…'] * (len(argv) > 8))}]"


def _vector(words: "Sequence[bytes]") -> "tuple[object, object]":
    """A NULL-terminated `char *[]`, and the object that keeps its strings alive."""
    strings = [libc.buffer(word + b"\0") for word in words]
    pointers = b"".join(libc.address(s).to_bytes(8, "little") for s in strings) + bytes(8)
    return strings, libc.buffer(pointers)


def sethostname(name: str) -> None:
    """sethostname(2). Raises SystemCall."""
    data = os.fsencode(name)
    try:
        libc.syscall(libc.number("sethostname"), data, len(data))
    except OSError as error:
        libc.failed(f"sethostname({libc.quoted(name)}, {len(data)})", error)


def setdomainname(name: str) -> None:
    """setdomainname(2). Raises SystemCall."""
    data = os.fsencode(name)
    try:
        libc.syscall(libc.number("setdomainname"), data, len(data))
    except OSError as error:
        libc.failed(f"setdomainname({libc.quoted(name)}, {len(data)})", error)


def stat_fields(pid: int) -> "list[str]":
    """/proc/PID/stat from field 3 on (proc(5)): [0] is the state, [19] the start time. Raises OSError if it is gone."""
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    # The name stands in brackets and may itself contain brackets: the last one ends it.
    return text[text.rindex(b")") + 2 :].decode("ascii").split()


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot; together with the pid it identifies a process.

    Raises OSError if it is gone.
    """
    return int(stat_fields(pid)[19])


def boot_id() -> str:
    """The kernel's random id of this boot (random(4)), "" where /proc does not show it (systemd's ProcSubset=pid)."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(fd, 64).decode("ascii").strip()
    finally:
        os.close(fd)
