"""The exec stub: a sealed program of a few hundred bytes that waits in the container in place of the host's Python.

A container can open the program of any process in it as /proc/PID/exe; if that were the host's python3, an image whose
`/bin/sh` is `#!/proc/self/exe` could rewrite it (CVE-2019-5736). So our last exec is of a memfd, sealed against
writes. It waits for `start` without holding any of Python's memory, and then becomes the user's program
(docs/decisions/0004-last-step.md; the source is last_step.c beside this file).
"""

import os

from toolkit.errors import HostLacks
from toolkit.kernel import libc, process
from toolkit.kernel.last_step_code import CODE

_BASE = 0x400000
_HEADERS = 128  # one Elf64_Ehdr, one Elf64_Phdr, padded
_MACHINES = {"x86_64": 62, "aarch64": 183}
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 16
_F_ADD_SEALS = 1033
_ALL_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE
AT_EMPTY_PATH = 0x1000


def _word(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little", signed=value < 0)


def image(
    path: bytes,
    *,
    fifo: int = -1,
    errors: int = -1,
    proc: int = -1,
    label: bytes = b"",
    attribute: bytes = b"",
    seccomp: bytes = b"",
    seccomp_flags: int = 0,
    codes: "dict[str, bytes]" = CODE,
    obeys: bool = False,
) -> bytes:
    """The ELF file: the code and its orders (`struct orders` in last_step.c). Pure. Raises HostLacks.

    `codes`: machine code by architecture. init_code.CODE remains as the first process, and its child becomes the
    program.
    """
    code = codes.get(libc.MACHINE)
    if code is None:
        raise HostLacks(
            "start the container's program",
            because=f"ctk's last step is not written for {libc.MACHINE!r}",
            hint="supported: " + ", ".join(sorted(codes)),
        )
    tail = 44
    filter_at = tail
    path_at = filter_at + len(seccomp)
    label_at = path_at + len(path) + 1
    attribute_at = label_at + len(label) + 1
    orders = b"".join(
        map(
            _word,
            (
                fifo,
                errors,
                proc,
                len(label),
                label_at,
                attribute_at,
                len(seccomp) // 8,
                filter_at,
                seccomp_flags,
                path_at,
                int(obeys),
            ),
        )
    )
    body = code + orders + seccomp + path + b"\0" + label + b"\0" + attribute + b"\0"
    size = _HEADERS + len(body)
    # elf(5): ELFCLASS64, little endian; ET_EXEC, entry after the headers, one PT_LOAD, readable and executable.
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + _word(2, 2) + _word(_MACHINES[libc.MACHINE], 2) + _word(1) + _word(_BASE + _HEADERS, 8)
    header += _word(64, 8) + bytes(8) + _word(0) + _word(64, 2) + _word(56, 2) + _word(1, 2) + bytes(6)
    load = _word(1) + _word(5) + bytes(8) + _word(_BASE, 8) * 2 + _word(size, 8) * 2 + _word(4096, 8)
    return header + load + bytes(_HEADERS - len(header) - len(load)) + body


def sealed(data: bytes) -> int:
    """A close-on-exec memfd that holds `data`, executable and sealed (memfd_create(2), fcntl(2)). Raises OSError."""
    import fcntl

    try:
        fd = os.memfd_create("ctk", _MFD_CLOEXEC | _MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError:
        # MFD_EXEC is Linux 6.3; before it every memfd was executable. Drop when 6.3 is our floor.
        fd = os.memfd_create("ctk", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)
    try:
        os.write(fd, data)
        # Not readable: the kernel keeps a process that runs it undumpable, so a created container cannot be ptraced
        # or looked into from another container of the same user (prctl(2), PR_SET_DUMPABLE).
        os.fchmod(fd, 0o111)
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def execute(image_fd: int, argv: "list[str]", environment: "list[bytes]", *, by_name: str = "") -> None:
    """Become the sealed program; `argv` and `environment` are those of the user's program.

    `by_name`: a path of the image, for execve(2) instead of execveat(2). Raises SystemCall, OSError.
    """
    if by_name and argv:  # Python's execve refuses an empty argv, which a spec without `process` has
        variables = dict(entry.partition(b"=")[::2] for entry in environment)
        variables.pop(b"", None)  # Python's execve refuses a variable without a name
        os.execve(by_name, argv, variables)
    process.execveat(image_fd, "", argv, environment, AT_EMPTY_PATH)
