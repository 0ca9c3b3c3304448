"""The cgroup of a build, as the caller's systemd has it: empty, its own namespace, gone afterwards."""

import shutil
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import Facts, case
from toolkit.bootstrap.sandbox import build_cgroup
from toolkit.bootstrap.sandbox.sandbox import Sandbox


@case
def cgroup() -> Facts:
    tree = room.HOME / "tree"
    shutil.copytree(room.root_folder(), tree, symlinks=True)
    own = Path(build_cgroup.own())

    def builds() -> "list[Path]":
        return sorted(own.glob("ctk-build-*"))

    with Sandbox(str(tree), str(room.HOME / "build.log"), lambda _: None, lambda _: None, sync=False) as sandbox:
        there = builds()
        pids = [pid for path in there for pid in room.read(path / "cgroup.procs").split()]
        sandbox.run(["/bin/sh", "-c", "cat /proc/self/cgroup; ls -A /sys/fs/cgroup"], doing="look")
        inside = sandbox.output()
        # A namespace of one's own shows what one mounts as if there were nothing above; a build may not even mount.
        sandbox.run(
            ["/bin/sh", "-c", "mount -t cgroup2 none /mnt 2>/dev/null; ls -A /mnt"], doing="mount", accept=(0, 1)
        )
        mounted = sandbox.output()
        sandbox.run(["/bin/sh", "-c", "setsid sleep 300 & exit 0"], doing="leave something running")
    return {
        "own": str(own),
        "there": [str(path) for path in there],
        "pids": len(pids),
        "inside": inside,
        "mounted": mounted,
        "left": [str(path) for path in builds()],
        "processes": [line for line in room.run("ps", "-eo", "args").ok().out.splitlines() if line == "sleep 300"],
    }


if __name__ == "__main__":
    room.main()
