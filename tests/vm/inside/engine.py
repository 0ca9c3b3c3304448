"""podman without root, with ctk as its runtime and the user's systemd as its cgroup manager. Runs as that user."""

from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import CTK, Done, Facts, case, rare

IMAGE = "localhost/box"  # of one busybox; podman had it before the guest was saved (guest.py)


def podman(*words: str, input: str = "") -> Done:
    # journald keeps nothing of a user's here, so logs go to files.
    return room.run("podman", "--runtime", CTK, "--log-level", "error", *words, input=input, timeout_s=180)


@case
def limits() -> Facts:
    """Its limits; the default network (pasta): a network namespace of podman's making, and a /sys of its own."""
    script = (
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max; id -u; ls /sys/class/net; exit 7"
    )
    return podman(
        "run", "--rm", "--memory", "40m", "--pids-limit", "25", "--cpus", "0.5", IMAGE, "sh", "-c", script
    ).facts()


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


def begin(name: str, script: str) -> None:
    podman("run", "-d", "--network", "none", "--name", name, "--stop-timeout", "1", IMAGE, "sh", "-c", script).ok()


@case
def life() -> Facts:
    """run -d, exec, rm."""
    begin("life", "sleep 300")
    words = "{{.State.Pid}} {{.OCIRuntime}} {{.HostConfig.CgroupManager}}"
    pid, runtime, manager = podman("inspect", "--format", words, "life").ok().out.split()
    at = room.cgroup(pid)
    seen: Facts = {"runtime": runtime, "manager": manager, "cgroup": str(at)}
    seen["uid_map"] = room.read(f"/proc/{pid}/uid_map").split()
    script = "cat; echo $A; cat /proc/self/cgroup; exit 3"
    seen["exec"] = podman("exec", "-i", "-e", "A=b", "life", "sh", "-c", script, input="through\n").facts()
    seen["rm"] = podman("rm", "-f", "-t", "0", "life").facts()
    seen["left"] = [str(at)] if at.exists() else []
    seen["records"] = [path.name for path in Path(f"/run/user/{Path.home().stat().st_uid}/ctk").glob("*")]
    return seen


@rare
def changed() -> Facts:
    """A second container, which joins the first one's namespaces by path; pause and update."""
    begin("changed", "sleep 300")
    at = room.cgroup(podman("inspect", "--format", "{{.State.Pid}}", "changed").ok().out.strip())
    seen: Facts = {}
    joined = ["--pid", "container:changed", "--network", "container:changed"]
    seen["pod"] = podman("run", "--rm", *joined, IMAGE, "ps", "-o", "args").facts()
    podman("pause", "changed").ok()
    seen["frozen"] = "frozen 1" in room.read(at / "cgroup.events")
    podman("unpause", "changed").ok()
    podman("update", "--memory", "64m", "changed").ok()
    seen["memory.max"] = room.read(at / "memory.max")
    podman("rm", "-f", "-t", "0", "changed").ok()
    return seen


@rare
def watched() -> Facts:
    """What podman tells of a container, mostly without ctk; and its end by podman's own kill."""
    begin("watched", "echo up; sleep 301")
    seen: Facts = {"logs": podman("logs", "watched").facts()}
    seen["top"] = podman("top", "watched", "args").facts()
    seen["stats"] = podman("stats", "--no-stream", "--format", "json", "watched").facts()
    podman("kill", "watched").ok()
    seen["wait"] = podman("wait", "watched").facts()
    seen["rm"] = podman("rm", "watched").facts()
    return seen


if __name__ == "__main__":
    room.main()
