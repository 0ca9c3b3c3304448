"""The end of a container's program, in processes of ours: what it waits for, loads, executes and tells."""

import errno
import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fixtures.waiting import until
from toolkit.kernel import libc, process
from toolkit.kernel.program.program import Program, sealed
from toolkit.runtime import executable, handover, spawn


def image(path: str, argv: Sequence[str], environment: Sequence[str] = (), **settings: object) -> bytes:
    """The program of an end that executes `path`; `settings` are attributes of the Handover."""
    p = Program(2)
    found = executable.Found(p)
    found.put(p, path)
    end = handover.Handover()
    for name, value in settings.items():
        setattr(end, name, value)
    handover.emit(p, end, found, p.strings(argv), p.strings(environment))
    return p.image()


def run(data: bytes) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the program in a child of ours."""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    fd = sealed(data)
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(out, 1)
            os.dup2(err, 2)
            process.execveat(fd, "", ["ctk"], [], 0x1000)
        finally:
            os._exit(99)
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    told = []
    for each in (out, err):
        os.lseek(each, 0, os.SEEK_SET)
        told.append(os.read(each, 65536).decode())
        os.close(each)
    return os.waitstatus_to_exitcode(status), told[0], told[1]


def test_it_becomes_the_program_with_its_arguments_and_environment() -> None:
    code, out, err = run(image("/bin/sh", ["sh", "-c", "echo $0 $A; exit 3", "name"], ["A=b c"]))
    assert (code, out, err) == (3, "name b c\n", "")


def test_a_missing_program_is_127_and_told() -> None:
    code, out, err = run(image("/no/such", ["x"]))
    assert (code, out, err) == (127, "", "exec /no/such: no such file or directory\n")


def test_other_errors_are_126_and_told(tmp_path: Path) -> None:
    assert run(image("/etc/passwd", ["x"])) == (126, "", "exec /etc/passwd: permission denied\n")
    (tmp_path / "text").write_text("\n")
    (tmp_path / "text").chmod(0o755)
    assert run(image(f"{tmp_path}/text", ["x"])) == (126, "", f"exec {tmp_path}/text: exec format error\n")
    (tmp_path / "loop").symlink_to("loop")
    told = f"exec {tmp_path}/loop: failed, errno {errno.ELOOP}\n"
    assert run(image(f"{tmp_path}/loop", ["x"])) == (126, "", told)


def test_it_waits_for_a_byte_of_the_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR | os.O_CLOEXEC)
    other = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(other, True)
    fd = sealed(image("/bin/true", ["true"], fifo=fifo))
    pid = spawn.sealed_program(fd, ["true"], [fifo])
    for _ in range(100_000):
        if set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2", str(fifo)}:
            break
        os.sched_yield()
    else:
        pytest.fail("it did not come to wait with only its fifo open")
    assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:")
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.write(fifo, b"0")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for each in (fifo, other, fd):
        os.close(each)


def test_a_fifo_that_is_gone_ends_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    fd = sealed(image("/bin/true", ["true"], fifo=fifo))
    pid = spawn.sealed_program(fd, ["true"], [fifo])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    os.close(fifo)
    os.close(fd)


def test_signals_end_it_while_it_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDWR | os.O_CLOEXEC)
    fd = sealed(image("/bin/true", ["true"], fifo=fifo, obeys=True))
    pid = spawn.sealed_program(fd, ["true"], [fifo])
    until(lambda: "SigCgt:\t000000007780feff" in Path(f"/proc/{pid}/status").read_text(), "the last handler")
    os.kill(pid, 15)
    # By its handler, which exits; the kernel would report a signal without one as a death by it.
    assert os.waitpid(pid, 0)[1] == (128 + 15) << 8
    os.close(fifo)
    os.close(fd)


def test_the_filter_is_loaded_before_the_program() -> None:
    # BPF: ERRNO(EPERM) for getppid(2), ALLOW for the rest.
    number = {"x86_64": 110, "aarch64": 173}[libc.MACHINE]
    instructions = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
    filter_ = handover.Filter(b"".join(struct.pack("<HBBI", *each) for each in instructions), 0)
    script = "import os; os._exit(7 if os.getppid() == -1 else 8)"
    data = image(sys.executable, ["python3", "-I", "-S", "-c", script], filter=filter_)
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        process.execveat(sealed(data), "", ["x"], [], 0x1000)
        os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
