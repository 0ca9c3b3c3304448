"""containerd's own client, `ctr`, through the runc shim and ctk."""

import json
from collections.abc import Callable, Iterator

import pytest

from tests.clients.conftest import IMAGE, Containerd
from tests.clients.room import limit, wait_for
from tests.fixtures.terminal import Terminal

pytestmark = pytest.mark.root


@pytest.fixture
def up(containerd: Containerd) -> Iterator[Callable[..., str]]:
    """Starts detached tasks; all are ended and removed."""
    names: list[str] = []

    def start(name: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
        names.append(name)
        containerd.run("--detach", *options, IMAGE, name, *arguments).ok()
        return name

    yield start
    for name in names:
        containerd("task", "rm", "--force", name)
        containerd("container", "rm", name).ok()


def task_status(containerd: Containerd, name: str) -> str:
    lines = [line.split() for line in containerd("task", "ls").ok().out.splitlines()]
    return next((words[2] for words in lines if words[0] == name), "")


def test_run(containerd: Containerd) -> None:
    told = containerd.run("--rm", IMAGE, "once", "sh", "-c", "id -u; ls /proc/self/fd; exit 6")
    # The shim's listening socket is descriptor 3 of `create`: the container must not get it.
    assert (told.rc, told.out.split()) == (6, list("00123"))


def test_what_cannot_run_says_why(containerd: Containerd) -> None:
    told = containerd.run("--rm", IMAGE, "wrong", "/missing")
    assert told.rc != 0
    assert "no such file or directory" in told.err
    wait_for("the removal of the container", lambda: "wrong" not in containerd("container", "ls").out)


def test_terminal(containerd: Containerd, terminal: Callable[..., Terminal]) -> None:
    run = containerd.argv("run", "--rm", "--tty", "--runc-binary", containerd.room.runtime, IMAGE, "typed", "sh")
    shell = terminal(run, rows=33, columns=99)
    shell.read_until(r"/ # ")
    shell.send("sleep 0.3; stty size; tty\r")
    assert "33 99" in shell.read_until(r"/dev/pts/0")
    shell.send("exit 3\r")
    assert shell.wait() == 3


def test_exec_pause_kill(containerd: Containerd, up: Callable[..., str]) -> None:
    name = up("living", "sh", "-c", "trap 'exit 8' TERM; while :; do sleep 0.1; done")
    told = containerd("task", "exec", "--exec-id", "e1", "--cwd", "/tmp", name, "sh", "-c", "pwd; exit 5")
    assert (told.rc, told.out) == (5, "/tmp\n")
    pids = containerd("task", "ps", name).ok().out.split()
    assert len([word for word in pids if word.isdigit()]) >= 1
    containerd("task", "pause", name).ok()
    assert task_status(containerd, name) == "PAUSED"
    containerd("task", "resume", name).ok()
    assert task_status(containerd, name) == "RUNNING"
    metrics = json.loads(containerd("task", "metrics", "--format", "json", name).ok().out)
    assert int((metrics.get("pids") or {}).get("current", 0)) >= 1
    containerd("task", "kill", "--signal", "SIGTERM", name).ok()
    wait_for("its end", lambda: task_status(containerd, name) == "STOPPED")
    assert "non-zero exit code 8" in containerd("task", "rm", name).ok().err


def test_kill_all(containerd: Containerd, up: Callable[..., str]) -> None:
    name = up("several", "sh", "-c", "sleep 1000 & sleep 1000")
    containerd("task", "kill", "--all", "--signal", "SIGKILL", name).ok()
    wait_for("its end", lambda: task_status(containerd, name) == "STOPPED")


def test_limits_and_rights(containerd: Containerd, up: Callable[..., str]) -> None:
    name = up(
        "limited",
        "sleep",
        "1000",
        options=("--memory-limit", str(48 << 20), "--seccomp", "--cgroup", "/default/limited"),
    )
    assert limit("/default/limited", "memory.limit_in_bytes") == str(48 << 20)
    status = containerd("task", "exec", "--exec-id", "s", name, "cat", "/proc/1/status").ok().out
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status


def test_privileged(containerd: Containerd) -> None:
    told = containerd.run("--rm", "--privileged", IMAGE, "strong", "sh", "-c", "mount -t tmpfs x /tmp && echo mounted")
    assert told.ok().out == "mounted\n"
