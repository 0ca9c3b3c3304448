"""Where the engines of these tests live: own network, mount and pid namespaces, that end with the test session.

dockerd, netavark and the CNI plugins make bridges, firewall rules and network namespaces, change sysctls and keep
things in /run. In here all of that is theirs alone; when the room's first process ends, so does everything in it.
"""

import os
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.command import Result, tool
from tests.fixtures.leaks import TAG

# Folders that an engine cannot be talked out of. /opt and the tmpfs below the host's cgroup trees are replaced by ones
# with the same in them: dockerd's containerd makes /opt/containerd, podman folders for controllers not mounted.
_PREPARE = """
for path in /run /var/lib/cni; do test ! -d $path || mount -t tmpfs none $path; done
mkdir /run/netns /run/lock
replace() {
    mkdir /run/new
    mount -t tmpfs -o mode=755 none /run/new
    for inside in $1/*/; do
        $2 $inside || continue
        mkdir /run/new/${inside#$1/}
        mount --bind $inside /run/new/${inside#$1/}
    done
    mount --move /run/new $1
    rmdir /run/new
}
replace /opt "test -d"
test "$(stat -f -c %T /sys/fs/cgroup)" != tmpfs || { replace /sys/fs/cgroup "mountpoint -q"; }
ip link set lo up
echo ready
"""


class Room:
    """A place to run programs in. `folder` is the engines' own, on a real file system."""

    def __init__(self, folder: Path, runtime: str) -> None:
        self.folder = folder
        self.runtime = runtime
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",  # Debian's engines, whatever /usr/local has
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
            "CTK_CACHE": str(folder / "cache"),
            "CTK_TEST_TAG": TAG,
        }
        (folder / "tmp").mkdir()
        script = f"{_PREPARE} exec {tool('catatonit')} -P"
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", script],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=self.environment,
            text=True,
        )
        assert self.holder.stdout is not None
        with self.holder.stdout as said:
            assert said.readline() == "ready\n"
        self.pid = int(Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text())

    def argv(self, *command: str) -> list[str]:
        """The command line that runs `command` in the room."""
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--", *command]

    def run(self, *command: str, input: str = "", timeout: float = 60, env: "dict[str, str] | None" = None) -> Result:
        """Run to its end. Output goes through files: what is detached must not hold our pipes."""
        number = time.monotonic_ns()
        names = [self.folder / "tmp" / f"{kind}-{number}" for kind in ("in", "out", "err")]
        names[0].write_text(input)
        with open(names[0]) as stdin, open(names[1], "w") as stdout, open(names[2], "w") as stderr:
            rc = subprocess.run(
                self.argv(*command),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={**self.environment, **(env or {})},
                timeout=timeout,
            ).returncode
        texts = [path.read_text(errors="replace") for path in names[1:]]
        for path in names:
            path.unlink()
        return Result(command, rc, *texts)

    def start(self, log: str, *command: str) -> "subprocess.Popen[bytes]":
        """Start a daemon; what it says goes to the file `log` in the room's folder."""
        with open(self.folder / log, "wb") as file:
            return subprocess.Popen(
                self.argv(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=self.environment
            )

    def mounts(self) -> list[str]:
        """Mount points that the room's processes see."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return sorted(line.split()[4] for line in lines)

    def close(self) -> None:
        """End everything in the room: its first process ends when all others of the pid namespace have."""
        first = os.pidfd_open(self.pid)
        self.holder.kill()
        self.holder.wait()
        select.select([first], [], [], 20)
        os.close(first)


def wait_for(what: str, question: "object", timeout_s: float = 20) -> None:
    """Ask `question()` until it says yes; the test fails if it does not in time."""
    end = time.monotonic() + timeout_s
    while not question():  # type: ignore[operator]
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout_s} s for {what}", pytrace=False)
        time.sleep(0.05)


_V2_NAMES = {"memory.limit_in_bytes": "memory.max", "cpu.cfs_quota_us": "cpu.max", "pids.max": "pids.max"}


def limit(path: str, name: str) -> str:
    """The value of a cgroup v1 file, named by its v1 name, or of what stands for it on a host with v2 alone."""
    old = f"/sys/fs/cgroup/{name.partition('.')[0]}{path}/{name}"
    if os.path.exists(old):
        return Path(old).read_text().strip()
    return Path(f"/sys/fs/cgroup{path}/{_V2_NAMES[name]}").read_text().split()[0]
