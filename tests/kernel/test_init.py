"""The small first process of `--init`: what it does for the program under it."""

import os
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.waiting import children_of, until
from tests.kernel.test_handover import image
from toolkit.kernel import process
from toolkit.kernel.program.program import sealed
from toolkit.runtime import handover


def started(script: str) -> "tuple[int, int]":
    """(pid of the init, reading end of what the script prints) of a shell script under the init, in a child of ours."""
    reading, writing = os.pipe()
    fd = sealed(image("/bin/sh", ["sh", "-c", script], ["PATH=/usr/bin:/bin"], init=True))
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(writing, 1)
            process.execveat(fd, "", ["sh"], [], 0x1000)
        finally:
            os._exit(99)
    os.close(fd)
    os.close(writing)
    return pid, reading


def line(fd: int) -> str:
    text = b""
    while not text.endswith(b"\n") and (byte := os.read(fd, 1)):
        text += byte
    return text.decode()


def end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 0", 0)])
def test_its_exit_code_is_the_program_s(script: str, code: int) -> None:
    pid, out = started(script)
    assert end(pid) == code
    os.close(out)


def test_signals_are_passed_on() -> None:
    pid, out = started("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    assert line(out) == "ready\n"
    os.kill(pid, signal.SIGTERM)
    assert line(out) == "got\n"
    assert end(pid) == 3
    os.close(out)


def test_orphans_are_reaped() -> None:
    pid, out = started("(sh -c 'echo $PPID; exec sleep 0.2' & ) ; echo forked; sleep 1.5; exit 0")
    assert {line(out)[:1].isdigit(), line(out)[:1].isdigit()} == {True, False}
    time.sleep(0.8)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    states = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in children]
    assert "Z" not in states and len(children) == 1, (children, states)
    assert end(pid) == 0
    os.close(out)


def test_a_missing_program_is_127() -> None:
    fd = sealed(image("/no/such", ["x"], init=True))
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        process.execveat(fd, "", ["x"], [], 0x1000)
        os._exit(99)
    assert end(pid) == 127
    os.close(fd)


def test_the_filter_holds_for_both() -> None:
    # ERRNO(EPERM) for getppid(2), ALLOW for the rest; sh asks for its parent when it starts.
    from toolkit.kernel import libc

    number = {"x86_64": 110, "aarch64": 173}[libc.MACHINE]
    program = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("<HBBI", *each) for each in program)
    data = image("/bin/sleep", ["sleep", "5"], init=True, filter=handover.Filter(code, 0))
    pid = os.fork()
    if pid == 0:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        process.execveat(sealed(data), "", ["sleep"], [], 0x1000)
        os._exit(99)
    for each in (str(pid), *until(lambda: children_of(pid), "its child")):
        status = Path(f"/proc/{each}/status").read_text()
        assert "Seccomp:\t2" in status, status
    os.kill(pid, signal.SIGTERM)
    assert end(pid) == 128 + signal.SIGTERM


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_in_a_container_a_signal_reaches_what_the_kernel_would_shield(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.args("/bin/sleep", "1000")
    for option, code in (((), None), (("--init",), 143)):
        running = ctk.popen("run", *option, name := ctk.id(), cwd=str(busybox_bundle), stderr=subprocess.DEVNULL)
        try:
            until(lambda name=name: '"running"' in ctk("state", name).out, "the start", of=running)
            if option:
                pid = ctk("state", name).json()["pid"]
                until(lambda pid=pid: children_of(pid), "its child")
            ctk("kill", name, "TERM").ok()
            if code is None:
                time.sleep(0.3)
                assert running.poll() is None  # pid_namespaces(7): a first process without a handler
                ctk("kill", name, "KILL").ok()
            else:
                assert running.wait(20) == code
        finally:
            ctk("delete", "--force", name)
            running.wait(20)


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_the_annotation_asks_for_it_too(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("cat /proc/1/comm; echo $$").edit(
        lambda c: c.setdefault("annotations", {}).update({"ctk.init": "true"})
    )
    assert ctk("run", ctk.id(), cwd=str(busybox_bundle)).ok().out == "ctk-init\n2\n"
