"""`syscall(2)`, through which every wrapper of this folder goes, and how failures are reported.

native.py makes the calls; it is imported by the first one, because `exec` makes none.
Every wrapper in this folder has its man-page name and raises `SystemCall` with the call in strace's notation.
"""

import os

from toolkit.errors import HostLacks, SystemCall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Argument = int | bytes | None | Any  # Any: a ctypes buffer


# Numbers from 424 (Linux 5.1) on are the same on every architecture; the older ones are not.
_SINCE_5_1 = (
    "pidfd_send_signal 424 open_tree 428 move_mount 429 fsopen 430 fsconfig 431 fsmount 432 fspick 433 pidfd_open 434 "
    "clone3 435 close_range 436 openat2 437 pidfd_getfd 438 faccessat2 439 mount_setattr 442 "
    "set_mempolicy_home_node 450 open_tree_attr 467"
)
_X86_64 = (
    "read 0 write 1 close 3 lseek 8 rt_sigaction 13 rt_sigprocmask 14 ioctl 16 getpid 39 socket 41 sendmsg 46 recvmsg "
    "47 clone 56 execve 59 wait4 61 kill 62 getcwd 79 chdir 80 fchdir 81 fchown 93 umask 95 setpgid 109 setsid 112 "
    "setgroups 116 setresuid 117 setresgid 119 capget 125 capset 126 rt_sigtimedwait 128 personality 135 statfs 137 "
    "fstatfs 138 pivot_root 155 prctl 157 chroot 161 mount 165 umount2 166 sethostname 170 setdomainname 171 "
    "clock_gettime 228 exit_group 231 set_mempolicy 238 add_key 248 keyctl 250 ioprio_set 251 openat 257 mkdirat 258 "
    "mknodat 259 fchownat 260 newfstatat 262 unlinkat 263 symlinkat 266 readlinkat 267 fchmodat 268 ppoll 271 unshare "
    "272 dup3 292 prlimit64 302 setns 308 kcmp 312 sched_setattr 314 seccomp 317 bpf 321 execveat 322 statx 332"
)
_GENERIC = (
    "getcwd 17 dup3 24 ioctl 29 ioprio_set 30 mknodat 33 mkdirat 34 unlinkat 35 symlinkat 36 umount2 39 mount 40 "
    "pivot_root 41 statfs 43 fstatfs 44 chdir 49 fchdir 50 chroot 51 fchmodat 53 fchownat 54 fchown 55 openat 56 "
    "close 57 lseek 62 read 63 write 64 ppoll 73 readlinkat 78 newfstatat 79 capget 90 capset 91 personality 92 "
    "exit_group 94 unshare 97 clock_gettime 113 kill 129 rt_sigaction 134 rt_sigprocmask 135 rt_sigtimedwait 137 "
    "setresuid 147 setresgid 149 setpgid 154 setsid 157 setgroups 159 sethostname 161 setdomainname 162 umask 166 "
    "prctl 167 getpid 172 socket 198 sendmsg 211 recvmsg 212 add_key 217 keyctl 219 clone 220 execve 221 "
    "set_mempolicy 237 wait4 260 prlimit64 261 setns 268 kcmp 272 sched_setattr 274 seccomp 277 bpf 280 execveat 281 "
    "statx 291"
)
_OLDER = {
    "x86_64": _X86_64,
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}

MACHINE = os.uname().machine


def numbers(machine: str) -> "dict[str, int]":
    """The numbers of system calls by name on `machine`, as uname(2) names it."""
    words = (_SINCE_5_1 + " " + _OLDER.get(machine, "")).split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


SYS = numbers(MACHINE)


def number(name: str) -> int:
    """The system call's number on this machine. Raises HostLacks where ctk does not know it."""
    try:
        return SYS[name]
    except KeyError:
        raise HostLacks(
            f"call {name}(2)",
            because=f"ctk has no system call table for {MACHINE!r}",
            hint="supported: " + ", ".join(sorted(_OLDER)),
        ) from None


def syscall(
    number: int,
    a: "Argument" = 0,
    b: "Argument" = 0,
    c: "Argument" = 0,
    d: "Argument" = 0,
    e: "Argument" = 0,
    f: "Argument" = 0,
) -> int:
    """syscall(2). Paths are bytes, NULL is None, structures are `buffer()`s. Raises OSError with the kernel's errno."""
    from toolkit.kernel import native

    result = native.syscall(number, a, b, c, d, e, f)
    if result == -1:
        error = native.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def buffer(data: "bytes | int") -> "Any":
    """A writable C buffer holding `data`, or `data` zero bytes; pass it to `syscall`, read it back with bytes()."""
    size = data if isinstance(data, int) else len(data)
    from toolkit.kernel import native

    array: Any = (native.c_char * size)()
    if not isinstance(data, int):
        memoryview(array).cast("B")[:] = data
    return array


def address(array: "Any") -> int:
    """The address of a `buffer`, for a pointer inside another structure. The buffer must be kept alive."""
    from toolkit.kernel import native

    return native.addressof(array)


def failed(call: str, error: OSError, *, hint: str = "") -> "NoReturn":
    """Raise the SystemCall for a failed `call` (strace's notation, without the result)."""
    number = error.errno or 0
    raise SystemCall(call, number, os.strerror(number).lower(), hint=hint) from None


def quoted(text: "str | bytes | None") -> str:
    """A string argument as strace prints it."""
    if text is None:
        return "NULL"
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def flag_names(value: int, names: "dict[str, int]") -> str:
    """`value` as NAME|NAME|0x…, the way strace prints flags; names are tried in the order given."""
    words = []
    for name, bit in names.items():
        if bit and value & bit == bit:
            words.append(name)
            value &= ~bit
    if value or not words:
        words.append(hex(value) if value else "0")
    return "|".join(words)
