"""Run programs of another architecture by qemu-user through binfmt_misc (kernel: admin-guide/binfmt-misc).

Since Linux 6.7 a user namespace has its own list of formats, visible to its processes only and gone with its last
mount. The flag F makes the kernel open the emulator at registration, so the emulator need not be in the tree.
"""

import os

from toolkit.errors import SystemCall
from toolkit.kernel import mounts, namespaces

HOST_ENTRIES = "/proc/sys/fs/binfmt_misc"
OWN_SINCE = (6, 7)

# Debian's name → (qemu's name, ELF class, ELF data, e_machine): elf.h, and the names of qemu-user's programs.
MACHINES = {
    "amd64": ("x86_64", 2, 1, 62),
    "i386": ("i386", 1, 1, 3),
    "arm64": ("aarch64", 2, 1, 183),
    "armhf": ("arm", 1, 1, 40),
    "armel": ("arm", 1, 1, 40),
    "riscv64": ("riscv64", 2, 1, 243),
    "ppc64el": ("ppc64le", 2, 1, 21),
    "ppc64": ("ppc64", 2, 2, 21),
    "powerpc": ("ppc", 1, 2, 20),
    "s390x": ("s390x", 2, 2, 22),
    "loong64": ("loongarch64", 2, 1, 258),
    "mips64el": ("mips64el", 2, 1, 8),
    "mipsel": ("mipsel", 1, 1, 8),
    "sparc64": ("sparc64", 2, 2, 43),
    "hppa": ("hppa", 1, 2, 15),
    "m68k": ("m68k", 1, 2, 4),
    "alpha": ("alpha", 2, 1, 0x9026),
    "sh4": ("sh4", 1, 1, 42),
}


def pattern(architecture: str) -> "tuple[bytes, bytes]":
    """(magic, mask) of the architecture's programs: the first 20 bytes of an ELF file. Raises KeyError."""
    _, word, order, machine = MACHINES[architecture]
    step = 1 if order == 1 else -1
    ident = b"\x7fELF" + bytes((word, order, 1)) + bytes(9)
    magic = ident + b"\x02\x00"[::step] + machine.to_bytes(2, "little")[::step]
    # EI_OSABI may be anything (static glibc programs say GNU); ET_EXEC and ET_DYN differ in the lowest bit.
    return magic, b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff"[::step] + b"\xff\xff"


def registration(architecture: str, interpreter: str) -> bytes:
    """The line that registers the architecture's programs. Raises KeyError if the table above has no entry for it."""
    magic, mask = (b"".join(b"\\x%02x" % byte for byte in part) for part in pattern(architecture))
    name = b"ctk-" + architecture.encode()
    # O and C: the emulator gets the program as an open file, and its credentials, so that set-uid programs work.
    return b":" + name + b":M::" + magic + b":" + mask + b":" + os.fsencode(interpreter) + b":OCF"


def register(line: bytes) -> int:
    """Register a format in this process's own user namespace; it lasts as long as the returned descriptor is open.

    Raises SystemCall (EPERM before Linux 6.7), OSError.
    """
    fd = mounts.new_filesystem("binfmt_misc", {})
    try:
        control = os.open("register", os.O_WRONLY | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.write(control, line)
        finally:
            os.close(control)
    except BaseException:
        os.close(fd)
        raise
    return fd


def enter_user_namespace() -> None:
    """Unshare a user namespace with all ids as they are, unless this process is in one already.

    Not for a process with threads (user_namespaces(7)). Raises SystemCall, OSError.
    """
    with open("/proc/self/uid_map") as file:
        if file.read().split() != ["0", "0", "4294967295"]:
            return
    mine, theirs = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = os.fork()
    if child == 0:  # the parent namespace must write the map: from inside, only one's own id may be mapped
        code = 1
        try:
            os.close(theirs)
            if os.read(mine, 1):
                for kind in ("uid", "gid"):
                    with open(f"/proc/{parent}/{kind}_map", "w") as file:
                        file.write("0 0 4294967295")
                code = 0
        finally:
            os._exit(code)
    os.close(mine)
    try:
        namespaces.unshare(namespaces.CLONE_NEWUSER)
        os.write(theirs, b"1")
    finally:
        os.close(theirs)
        _, status = os.waitpid(child, 0)
    if status:
        raise SystemCall(f'write("/proc/{parent}/uid_map", "0 0 4294967295")', 1, "operation not permitted")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
