"""From the name of a suite to a shell on a terminal, and the container's life after it."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.fixtures.debian import Mirror
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.archive]


def test_the_three_commands_end_in_a_shell(
    ctk: Command, tmp_path: Path, debian_mirror: Mirror, terminal: Callable[..., Terminal]
) -> None:
    said = ctk(
        "bootstrap", "bookworm", "debianfs", debian_mirror.url, "--variant", "minbase", cwd=tmp_path, timeout=280
    )
    said.ok()
    assert "12" in (tmp_path / "debianfs/etc/debian_version").read_text()
    ctk("spec", "--rootfs", "debianfs", "--writable", cwd=tmp_path).ok()
    name = ctk.id("shell")
    screen = terminal(ctk.argv("run", name), env=ctk.environment, cwd=str(tmp_path), rows=31, columns=97)
    try:
        screen.read_until(r"[#$] $")
        # The terminal: its size, a new size, Ctrl-C for the foreground process, the shell's own line editing.
        screen.send("stty size; echo pid=$$\r")
        screen.read_until("31 97")
        screen.read_until(r"pid=1\b")
        screen.resize(40, 120)
        until(lambda: _size_is(screen, "40 120"), "the new size")
        screen.send("sleep 1000; echo rc=$?\r")
        screen.read_until(r"echo rc=\$\?\r\n")
        time.sleep(0.3)
        screen.send("\x03")
        screen.send("echo after=$((40+2))\r")
        screen.read_until("after=42")
        assert screen.rc is None

        # From outside, meanwhile.
        assert name in ctk("list").ok().out
        assert ctk("list", "-q").ok().out.split() == [name]
        state = ctk("state", name).json()
        assert state["status"] == "running" and state["bundle"] == str(tmp_path)
        assert os.readlink(f"/proc/{state['pid']}/ns/pid") != os.readlink("/proc/self/ns/pid")
        inside = ctk("exec", name, "cat", "/etc/debian_version").ok().out
        assert inside == (tmp_path / "debianfs/etc/debian_version").read_text()
        assert ctk("exec", name, "sh", "-c", "exit 41").rc == 41
        listed = json.loads(ctk("list", "--format", "json").ok().out)
        assert [row["id"] for row in listed] == [name]

        screen.send("exit 7\r")
        assert screen.wait() == 7
    finally:
        ctk("delete", "--force", name)
    assert ctk("state", name).rc == 1
    assert "does not exist" in ctk("state", name).err


def _size_is(screen: Terminal, size: str) -> bool:
    screen.send("stty size\r")
    return re.search(r"\d+ \d+\r\n", screen.read_until(r"\d+ \d+\r\n")) is not None and size in screen.shown


def test_arrow_keys_reach_the_line_editor(
    ctk: Command, made_root: Callable[[str], Path], tmp_path: Path, terminal: Callable[..., Terminal]
) -> None:
    ctk("spec", "--rootfs", str(made_root("bookworm")), "--", "bash", cwd=tmp_path).ok()
    name = ctk.id("keys")
    screen = terminal(ctk.argv("run", name), env=ctk.environment, cwd=str(tmp_path))
    screen.read_until(r"# $")
    screen.send("echo fi''rst\r")
    screen.read_until(r"first\r\n")  # what was typed has quotes in it
    screen.send("\x1b[A\r")  # up: the last line again
    screen.read_until(r"first\r\n")
    screen.send("echo wrld\x1b[D\x1b[D\x1b[Do\r")  # three to the left, and the missing letter
    # Not before the prompt: until then the terminal would take Ctrl-D for itself.
    screen.read_until(r"(\n|\r)world\r\n(?s:.*)# $")
    screen.send("\x04")  # Ctrl-D ends the shell
    assert screen.wait() == 0


def test_kill_and_delete(ctk: Command, made_root: Callable[[str], Path], tmp_path: Path) -> None:
    ctk("spec", "--rootfs", str(made_root("bookworm")), "--no-tty", "--", "sleep", "1000", cwd=tmp_path).ok()
    name = ctk.id("kill")
    with open(tmp_path / "log", "w") as log:
        process = ctk.popen("run", name, cwd=tmp_path, stdout=log, stderr=log)
        try:
            until(lambda: '"running"' in ctk("state", name).out, "the start", of=process)
            # Pid 1 of a pid namespace is deaf to signals that it has no handler for (pid_namespaces(7)): KILL it is.
            ctk("kill", name, "KILL").ok()
            assert process.wait(timeout=20) == 128 + 9
        finally:
            ctk("delete", "--force", name)
            process.kill()
            process.wait()
    assert ctk("list", "-q").ok().out == ""


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_apt_works_inside(suite: str, ctk: Command, root_of: Callable[[str], Path], tmp_path: Path) -> None:
    root_of(suite)
    # The date: see tests/fixtures/roots.py.
    script = "apt-get -q -o Acquire::Check-Valid-Until=false update && apt-get -q install -y hello && hello"
    words = ["spec", "--rootfs", suite, "--writable", "--share-net", "--no-tty", "--", "sh", "-c", script]
    ctk(*words, cwd=tmp_path).ok()
    said = ctk("run", ctk.id(suite), cwd=tmp_path, timeout=200).ok()
    assert said.out.rstrip().endswith("Hello, world!")
    with open(tmp_path / suite / "var/lib/dpkg/status") as status:
        assert "Package: hello\nStatus: install ok installed" in status.read()
