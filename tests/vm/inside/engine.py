"""podman without root, with ctk as its runtime and the user's systemd as its cgroup manager. Runs as that user."""

import io
import json
import tarfile
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import CTK, Done, Facts, case

IMAGE = "localhost/box"


def podman(*words: str, input: str = "") -> Done:
    # journald keeps nothing of a user's here, so logs go to files.
    return room.run("podman", "--runtime", CTK, "--log-level", "error", *words, input=input, timeout_s=180)


def prepare() -> None:
    """An image of one busybox, without a registry."""
    root = room.root_folder()
    archive = room.HOME / "box.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, "")
        hosts = tarfile.TarInfo("etc/hosts")
        tar.addfile(hosts, io.BytesIO(b""))
    podman("import", "--change", "CMD=/bin/sh", str(archive), IMAGE).ok()


@case
def runtime() -> Facts:
    told = json.loads(podman("info", "--format", "json").ok().out)["host"]
    return {"runtime": told["ociRuntime"], "manager": told["cgroupManager"], "rootless": told["security"]["rootless"]}


@case
def limits() -> Facts:
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max; id -u; exit 7"
    words = ["--memory", "40m", "--pids-limit", "25", "--cpus", "0.5"]
    return podman("run", "--rm", "--network", "none", *words, IMAGE, "sh", "-c", script).facts()


@case
def network() -> Facts:
    """The default one (pasta): a network namespace of podman's making, and /sys of its own."""
    script = "cat /proc/net/dev | wc -l; ls /sys/class/net; grep -c . /etc/resolv.conf"
    return podman("run", "--rm", IMAGE, "sh", "-c", script).facts()


@case
def oom() -> Facts:
    """conmon asks the cgroup once more when the first process has ended.

    It may well be its only look: its watch ends at the first event that is no kill yet (conmon 2.1, check_cgroup2_oom).
    systemd removes an empty cgroup as fast. So another process has to stay in it, which needs the host's pid namespace.
    """
    words = ["--network", "none", "--name", "oom", "--memory", "24m", "--memory-swap", "24m", "--pid", "host"]
    script = "sleep 302 >/dev/null 2>&1 & dd if=/dev/zero of=/dev/null bs=64M count=1"
    done = podman("run", *words, IMAGE, "sh", "-c", script)
    killed = podman("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "oom").out
    podman("rm", "-f", "oom").ok()
    return {**done.facts(), "inspect": killed.strip(), "stays": "sleep 302" in room.run("ps", "-eo", "args").ok().out}


@case
def pod() -> Facts:
    """Two containers of a pod with one pid namespace: the second joins by path what the first one has made."""
    podman("run", "-d", "--network", "none", "--name", "first", "--stop-timeout", "1", IMAGE, "sleep", "301").ok()
    joined = podman(
        "run", "--rm", "--pid", "container:first", "--network", "container:first", IMAGE, "ps", "-o", "args"
    )
    podman("rm", "-f", "-t", "0", "first").ok()
    return joined.facts()


@case
def life() -> Facts:
    """run -d, exec, top, stats, pause, update, kill, rm."""
    words = ["--network", "none", "--name", "life", "--stop-timeout", "1"]
    podman("run", "-d", *words, IMAGE, "sh", "-c", "echo up; sleep 300").ok()
    pid = podman("inspect", "--format", "{{.State.Pid}}", "life").ok().out.strip()
    at = room.cgroup(pid)
    seen: Facts = {"cgroup": str(at), "uid_map": room.read(f"/proc/{pid}/uid_map").split()}
    seen["logs"] = podman("logs", "life").facts()
    seen["exec"] = podman("exec", "-e", "A=b", "life", "sh", "-c", "echo $A; cat /proc/self/cgroup; exit 3").facts()
    seen["input"] = podman("exec", "-i", "life", "cat", input="through\n").facts()
    seen["top"] = podman("top", "life", "args").facts()
    seen["stats"] = podman("stats", "--no-stream", "--format", "json", "life").facts()
    podman("pause", "life").ok()
    seen["frozen"] = "frozen 1" in room.read(at / "cgroup.events")
    podman("unpause", "life").ok()
    podman("update", "--memory", "64m", "life").ok()
    seen["memory.max"] = room.read(at / "memory.max")
    podman("kill", "life").ok()
    podman("wait", "life").ok()
    seen["rm"] = podman("rm", "life").facts()
    seen["left"] = [str(at)] if at.exists() else []
    seen["records"] = [path.name for path in Path(f"/run/user/{Path.home().stat().st_uid}/ctk").glob("*")]
    return seen


if __name__ == "__main__":
    room.main(prepare)
