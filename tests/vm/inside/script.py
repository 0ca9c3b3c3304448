"""The shell script of a launch, on pure cgroup v2: what its container shows is what `ctk run`'s shows."""

import os
import subprocess
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import MB, Facts, Runtime, case
from toolkit.explain import launch, script

LOOK = """
while read -r id up dev rest; do echo "$rest"; done < /proc/self/mountinfo
grep -e Cap -e NoNew -e Uid /proc/self/status
cat /proc/self/cgroup
cd /sys/fs/cgroup
for f in memory.max memory.swap.max pids.max cpu.max cpu.weight cpuset.cpus; do echo $f $(cat $f 2>&1); done
"""


BITE = """
exec 2>/dev/null
dd if=/dev/zero of=/dev/null bs=64M count=1; echo killed $?
grep -w oom_kill memory.events
"""


@case
def limits() -> Facts:
    """With limits and a cgroup namespace, the cgroup at a path of its own."""
    config = room.spec(LOOK)
    config["process"]["user"] = {"uid": 7, "gid": 8}
    return by_both("one", config)


@case
def user_namespace() -> Facts:
    """The same for a container whose root is nobody on the host; its limits bite."""
    config = room.spec(LOOK + BITE)
    lines = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": lines, "gidMappings": lines}
    return by_both("mapped", config)


def by_both(name: str, config: Facts) -> Facts:
    """What the container of `ctk run` shows, and that of the script."""
    config["linux"]["cgroupsPath"] = f"/ctk-vm-script/{name}"
    config["linux"]["resources"] |= {
        "memory": {"limit": 32 * MB, "swap": 48 * MB},
        "pids": {"limit": 20},
        "cpu": {"quota": 80000, "shares": 512, "cpus": "0"},
    }
    bundle = room.bundle(name, config)
    by_ctk = Runtime()("run", "-b", bundle, name).ok()
    path = Path(bundle) / "start.sh"
    path.write_text(script.write(launch.of(bundle, name)))
    by_script = subprocess.run(["sh", str(path)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return {
        "ctk": by_ctk.out.splitlines(),
        "script": by_script.stdout.splitlines(),
        "err": by_script.stderr,
        "code": by_script.returncode,
        "left": os.path.exists(f"/sys/fs/cgroup/ctk-vm-script/{name}"),
    }


if __name__ == "__main__":
    room.main()
