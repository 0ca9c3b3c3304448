"""What people stumble over (docs/pitfalls.md), as far as no other test shows it."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command, tool
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


def test_a_procfs_that_is_covered_around_us(
    ctk: Command, busybox_bundle: Bundle, terminal: Callable[..., Terminal]
) -> None:
    """A20: a container in a container; the outer one's masks are a tmpfs over a folder of its /proc."""

    def mapped(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            config["linux"][kind] = [{"containerID": 0, "hostID": 0, "size": 65536}]

    busybox_bundle.edit(mapped)
    words = " ".join(ctk.argv("run", ctk.id()))
    covered = f"mount -t tmpfs masked /proc/fs && exec {words}"
    run = terminal(
        ["unshare", "--mount", "sh", "-c", covered], env=ctk.environment, cwd=str(busybox_bundle), columns=300
    )
    assert run.wait() == 1 and "unmask=ALL" in run.shown, run.shown
    ctk("run", ctk.id(), cwd=str(busybox_bundle)).ok()


def test_a_bind_mount_is_one_by_its_type_alone(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    """A21."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("there")
    entry = {"destination": "/data", "type": "bind", "source": str(tmp_path / "data")}
    busybox_bundle.sh("cat /data/file").edit(lambda c: c["mounts"].append(entry))
    assert ctk("run", ctk.id(), cwd=str(busybox_bundle)).ok().out == "there"


def test_volumes_in_the_engines_words(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    """A21, A22: a source that is missing is told, never made."""
    told = ctk("spec", "--update", "-v", f"{tmp_path}/none:/data:ro", cwd=str(busybox_bundle))
    assert told.rc == 1 and f"{tmp_path}/none" in told.err
    entry = {"destination": "/data", "source": f"{tmp_path}/none", "options": ["bind"]}
    busybox_bundle.edit(lambda c: c["mounts"].append(entry))
    told = ctk("run", ctk.id(), cwd=str(busybox_bundle))
    assert told.rc == 1 and "no such file or directory" in told.err
    assert not (tmp_path / "none").exists()


def test_systemd_is_asked_to_shut_down(ctk: Command, busybox_bundle: Bundle) -> None:
    """A37: to it SIGTERM means to execute itself anew; the first process's name is what counts."""
    name = ctk.id()
    script = busybox_bundle.rootfs / "sbin/systemd"
    script.write_text("#!/bin/sh\ntrap 'echo down; exit 0' 37\necho up\nwhile :; do sleep 0.05; done\n")
    script.chmod(0o755)
    busybox_bundle.args("/sbin/systemd")
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    try:
        until(lambda: "up" in ctk("logs", name).out, "the trap")
        assert ctk("stop", name).ok().err == ""
        assert ctk("logs", "-f", name).out == "up\ndown\n"
    finally:
        ctk("delete", "--force", name).ok()


def test_a_detached_container_reads_nothing_of_ours_and_prints_nothing_into_it(
    ctk: Command, busybox_bundle: Bundle, terminal: Callable[..., Terminal]
) -> None:
    """A7."""
    name = ctk.id()
    busybox_bundle.sh("echo not here; read x; echo end $?")
    run = terminal(ctk.argv("run", "-d", name), env=ctk.environment, cwd=str(busybox_bundle))
    try:
        assert run.wait() == 0 and "not here" not in run.shown
        assert ctk("logs", "-f", name).out == "not here\nend 1\n"
    finally:
        ctk("delete", "--force", name).ok()


def test_a_signal_to_the_foreground_and_the_end_of_its_parent(ctk: Command, busybox_bundle: Bundle) -> None:
    """A14: killed, `ctk run` leaves its container running; it is found by its id."""
    name = ctk.id()
    busybox_bundle.args("/bin/sleep", "1000")
    run = ctk.popen("run", name, cwd=str(busybox_bundle), stderr=subprocess.DEVNULL)
    try:
        until(lambda: '"running"' in ctk("state", name).out, "the start", of=run)
        run.kill()
        run.wait()
        assert ctk("state", name).json()["status"] == "running"
    finally:
        ctk("delete", "--force", name).ok()


def test_ping_without_a_capability(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    """A39: ping(8) opens a datagram socket of ICMP (icmp(7), ping_group_range); busybox's own only knows raw ones."""
    source = tmp_path / "ping.c"
    source.write_text("#include <sys/socket.h>\nint main(void) { return socket(AF_INET, SOCK_DGRAM, 1) < 0; }\n")
    subprocess.run([tool("gcc"), "-static", "-o", busybox_bundle.rootfs / "bin/echo-socket", source], check=True)
    words = ("--update", "--no-tty", "--cap-drop", "ALL", "--", "/bin/echo-socket")
    ctk("spec", *words, cwd=str(busybox_bundle)).ok()
    assert ctk("run", ctk.id(), cwd=str(busybox_bundle)).rc == 1
    ctk("spec", "--update", "--sysctl", "net.ipv4.ping_group_range=0 0", cwd=str(busybox_bundle)).ok()
    ctk("run", ctk.id(), cwd=str(busybox_bundle)).ok()
