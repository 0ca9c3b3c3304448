"""Save a container to files and bring it back, by CRIU, with both cgroup drivers."""

import json
import time
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import MB, Facts, Runtime, case

COUNT = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.1; done"


def counted(pid: int) -> int:
    path = Path(f"/proc/{pid}/root/tmp/count")
    for _ in range(100):  # it may be caught between truncation and writing
        text = path.read_text() if path.exists() else ""
        if text.strip():
            return int(text)
        time.sleep(0.05)
    raise RuntimeError(f"no number in {path}")


def there_and_back(ctk: Runtime, name: str) -> Facts:
    made = room.spec(COUNT)
    made["linux"]["resources"]["memory"] = {"limit": 48 * MB}
    made["linux"]["cgroupsPath"] = f"system.slice:ctk:{name}" if ctk.options else f"/ctk-vm/{name}"
    bundle = room.bundle(name, made)
    images = str(room.HOME / f"images-{name}")
    ctk("run", "-d", "-b", bundle, name).ok()
    pid = ctk.pid(name)
    room.until(lambda: counted(pid) > 5)
    seen: Facts = {"stay": ctk("checkpoint", "--image-path", images + "-stay", "--leave-running", name).facts()}
    seen["after stay"] = ctk.state(name)
    before = counted(pid)
    seen["checkpoint"] = ctk("checkpoint", "--image-path", images, name).facts()
    seen["images"] = sorted(path.name for path in Path(images).glob("*.img"))[:3]
    seen["state"] = ctk("state", name).facts()
    seen["alive"] = Path(f"/proc/{pid}/root/tmp/count").exists()
    seen["restore"] = ctk("restore", "-d", "--image-path", images, "-b", bundle, name).facts()
    if seen["restore"]["code"] == 0:
        after = counted(ctk.pid(name))
        seen.update(before=before, after=after, status=ctk.state(name))
        seen["goes on"] = room.until(lambda: counted(ctk.pid(name)) > after + 2)
        at = room.cgroup(ctk.pid(name))
        seen.update({"cgroup": str(at), "memory.max": room.read(at / "memory.max")})
        seen["exec"] = ctk("exec", name, "/bin/cat", "/proc/self/cgroup").facts()
    seen["delete"] = ctk("delete", "-f", name).facts()
    seen["list"] = json.loads(ctk("list", "-f", "json").ok().out or "[]")
    return seen


@case
def criu() -> Facts:
    return room.run("criu", "check").facts()


@case
def cgroupfs() -> Facts:
    return there_and_back(Runtime(), "saved")


@case
def systemd() -> Facts:
    return there_and_back(Runtime("--systemd-cgroup"), "saved2")


if __name__ == "__main__":
    room.main()
