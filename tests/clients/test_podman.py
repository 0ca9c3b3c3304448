"""podman, with ctk as its runtime."""

import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests.clients.conftest import IMAGE, Podman
from tests.clients.room import limit, wait_for
from tests.fixtures.terminal import Terminal

pytestmark = pytest.mark.root


@pytest.fixture
def up(podman: Podman) -> Iterator[Callable[..., str]]:
    """Starts detached containers; all are removed at the end."""
    names: list[str] = []

    def start(*arguments: str) -> str:
        names.append(podman("run", "-d", *arguments).ok().out.strip())
        return names[-1]

    yield start
    for name in names:
        podman("rm", "--force", "--time", "0", name).ok()


def test_run_goes_through_ctk(podman: Podman) -> None:
    assert "ctk" in podman("info", "--format", "{{.Host.OCIRuntime.Name}}").ok().out
    told = podman("run", "--rm", IMAGE, "sh", "-c", "id -u; hostname; cat /proc/1/comm; exit 7")
    assert told.rc == 7
    assert told.out.split()[0] == "0"
    assert re.fullmatch(r"[0-9a-f]{12}", told.out.split()[1])


@pytest.mark.parametrize(("command", "code"), [("/nonexistent", 127), ("/etc/passwd", 126), ("/bin/false", 1)])
def test_exit_codes_that_podman_reads_from_our_messages(podman: Podman, command: str, code: int) -> None:
    assert podman("run", "--rm", IMAGE, command).rc == code


def test_standard_streams_are_the_containers(podman: Podman) -> None:
    told = podman("run", "--rm", "-i", IMAGE, "sh", "-c", "cat; echo wrong >&2", input="typed\n")
    assert (told.rc, told.out, told.err) == (0, "typed\n", "wrong\n")


def test_terminal(podman: Podman, terminal: Callable[..., Terminal]) -> None:
    shell = terminal(podman.argv("run", "--rm", "-it", IMAGE, "sh"), rows=31, columns=97)
    shell.read_until(r"/ # ")
    shell.send("stty size; tty\r")
    assert "31 97" in shell.read_until(r"/dev/pts/0")
    shell.resize(40, 111)
    shell.send("sleep 0.2; stty size\r")
    shell.read_until(r"40 111")
    shell.send("exit 5\r")
    assert shell.wait() == 5


def test_exec(podman: Podman, up: Callable[..., str], terminal: Callable[..., Terminal]) -> None:
    name = up(IMAGE, "sleep", "1000")
    told = podman(
        "exec",
        "--env",
        "A=b",
        "--user",
        "1000:50",
        "--workdir",
        "/tmp",
        name,
        "sh",
        "-c",
        "echo $A; id -u; id -g; pwd; exit 9",
    )
    assert (told.rc, told.out.split()) == (9, ["b", "1000", "50", "/tmp"])
    assert podman("exec", name, "/missing").rc == 127
    shell = terminal(podman.argv("exec", "-it", name, "sh"))
    shell.read_until(r"/ # ")
    shell.send("tty; exit 4\r")
    shell.read_until(r"/dev/pts/0")
    assert shell.wait() == 4


@pytest.mark.usefixtures("cgroups_by_path")
def test_pause_stats_top(podman: Podman, up: Callable[..., str]) -> None:
    name = up(IMAGE, "sh", "-c", "while :; do :; done")
    pid = podman("inspect", "--format", "{{.State.Pid}}", name).ok().out.strip()
    assert pid != "0"
    podman("pause", name).ok()
    assert podman("inspect", "--format", "{{.State.Status}}", name).ok().out.strip() == "paused"
    assert podman("exec", name, "true").rc != 0
    podman("unpause", name).ok()
    usage = podman("stats", "--no-stream", "--format", "json", name).json()[0]
    assert int(usage["pids"]) == 1
    assert podman("top", name, "pid", "comm").ok().out.split()[-2:] == ["1", "sh"]


def test_kill_and_stop(podman: Podman, up: Callable[..., str]) -> None:
    name = up(IMAGE, "sh", "-c", "trap 'exit 3' USR1; while :; do sleep 0.1; done")
    podman("kill", "--signal", "USR1", name).ok()
    assert podman("wait", name).ok().out.strip() == "3"
    stubborn = up(IMAGE, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    podman("stop", "--time", "1", stubborn).ok()
    assert podman("inspect", "--format", "{{.State.ExitCode}}", stubborn).ok().out.strip() == "137"
    shared = up("--pid", "host", IMAGE, "sh", "-c", "sleep 1000 & sleep 1000")
    podman("stop", "--time", "1", shared).ok()


def test_logs_cp_diff_commit(podman: Podman, up: Callable[..., str]) -> None:
    name = up(IMAGE, "sh", "-c", "echo said; touch /made; sleep 1000")
    wait_for("its line in the log", lambda: "said" in podman("logs", name).out)
    assert "A /made" in podman("diff", name).ok().out
    podman("cp", f"{name}:/etc/group", "-").ok()
    podman("commit", "-q", name, "localhost/committed").ok()
    podman("run", "--rm", "localhost/committed", "test", "-e", "/made").ok()
    podman("rmi", "-f", "localhost/committed").ok()


@pytest.mark.usefixtures("cgroups_by_path")
def test_limits_are_the_cgroups(podman: Podman, up: Callable[..., str]) -> None:
    name = up("--memory", "64m", "--pids-limit", "33", "--cpus", "0.5", IMAGE, "sleep", "1000")
    path = podman("inspect", "--format", "{{.State.CgroupPath}}", name).ok().out.strip()
    assert limit(path, "pids.max") == "33"
    assert limit(path, "memory.limit_in_bytes") == str(64 << 20)
    assert limit(path, "cpu.cfs_quota_us") == "50000"
    podman("update", "--memory", "80m", name).ok()
    assert limit(path, "memory.limit_in_bytes") == str(80 << 20)


def test_out_of_memory_is_seen(podman: Podman, up: Callable[..., str]) -> None:
    name = up("--memory", "16m", "--memory-swap", "16m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M")
    assert podman("wait", name).ok().out.strip() == "137"


def test_isolation_options(podman: Podman) -> None:
    script = (
        "cat /proc/self/uid_map; grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x || echo read-only"
    )
    told = podman(
        "run", "--rm", "--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000", "--read-only", "--cap-drop", "all",
        "--cap-add", "chown", "--security-opt", "no-new-privileges", IMAGE, "sh", "-c", script,
    ).ok()  # fmt: skip
    words = told.out.split()
    assert words[:3] == ["0", "100000", "5000"]
    assert words[words.index("CapBnd:") + 1] == "0000000000000001"
    assert words[words.index("NoNewPrivs:") + 1] == "1"
    assert words[words.index("Seccomp:") + 1] == "2"
    assert words[-1] == "read-only"


def test_privileged(podman: Podman) -> None:
    told = podman("run", "--rm", "--privileged", IMAGE, "sh", "-c", "mount -t tmpfs x /tmp && grep -c . /proc/mounts")
    assert int(told.ok().out) > 5


def test_no_descriptor_leaks_and_those_asked_for_stay(podman: Podman) -> None:
    listed = podman("run", "--rm", IMAGE, "ls", "/proc/self/fd").ok().out.split()
    assert listed == ["0", "1", "2", "3"]  # 3 is ls's own


def test_build(podman: Podman) -> None:
    folder = podman.room.folder / "build"
    folder.mkdir()
    (folder / "Containerfile").write_text(f"FROM {IMAGE}\nRUN id -u > /made && echo in the build\nCMD cat /made\n")
    told = podman("build", "-t", "localhost/built", str(folder)).ok()
    assert "in the build" in told.out
    assert podman("run", "--rm", "localhost/built").ok().out == "0\n"
    (folder / "Containerfile").write_text(f"FROM {IMAGE}\nRUN exit 42\n")
    assert podman("build", str(folder)).rc == 42
    podman("rmi", "-f", "localhost/built").ok()


@pytest.mark.usefixtures("cgroups_by_path")
def test_pod_shares_its_namespaces(podman: Podman) -> None:
    pod = podman("pod", "create", "--name", "together").ok().out.strip()
    try:
        podman("run", "-d", "--pod", "together", IMAGE, "sh", "-c", "echo here > /tmp/x; httpd -f -p 80 -h /tmp").ok()
        fetched = podman(
            "run", "--rm", "--pod", "together", IMAGE, "sh", "-c", "sleep 0.3; wget -qO- 127.0.0.1/x; hostname"
        )
        assert fetched.ok().out.split() == ["here", "together"]
        assert len(podman("pod", "top", "together", "pid").ok().out.split()) > 2
        podman("pod", "pause", "together").ok()
        podman("pod", "unpause", "together").ok()
        assert len(podman("pod", "stats", "--no-stream", "--format", "json", pod).json()) == 2
    finally:
        podman("pod", "rm", "--force", "--time", "0", pod).ok()


POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "played"},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": IMAGE,
                "command": ["httpd", "-f", "-p", "80", "-h", "/shared"],
                "env": [{"name": "PATH", "value": "/bin"}],
                "resources": {"limits": {"memory": "64Mi"}},
                "ports": [{"containerPort": 80, "hostPort": 8088}],
                "volumeMounts": [{"name": "v", "mountPath": "/shared"}],
            }
        ],
        "volumes": [{"name": "v", "hostPath": {"path": "", "type": "Directory"}}],
    },
}


@pytest.mark.usefixtures("cgroups_by_path")
def test_play_kube(podman: Podman) -> None:
    shared = podman.room.folder / "shared"
    shared.mkdir()
    (shared / "x").write_text("prepared\n")
    pod = json.loads(json.dumps(POD))
    pod["spec"]["volumes"][0]["hostPath"]["path"] = str(shared)
    file = podman.room.folder / "pod.yaml"
    file.write_text(json.dumps(pod))
    try:
        podman("play", "kube", str(file)).ok()
        wait_for("the web server", lambda: podman.room.run("busybox", "wget", "-qO-", "127.0.0.1:8088/x").rc == 0)
        assert podman.room.run("busybox", "wget", "-qO-", "127.0.0.1:8088/x").ok().out == "prepared\n"
        path = podman("inspect", "--format", "{{.State.CgroupPath}}", "played-main").ok().out.strip()
        assert limit(path, "memory.limit_in_bytes") == str(64 << 20)
    finally:
        podman("play", "kube", "--down", str(file)).ok()


def test_hooks(podman: Podman) -> None:
    folder = podman.room.folder / "hooks"
    folder.mkdir()
    seen = folder / "seen"
    program = folder / "hook.sh"
    program.write_text(f"#!/bin/sh\n(echo $1; cat; echo) >> {seen}\n")
    program.chmod(0o755)
    for stage in ("prestart", "createRuntime", "poststop"):
        hook = {
            "version": "1.0.0",
            "hook": {"path": str(program), "args": ["hook.sh", stage]},
            "when": {"always": True},
            "stages": [stage],
        }
        (folder / f"{stage}.json").write_text(json.dumps(hook))
    podman("--hooks-dir", str(folder), "run", "--rm", "--network", "none", IMAGE, "true").ok()
    lines = seen.read_text().split("\n")
    # podman 5 writes a prestart hook, which the standard has deprecated, as a second one of createRuntime.
    assert (sorted([lines[0], lines[2]]), lines[4]) == (["createRuntime", "prestart"], "poststop")
    assert json.loads(lines[1])["pid"] > 0
    assert json.loads(lines[5])["status"] == "stopped"


def test_health_check(podman: Podman) -> None:
    """The health check that podman runs by hand goes through `exec`."""
    name = podman(
        "run", "-d", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable", IMAGE, "sleep", "1000"
    )
    identifier = name.ok().out.strip()
    try:
        assert podman("healthcheck", "run", identifier).rc == 1
        podman("exec", identifier, "touch", "/tmp/well").ok()
        assert podman("healthcheck", "run", identifier).rc == 0
    finally:
        podman("rm", "--force", "--time", "0", identifier).ok()
