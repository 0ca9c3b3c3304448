"""`ctk inspect`, `stats`, `top` and `diff` of containers that run."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import until

pytestmark = pytest.mark.root


@pytest.fixture
def busy(ctk: Command, new_bundle: Callable[..., Bundle]) -> Iterator[str]:
    """A container that burns a processor, waits on two ports and may use 64 MB and 50 tasks."""
    bundle = new_bundle("busy").sh("nc -l -p 8080 & httpd -p 127.0.0.1:8081; while :; do :; done")
    ctk("spec", "--update", "--memory", "64M", "--pids-limit", "50", "--hostname", "busy", cwd=bundle.path).ok()
    name = ctk.id("busy")
    ctk("run", "-d", name, cwd=bundle.path).ok()
    yield name
    ctk("delete", "--force", name).ok()


def test_inspect_shows_what_the_kernel_shows(ctk: Command, busy: str) -> None:
    def inspected() -> dict:
        told = ctk("inspect", "--json", busy).json()
        return told if len(told.get("ports", [])) == 2 else {}

    told = until(inspected, "two ports")
    pid = ctk("state", busy).json()["pid"]
    assert (told["status"], told["pid"], told["hostname"]) == ("running", pid, "busy")
    for row in told["namespaces"]:
        assert os.readlink(f"/proc/{pid}/ns/{row['type']}") == f"{row['type']}:[{row['inode']}]"
        assert row["shared"] == (os.readlink(f"/proc/self/ns/{row['type']}") == f"{row['type']}:[{row['inode']}]")
    assert {row["type"] for row in told["namespaces"] if not row["shared"]} >= {"ipc", "mnt", "net", "pid", "uts"}
    limits = {row["name"]: row for row in told["cgroups"]["limits"]}
    assert (limits["memory"]["limit"], limits["pids"]["limit"]) == (64 << 20, 50)
    assert 0 < limits["memory"]["current"] < 64 << 20
    assert Path(limits["pids"]["file"]).read_text() == "50\n"
    assert told["capabilities"]["effective"] == ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"]
    assert told["noNewPrivileges"] is True and told["seccomp"]["mode"] == "off"
    ports = {(row["protocol"].rstrip("6"), row["port"]): row for row in told["ports"]}
    assert set(ports) == {("tcp", 8080), ("tcp", 8081)} and ports["tcp", 8081]["address"] == "127.0.0.1"
    commands = {row["pid"]: row for row in told["processes"]}
    assert commands[ports["tcp", 8080]["pid"]]["command"] == "nc -l -p 8080"
    assert commands[pid]["innerPid"] == 1
    assert {"/", "/proc", "/dev"} <= {row["destination"] for row in told["mounts"]}
    shown = ctk("inspect", busy).ok().out
    for words in ("namespaces:", "its own", "64.0M", "127.0.0.1 8081", "kill net_bind_service audit_write"):
        assert words in shown


def test_stats_and_top_measure_it(ctk: Command, busy: str, new_bundle: Callable[..., Bundle]) -> None:
    idle = ctk.id("idle")
    ctk("run", "-d", idle, cwd=new_bundle("idle").sh("sleep 1000").path).ok()
    try:
        rows = {row["id"]: row for row in ctk("stats", "--json").json()}
        assert set(rows) == {busy, idle}
        assert rows[busy]["cpuPercent"] > 5 > rows[idle]["cpuPercent"]
        assert (rows[busy]["memoryLimit"], rows[busy]["pidsLimit"], rows[idle]["pidsLimit"]) == (64 << 20, 50, None)
        heading, line = ctk("stats", busy).ok().out.splitlines()
        assert heading.split()[:3] == ["ID", "CPU", "%"] and line.split()[0] == busy
        processes = ctk("top", busy, "--json").json()
        assert {one["id"] for one in processes} == {busy}
        assert processes[0]["inner_pid"] == 1 and processes[0]["cpuPercent"] > 5
        assert "sleep 1000" in ctk("top").ok().out
    finally:
        ctk("delete", "--force", idle).ok()
    gone = ctk("stats", idle)
    assert gone.rc == 1 and "does not exist" in gone.err


@pytest.mark.parametrize(("verb", "key"), [("stats", "q"), ("top", "q"), ("top", "\x03")])
def test_on_a_terminal_the_table_lives_until_q_or_ctrl_c(
    ctk: Command, busy: str, terminal: Callable[..., Terminal], verb: str, key: str
) -> None:
    screen = terminal(ctk.argv(verb, "--interval", "0.2"), env={**ctk.environment, "TERM": "xterm"}, columns=120)
    for _ in range(2):
        screen.read_until(busy)
    screen.read_until("q leaves")
    screen.send(key)
    assert screen.wait() == 0
    assert "\x1b[?1049l" in screen.shown  # the screen that was there is back


def test_diff_shows_what_the_container_did(ctk: Command, tmp_path: Path) -> None:
    ctk("bootstrap", "host", "fs", cwd=tmp_path).ok()
    assert ctk("diff", "fs", cwd=tmp_path).ok().out == ""
    script = "echo >>/etc/hosts; rm /usr/bin/yes; mkdir /new; touch /new/file"
    ctk("spec", "--rootfs", "fs", "--writable", "--no-tty", "--", "sh", "-c", script, cwd=tmp_path).ok()
    name = ctk.id()
    ctk("run", "--keep", name, cwd=tmp_path).ok()
    changed = ctk("diff", name).ok().out
    ctk("delete", name).ok()
    lines = changed.splitlines()
    assert {"C /etc/hosts", "C /usr/bin", "D /usr/bin/yes", "A /new", "A /new/file"} <= set(lines)
    assert not [line for line in lines if line[0] != "C" and "/new" not in line and "/usr/bin" not in line]
    other = ctk("diff", str(tmp_path))
    assert other.rc == 1 and "there is no record of it" in other.err


def test_diff_sees_the_layer_of_an_ephemeral_container(ctk: Command, tmp_path: Path) -> None:
    ctk("bootstrap", "host", "fs", cwd=tmp_path).ok()
    script = "echo >>/etc/hosts; rm /usr/bin/yes; touch /new; exec sleep 1000"
    ctk("spec", "--rootfs", "fs", "--writable", "--no-tty", "--", "sh", "-c", script, cwd=tmp_path).ok()
    name = ctk.id()
    ctk("run", "-d", "--ephemeral", name, cwd=tmp_path).ok()

    def changed() -> list[str]:
        lines = ctk("diff", name).ok().out.splitlines()
        return lines if "A /new" in lines else []

    lines = until(changed, "the last change")
    assert {"C /etc/hosts", "D /usr/bin/yes", "A /new"} <= set(lines)
    assert not [line for line in lines if line.startswith(("A /proc/", "A /sys/", "A /dev/"))]
    assert not (tmp_path / "fs/new").exists()
    ctk("kill", name, "KILL").ok()
    until(lambda: ctk("state", name).json()["status"] == "stopped", "its end")
    ended = ctk("diff", name)
    assert ended.rc == 1 and "the container has ended" in ended.err
    ctk("delete", name).ok()


def test_a_stopped_container_is_told_by_its_record(ctk: Command, busybox_bundle: Bundle) -> None:
    name = ctk.id()
    ctk("run", "--keep", name, cwd=busybox_bundle.path).ok()
    told = ctk("inspect", name, "--json").json()
    assert (told["status"], told["pid"]) == ("stopped", 0) and "namespaces" not in told
    refused = ctk("top", name)
    assert refused.rc == 1 and "it is not running" in refused.err
    ctk("delete", name).ok()
