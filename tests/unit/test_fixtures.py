"""The fixtures that other tests lean on must bite themselves."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.leaks import TAG, Snapshot, clear, left_over
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import until


def test_a_process_left_behind_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = str(tmp_path_factory.getbasetemp())
    before = Snapshot.take()
    environment = {**os.environ, "CTK_TEST_TAG": TAG}
    # Popen returns when exec has closed its pipe, maybe before /proc/PID/environ is there: wait for a sign of life.
    program = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    process = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"\n"
        found = left_over(before, base)
        assert any(item.startswith(f"{process.pid} ") for item in found["process"])
        clear({"process": [item for item in found["process"] if item.startswith(f"{process.pid} ")]}, base)
        assert process.wait(timeout=5) == -9
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.root
def test_a_mount_left_behind_is_found(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    before = Snapshot.take()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    found = left_over(before, str(tmp_path_factory.getbasetemp()))
    mine = [item for item in found["mount"] if item.startswith(str(tmp_path) + " ")]
    assert len(mine) == 1
    clear({"mount": mine}, str(tmp_path_factory.getbasetemp()))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.root
def test_whoever_makes_a_mount_owns_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ours is found wherever it lies and whatever it is called; a stranger's is not, in our own folder neither."""
    base = f"{tmp_path_factory.getbasetemp()}/"
    strange = tmp_path_factory.mktemp("strange")
    with tempfile.TemporaryDirectory(prefix="elsewhere-") as elsewhere:
        before = Snapshot.take()
        script = f"mount -t tmpfs none {strange}; echo; read line"
        words = ["unshare", "--mount", "sh", "-c", script]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
            assert stranger.stdout is not None and stranger.stdout.readline() == b"\n"
            subprocess.run(["mount", "-t", "tmpfs", "none", elsewhere], check=True)
            found = left_over(before, base)
            subprocess.run(["umount", elsewhere], check=True)
            stranger.communicate(b"\n")
    assert [item.partition(" (")[0] for item in found["mount"]] == [elsewhere]


def test_terminal_shows_keys_size_and_exit_code(terminal: Callable[..., Terminal]) -> None:
    screen = terminal(["/bin/sh"], rows=30, columns=100, env={"PS1": "ready> ", "PATH": os.environ["PATH"]})
    screen.read_until("ready> ")
    screen.send("stty size\r")
    screen.read_until("30 100")
    screen.resize(40, 120)
    screen.send("stty size; kill -0 $$ && exit 7\r")
    screen.read_until("40 120")
    assert screen.wait() == 7


def test_a_wait_gives_the_first_true_answer_and_what_there_was_when_none_came() -> None:
    answers = iter(["", "half", "whole"])
    assert until(lambda: next(answers), "words") == "half"
    with pytest.raises(pytest.fail.Exception, match=r"words: not in 0 s; the last answer: \[\]"):
        until(list, "words", timeout_s=0)
    with subprocess.Popen(["false"]) as ended, pytest.raises(pytest.fail.Exception, match="the process ended with 1"):
        until(list, "words", of=ended)
