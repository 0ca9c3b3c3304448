"""Capabilities by name, and the five sets of a process (capabilities(7))."""

import os

from toolkit.kernel import libc, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# In the order of their numbers (include/uapi/linux/capability.h).
NAMES = tuple(
    "CAP_" + word
    for word in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
        "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
        "SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522


def mask(names: "Iterable[str]") -> int:
    """The bit mask of some capability names; unknown names are ignored."""
    bits = 0
    for name in names:
        number = NUMBERS.get(name)
        if number is not None:
            bits |= 1 << number
    return bits


def names(bits: int) -> "list[str]":
    """The capability names of a bit mask."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def insisted_on(file: "int | str", *, below: bool = False) -> int:
    """The capabilities that execve(2) of a file must grant or fail with EPERM, as a bit mask; 0 if there are none.

    (capabilities(7), "Safety checking for capability-dumb binaries".) `below`: it is started in a user namespace below
    that of its mount, where an attribute of version 2, without a root id, is ignored.
    """
    try:
        data = os.getxattr(file, "security.capability")
    except OSError:
        return 0
    if len(data) < 20 or not data[0] & 1 or (below and data[3] == 2):  # struct vfs_cap_data; 1: "effective"
        return 0
    return int.from_bytes(data[4:8], "little") | int.from_bytes(data[12:16], "little") << 32


def capget() -> "tuple[int, int, int]":
    """The caller's (effective, permitted, inheritable) sets as bit masks. Raises SystemCall."""
    header = libc.buffer(_VERSION_3.to_bytes(4, "little") + bytes(4))
    data = libc.buffer(24)
    try:
        libc.syscall(libc.number("capget"), header, data)
    except OSError as error:
        libc.failed("capget({version=_LINUX_CAPABILITY_VERSION_3, pid=0}, …)", error)
    words = memoryview(bytes(data)).cast("I")
    return (words[0] | words[3] << 32, words[1] | words[4] << 32, words[2] | words[5] << 32)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the caller's three sets. Raises SystemCall."""
    header = libc.buffer(_VERSION_3.to_bytes(4, "little") + bytes(4))
    low = (effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF)
    high = (effective >> 32, permitted >> 32, inheritable >> 32)
    data = libc.buffer(b"".join(word.to_bytes(4, "little") for word in (*low, *high)))
    try:
        libc.syscall(libc.number("capset"), header, data)
    except OSError as error:
        libc.failed(
            f"capset(…, {{effective={hex(effective)}, permitted={hex(permitted)}, inheritable={hex(inheritable)}}})",
            error,
        )


def bounding() -> int:
    """The caller's bounding set."""
    bits = 0
    for number in range(last() + 1):
        if process.prctl(process.PR_CAPBSET_READ, number):
            bits |= 1 << number
    return bits


def last() -> int:
    """The highest capability number that this kernel knows."""
    try:
        fd = os.open("/proc/sys/kernel/cap_last_cap", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # systemd's ProcSubset=pid hides it
        number = 0
        while process.knows_capability(number + 1):
            number += 1
        return number
    try:
        return int(os.read(fd, 16))
    finally:
        os.close(fd)


def drop_bounding(keep: int, last_capability: int) -> None:
    """Drop every capability from the bounding set that is not in `keep`. Raises SystemCall (needs CAP_SETPCAP)."""
    for number in range(last_capability + 1):
        if not keep >> number & 1:
            process.prctl(process.PR_CAPBSET_DROP, number)
