"""A program's operations in strace's notation: each argument printed by what it means to its system call.

Loaded only to explain a program, or the failure of one.
"""

import os

from toolkit.errors import SystemCall
from toolkit.kernel import libc, mounts, namespaces, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Operation, Program

# A letter an argument: s a string, d a decimal number, x flags in hexadecimal, o a mode in octal, n CLONE_NEW* flags,
# m MS_* flags, f a directory's or AT_FDCWD, p the option of prctl(2), v a `char *[]`, . a structure or a buffer.
_SIGNATURES = {
    "capget": "..", "capset": "..", "chdir": "s", "chroot": "s", "clock_gettime": "d.", "clone": "xdddd",
    "clone3": ".d", "close": "d", "close_range": "ddx", "dup3": "ddx", "execve": "sv.", "execveat": "fsv.x",
    "exit_group": "d", "faccessat2": "fsxx", "fchdir": "d", "fchmodat": "fso", "fchown": "ddd", "fchownat": "fsddx",
    "fsconfig": "ddssd", "fsmount": "dxx", "fsopen": "sx", "fstatfs": "d.", "getcwd": ".d", "ioctl": "dx.",
    "ioprio_set": "ddx", "keyctl": "ds", "kill": "dd", "lseek": "ddd", "mkdirat": "fso", "mknodat": "fsox",
    "mount": "sssms", "mount_setattr": "fsx.d", "move_mount": "fsfsx", "newfstatat": "fs.x", "open_tree": "fsx",
    "openat": "fsxo", "openat2": "fs.d", "personality": "x", "pidfd_open": "dx", "pivot_root": "ss", "ppoll": ".d..d",
    "prctl": "pdddd", "prlimit64": "dd..", "read": "d.d", "readlinkat": "fs.d", "recvmsg": "d.x",
    "rt_sigaction": "d..d", "rt_sigprocmask": "d..d", "sched_setattr": "d.x", "seccomp": "dx.", "sendmsg": "d.x",
    "set_mempolicy": "x.d", "setdomainname": "sd", "setgroups": "d.", "sethostname": "sd", "setns": "dn",
    "setpgid": "dd", "setresgid": "ddd", "setresuid": "ddd", "setsid": "", "socket": "ddd", "statfs": "s.",
    "statx": "fsxx.", "symlinkat": "sfs", "umask": "o", "umount2": "sx", "unlinkat": "fsx", "unshare": "n",
    "wait4": "d.x.", "write": "dsd",
}  # fmt: skip


def text(program: "Program", operation: "Operation") -> str:
    """One operation, without its result."""
    name, arguments, _, _ = operation
    signature = _SIGNATURES.get(name, "")
    shown = []
    for index, value in enumerate(arguments):
        kind = signature[index] if index < len(signature) else "x"
        if isinstance(value, int | str | bytes):
            shown.append(_argument(program, kind, value if isinstance(value, int) else program.text(value)))
        else:
            shown.append(f"[{value.at}]")  # a Cell
    return f"{name}({', '.join(shown)})"


def _argument(program: "Program", kind: str, value: int) -> str:
    if kind == "s":
        raw = program.bytes_at(value, 4096)
        return libc.quoted(raw[: raw.find(b"\0")]) if raw else "NULL" if value == 0 else "…"
    if kind == "d":
        return str(value)
    if kind == "f":
        return "AT_FDCWD" if value == mounts.AT_FDCWD else str(value)
    if kind == "m":
        return mounts.flag_names(value)
    if kind == "n":
        return namespaces.flag_names(value)
    if kind == "p":
        return process.prctl_name(value)
    if kind in (".", "v"):
        return "…" if value else "NULL"
    return oct(value) if kind == "o" else hex(value)


def failed(program: "Program", number: int, error: int) -> SystemCall:
    """The error of operation `number`, which failed; `error` is its errno, or the number of a "fail" from 4096 on."""
    because = os.strerror(error).lower() if error < 4096 else str(error)
    return SystemCall(program.sayings.get(number) or text(program, program.operations[number]), error, because)
