"""The sealed stub does what its orders say (tests/architecture/test_machine_code.py: and is what its source says)."""

import fcntl
import os
import struct
import sys
from pathlib import Path

import pytest

from toolkit.kernel import last_step, libc, process

F_GET_SEALS = 1034


def run(image: bytes, argv: list[str], environment: list[bytes], *fds: int) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the stub in a child of ours that keeps `fds`."""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    sealed = last_step.sealed(image)
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(out, 1)
            os.dup2(err, 2)
            for fd in fds:
                os.set_inheritable(fd, True)
            last_step.execute(sealed, argv, environment)
        finally:
            os._exit(99)
    status = os.waitpid(pid, 0)[1]
    os.close(sealed)
    told = []
    for fd in (out, err):
        os.lseek(fd, 0, os.SEEK_SET)
        told.append(os.read(fd, 65536).decode())
        os.close(fd)
    return os.waitstatus_to_exitcode(status), told[0], told[1]


def test_it_becomes_the_program_with_its_arguments_and_environment() -> None:
    code, out, err = run(last_step.image(b"/bin/sh"), ["sh", "-c", "echo $0 $A; exit 3", "name"], [b"A=b c"])
    assert (code, out, err) == (3, "name b c\n", "")


def test_a_missing_program_is_127_and_told() -> None:
    code, out, err = run(last_step.image(b"/no/such"), ["x"], [])
    assert (code, out, err) == (127, "", "exec /no/such: no such file or directory\n")


def test_the_errno_goes_to_the_descriptor_that_asks_for_it() -> None:
    reading, writing = os.pipe()
    code, _, err = run(last_step.image(b"/etc/passwd", errors=writing), ["x"], [], writing)
    os.close(writing)
    assert code == 126 and err == ""
    assert struct.unpack("<I", os.read(reading, 8)) == (13,)
    os.close(reading)


def test_it_waits_for_a_byte_of_the_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR | os.O_CLOEXEC)
    sealed = last_step.sealed(last_step.image(b"/bin/true", fifo=fifo))
    pid = os.fork()
    if pid == 0:
        os.set_inheritable(fifo, True)
        last_step.execute(sealed, ["true"], [])
        os._exit(99)
    for _ in range(100_000):
        if os.readlink(f"/proc/{pid}/exe").startswith("/memfd:"):
            break
        os.sched_yield()
    else:
        pytest.fail("the stub was never executed")
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.write(fifo, b"0")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fifo)
    os.close(sealed)


def test_the_filter_is_loaded_before_the_program() -> None:
    # BPF: ERRNO(EPERM) for getppid(2), ALLOW for the rest.
    number = {"x86_64": 110, "aarch64": 173}[libc.MACHINE]
    instructions = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
    image = last_step.image(
        os.fsencode(sys.executable), seccomp=b"".join(struct.pack("<HBBI", *i) for i in instructions)
    )
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        script = "import os; os._exit(7 if os.getppid() == -1 else 8)"
        last_step.execute(last_step.sealed(image), ["python3", "-I", "-S", "-c", script], [])
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_nothing_can_change_it() -> None:
    fd = last_step.sealed(last_step.image(b"/bin/true"))
    assert fcntl.fcntl(fd, F_GET_SEALS) & 0xF == 0xF
    with pytest.raises(PermissionError):
        os.write(fd, b"x")
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)
