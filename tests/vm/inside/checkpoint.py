"""Save a container to files and bring it back, by CRIU, with both cgroup drivers."""

import json
import time
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import MB, Facts, Runtime, case, rare

# A new process ten times a second would take a third of the processor from criu.
COUNT = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.5; done"


def counted(pid: int) -> int:
    path = Path(f"/proc/{pid}/root/tmp/count")
    for _ in range(100):  # it may be caught between truncation and writing
        text = path.read_text() if path.exists() else ""
        if text.strip():
            return int(text)
        time.sleep(0.05)
    raise RuntimeError(f"no number in {path}")


def there_and_back(ctk: Runtime, name: str, *, stay: bool) -> Facts:
    made = room.spec(COUNT)
    made["linux"]["resources"]["memory"] = {"limit": 48 * MB}
    made["linux"]["cgroupsPath"] = f"system.slice:ctk:{name}" if ctk.options else f"/ctk-vm/{name}"
    bundle = room.bundle(name, made)
    images = str(room.HOME / f"images-{name}")
    ctk("run", "-d", "-b", bundle, name).ok()
    pid = ctk.pid(name)
    room.until(lambda: counted(pid) > 2)
    seen: Facts = {}
    if stay:
        seen["stay"] = ctk("checkpoint", "--image-path", images + "-stay", "--leave-running", name).facts()
        seen["after stay"] = ctk.state(name)
    before = counted(pid)
    seen["checkpoint"] = ctk("checkpoint", "--image-path", images, name).facts()
    seen["images"] = sorted(path.name for path in Path(images).glob("*.img"))[:3]
    seen["state"] = ctk("state", name).facts()
    seen["alive"] = Path(f"/proc/{pid}/root/tmp/count").exists()
    seen["restore"] = ctk("restore", "-d", "--image-path", images, "-b", bundle, name).facts()
    if seen["restore"]["code"] == 0:
        told = ctk.told(name)
        after = counted(told["pid"])
        seen.update(before=before, after=after, status=told["status"])
        seen["goes on"] = room.until(lambda: counted(told["pid"]) > after + 2)
        at = room.cgroup(told["pid"])
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
    return there_and_back(Runtime(), "saved", stay=True)


@case
def systemd() -> Facts:
    return there_and_back(Runtime("--systemd-cgroup"), "saved2", stay=False)


@rare
def systemd_stays() -> Facts:
    return there_and_back(Runtime("--systemd-cgroup"), "saved2", stay=True)


if __name__ == "__main__":
    room.main()
