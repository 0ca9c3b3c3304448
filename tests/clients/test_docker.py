"""dockerd, with ctk as its runtime, through Debian's docker client."""

from collections.abc import Callable, Iterator

import pytest

from tests.clients.conftest import IMAGE, Docker
from tests.clients.room import limit, wait_for
from tests.fixtures.terminal import Terminal

pytestmark = pytest.mark.root


@pytest.fixture
def up(docker: Docker) -> Iterator[Callable[..., str]]:
    """Starts detached containers; all are removed at the end."""
    names: list[str] = []

    def start(*arguments: str) -> str:
        names.append(docker("run", "-d", *arguments).ok().out.strip())
        return names[-1]

    yield start
    if names:
        docker("rm", "--force", *names).ok()


def test_run(docker: Docker) -> None:
    assert docker("info", "--format", "{{.DefaultRuntime}}").ok().out.strip() == "ctk"
    told = docker(
        "run", "--rm", "-i", IMAGE, "sh", "-c", "cat; ls /proc/self/fd; echo wrong >&2; exit 7", input="typed\n"
    )
    assert (told.rc, told.out.split(), told.err) == (7, ["typed", *"0123"], "wrong\n")


@pytest.mark.parametrize(("command", "code"), [("/nonexistent", 127), ("missing", 127), ("/etc/passwd", 126)])
def test_exit_codes_that_docker_reads_from_our_messages(docker: Docker, command: str, code: int) -> None:
    assert docker("run", "--rm", IMAGE, command).rc == code


def test_terminal(docker: Docker, terminal: Callable[..., Terminal]) -> None:
    shell = terminal(docker.argv("run", "--rm", "-it", IMAGE, "sh"), rows=31, columns=97)
    shell.read_until(r"/ # ")
    shell.send("sleep 0.3; stty size; tty\r")
    assert "31 97" in shell.read_until(r"/dev/pts/0")
    shell.send("exit 5\r")
    assert shell.wait() == 5


def test_exec(docker: Docker, up: Callable[..., str], terminal: Callable[..., Terminal]) -> None:
    name = up(IMAGE, "sleep", "1000")
    told = docker(
        "exec", "-e", "A=b", "-u", "1000:50", "-w", "/tmp", name, "sh", "-c", "echo $A; id -u; id -g; pwd; exit 9"
    )
    assert (told.rc, told.out.split()) == (9, ["b", "1000", "50", "/tmp"])
    assert "executable file not found in $PATH" in docker("exec", name, "missing").out
    shell = terminal(docker.argv("exec", "-it", name, "sh"))
    shell.read_until(r"/ # ")
    shell.send("tty; exit 4\r")
    shell.read_until(r"/dev/pts/\d")
    assert shell.wait() == 4
    # dockerd lists all capabilities, whether the host has them or not: what it lacks is left out, not an error.
    bounding = docker("exec", "--privileged", name, "grep", "CapBnd", "/proc/self/status").ok().out.split()[1]
    assert int(bounding, 16) >> 21 & 1


def test_pause_top_stats(docker: Docker, up: Callable[..., str]) -> None:
    name = up(IMAGE, "sh", "-c", "sleep 1000 & wait")
    docker("pause", name).ok()
    assert docker("inspect", "--format", "{{.State.Status}}", name).ok().out.strip() == "paused"
    docker("unpause", name).ok()
    assert docker("top", name).ok().out.count("sleep 1000") == 2
    assert docker("stats", "--no-stream", "--format", "{{.PIDs}}", name).ok().out.strip() == "2"


def test_limits_and_update(docker: Docker, up: Callable[..., str]) -> None:
    name = up("--memory", "64m", "--pids-limit", "33", "--cpus", "0.5", IMAGE, "sleep", "1000")
    path = "/docker/" + name
    assert limit(path, "memory.limit_in_bytes") == str(64 << 20)
    assert limit(path, "pids.max") == "33"
    assert limit(path, "cpu.cfs_quota_us") == "50000"
    docker("update", "--memory", "80m", "--memory-swap", "80m", "--pids-limit", "44", name).ok()
    assert limit(path, "memory.limit_in_bytes") == str(80 << 20)
    assert limit(path, "pids.max") == "44"


def test_out_of_memory_is_seen(docker: Docker, up: Callable[..., str]) -> None:
    name = up("--memory", "16m", "--memory-swap", "16m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M")
    assert docker("wait", name).ok().out.strip() == "137"


def test_a_published_port_answers(docker: Docker, up: Callable[..., str]) -> None:
    """docker's bridge hangs on a prestart hook, whose argv[0] is not its path."""
    up("-p", "127.0.0.1:8099:80", IMAGE, "sh", "-c", "echo here > /tmp/x; httpd -f -p 80 -h /tmp")
    fetch = ("busybox", "wget", "-qO-", "http://127.0.0.1:8099/x")
    wait_for("the web server", lambda: docker.room.run(*fetch).rc == 0)
    assert docker.room.run(*fetch).ok().out == "here\n"


def test_health_check(docker: Docker, up: Callable[..., str]) -> None:
    name = up(
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "300ms",
        "--health-retries",
        "1",
        IMAGE,
        "sleep",
        "1000",
    )

    def health() -> str:
        return docker("inspect", "--format", "{{.State.Health.Status}}", name).ok().out.strip()

    wait_for("the sick state", lambda: health() == "unhealthy")
    docker("exec", name, "touch", "/tmp/well").ok()
    wait_for("the well state", lambda: health() == "healthy")


def test_privileged(docker: Docker) -> None:
    """runc fails here where the host lacks one of the 38 capabilities that dockerd lists."""
    told = docker("run", "--rm", "--privileged", IMAGE, "sh", "-c", "mount -t tmpfs x /tmp && echo mounted")
    assert told.ok().out == "mounted\n"


def test_rights(docker: Docker) -> None:
    options = ("--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges", "--read-only")
    script = "grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x || echo read-only"
    words = docker("run", "--rm", *options, "--init", "--network", "none", IMAGE, "sh", "-c", script).ok().out.split()
    assert words == ["CapBnd:", "0000000000000001", "NoNewPrivs:", "1", "Seccomp:", "2", "read-only"]


def test_stop_restart_logs(docker: Docker, up: Callable[..., str]) -> None:
    name = up(IMAGE, "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done")
    wait_for("its line in the log", lambda: "up" in docker("logs", name).out)
    docker("stop", name).ok()
    assert docker("wait", name).ok().out.strip() == "3"
    docker("start", name).ok()
    wait_for("its second line", lambda: docker("logs", name).out.split() == ["up", "bye", "up"])
    docker("kill", name).ok()
    assert docker("wait", name).ok().out.strip() == "137"


def test_build(docker: Docker) -> None:
    """BuildKit runs `runc run` of dockerd's PATH: here that name is ctk."""
    told = docker.room.run(
        *docker.leading, "build", "-t", "built", "-", input=f"FROM {IMAGE}\nRUN id -u > /made\nCMD cat /made\n",
        env={"DOCKER_BUILDKIT": "1"},
    )  # fmt: skip
    told.ok()
    assert docker("run", "--rm", "built").ok().out == "0\n"
    docker("rmi", "built").ok()
