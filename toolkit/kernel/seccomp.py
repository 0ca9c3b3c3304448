"""seccomp(2): load a compiled filter, and ask what the kernel can do.

Source: seccomp(2), prctl(2), include/uapi/linux/seccomp.h.
"""

from toolkit.kernel import libc

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2

SECCOMP_FILTER_FLAG_TSYNC = 0x1
SECCOMP_FILTER_FLAG_LOG = 0x2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 0x4
SECCOMP_FILTER_FLAG_NEW_LISTENER = 0x8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 0x20

SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_KILL_THREAD = 0x00000000
SECCOMP_RET_TRAP = 0x00030000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_TRACE = 0x7FF00000
SECCOMP_RET_LOG = 0x7FFC0000
SECCOMP_RET_ALLOW = 0x7FFF0000

# The kernel's names for the actions (seccomp(2), "/proc interfaces").
_ACTION_WORDS = {
    "kill_process": SECCOMP_RET_KILL_PROCESS,
    "kill_thread": SECCOMP_RET_KILL_THREAD,
    "trap": SECCOMP_RET_TRAP,
    "errno": SECCOMP_RET_ERRNO,
    "user_notif": SECCOMP_RET_USER_NOTIF,
    "trace": SECCOMP_RET_TRACE,
    "log": SECCOMP_RET_LOG,
    "allow": SECCOMP_RET_ALLOW,
}

BPF_MAXINSNS = 4096

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_EINVAL, _ENOSYS = 22, 38
_FLAG_NAMES = {
    "SECCOMP_FILTER_FLAG_TSYNC": SECCOMP_FILTER_FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_NEW_LISTENER": SECCOMP_FILTER_FLAG_NEW_LISTENER,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}


def install(program: bytes, flags: int = 0) -> int:
    """Put the calling thread and everything it starts later under `program`, an array of struct sock_filter.

    Returns the notification descriptor if `flags` has SECCOMP_FILTER_FLAG_NEW_LISTENER, else 0. The caller needs
    CAP_SYS_ADMIN or no_new_privs. Raises SystemCall: EACCES without those, EINVAL for a program or a flag that this
    kernel does not accept.
    """
    count = len(program) // 8
    code = libc.buffer(program)
    # struct sock_fprog: the number of instructions, 6 bytes of padding, their address.
    header = count.to_bytes(2, "little") + bytes(6) + libc.address(code).to_bytes(8, "little")
    try:
        return libc.syscall(libc.number("seccomp"), SECCOMP_SET_MODE_FILTER, flags, libc.buffer(header))
    except OSError as error:
        if error.errno != _ENOSYS or flags:
            words = libc.flag_names(flags, _FLAG_NAMES)
            libc.failed(f"seccomp(SECCOMP_SET_MODE_FILTER, {words}, {{len={count}, filter=…}})", error)
    # In a sandbox that does not know seccomp(2) it fails with ENOSYS; prctl(2) does the same, without flags.
    try:
        return libc.syscall(libc.number("prctl"), _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, libc.buffer(header))
    except OSError as error:
        libc.failed(f"prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, {{len={count}, filter=…}})", error)


def available_actions() -> "tuple[str, ...]":
    """The kernel's names for the actions that a filter may return: 'kill_process', 'errno', 'user_notif' …

    seccomp(2) is asked, because /proc may be hidden. Empty on a kernel that has no seccomp filters (or is older than
    4.14).
    """
    found = []
    for word, action in _ACTION_WORDS.items():
        try:
            libc.syscall(libc.number("seccomp"), SECCOMP_GET_ACTION_AVAIL, 0, libc.buffer(action.to_bytes(4, "little")))
        except OSError:
            continue
        found.append(word)
    return tuple(found)


def available_flags() -> int:
    """The flags that this kernel's seccomp(2) knows, ORed together.

    A call with a flag and without a program fails with EFAULT if the kernel knows the flag, with EINVAL if not.
    """
    known = 0
    for flag in _FLAG_NAMES.values():
        asked = flag | (SECCOMP_FILTER_FLAG_NEW_LISTENER if flag == SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV else 0)
        try:
            libc.syscall(libc.number("seccomp"), SECCOMP_SET_MODE_FILTER, asked, None)
        except OSError as error:
            if error.errno not in (_EINVAL, _ENOSYS):
                known |= flag
    return known
