"""Why a container ended, told from memory.events: a kill for want of memory, and one that it is not to blame for."""

import json
import os
import signal
import time
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import MB, Facts, Runtime, case
from toolkit.observe import inspection
from toolkit.runtime.comfort import ending

ctk = Runtime()
by_systemd = Runtime("--systemd-cgroup")
TAKE = "dd if=/dev/zero of=/dev/null bs=64M count=1"


def begin(runtime: Runtime, name: str, script: str) -> None:
    made = room.spec(script)
    made["linux"]["resources"]["memory"] = {"limit": 20 * MB}
    runtime("run", "-d", "--hold", "-b", room.bundle(name, made), name).ok()


def ended(name: str) -> Facts:
    path = Path(f"/run/ctk/{name}/ended.json")
    room.until(path.exists, 60)
    facts: Facts = json.loads(path.read_text())
    return {**facts, "sentence": ending.sentence(facts)}  # what `ctk logs` and `attach` say on a terminal


@case
def blame() -> Facts:
    """One whose child the kernel kills, and which somebody kills later; meanwhile one that the kernel kills."""
    begin(ctk, "old", f"{TAKE}; echo >/tmp/on; exec sleep 100")
    on = Path(f"/proc/{ctk.pid('old')}/root/tmp/on")
    room.until(on.exists, 60)
    since = time.monotonic()
    begin(by_systemd, "taker", f"exec {TAKE}")
    facts: Facts = {"real": ended("taker"), "inspect": inspection.inspect("/run/ctk", "old")["cgroups"]["oomKills"]}
    room.until(lambda: time.monotonic() > since + 4)  # as long as the end may still be the kernel's doing
    ctk("kill", "old", "KILL").ok()
    facts["later"] = ended("old")
    for name in ("old", "taker"):
        ctk("delete", "-f", name).ok()
    return facts


@case
def late() -> Facts:
    """The kernel kills while nobody of ours can run; systemd removes the scope before we look."""
    begin(by_systemd, "slow", f"until [ -e /tmp/go ]; do sleep 0.1; done; exec {TAKE}")
    pid = ctk.pid("slow")
    scope = Path("/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text().strip().partition("::")[2])
    holder = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(holder, signal.SIGSTOP)
    Path(f"/proc/{pid}/root/tmp/go").touch()
    room.until(lambda: not scope.exists(), 60)
    os.kill(holder, signal.SIGCONT)
    facts = ended("slow")
    ctk("delete", "-f", "slow").ok()
    return facts


if __name__ == "__main__":
    room.main()
