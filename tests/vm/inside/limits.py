"""Limits of the drivers on pure cgroup v2, as root. Argument: cgroupfs or systemd.

What the kernel does with a limit is the same whoever wrote it: such a case runs with one driver, and is rare with the
other.
"""

import sys
import time
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import MB, Facts, Runtime, case, rare
from toolkit import places
from toolkit.runtime.comfort import stopping

DRIVER = sys.argv[1]
by_cgroupfs, by_systemd = (case, rare) if DRIVER == "cgroupfs" else (rare, case)
ctk = Runtime("--systemd-cgroup") if DRIVER == "systemd" else Runtime()
DENY = {"allow": False, "access": "rwm"}
# The disk that the agent unpacked the project from: nothing but the device filter keeps the container's root from it.
MAJOR, MINOR = (int(word) for word in room.read("/sys/block/vdb/dev").split(":"))
DISK = {"allow": True, "type": "b", "major": MAJOR, "minor": MINOR, "access": "r"}
READ_DISK = f"mknod /tmp/d b {MAJOR} {MINOR}; head -c1 /tmp/d >/dev/null && echo read; echo x >/dev/null && echo null"


def config(name: str, script: str, devices: "list[Facts] | None" = None, **resources: object) -> str:
    """A bundle with these limits; its cgroup has the container's name in it."""
    made = room.spec(script)
    made["linux"]["resources"] = {"devices": devices or [DENY], **resources}
    made["linux"]["cgroupsPath"] = f"system.slice:ctk:{name}" if DRIVER == "systemd" else f"/ctk-vm/{name}"
    for kind in made["process"]["capabilities"].values():
        kind.append("CAP_MKNOD")
    return room.bundle(name, made)


def folder(name: str) -> Path:
    at = f"system.slice/ctk-{name}.scope" if DRIVER == "systemd" else f"ctk-vm/{name}"
    return Path("/sys/fs/cgroup") / at


@case
def files() -> Facts:
    """Every limit is in the kernel's file, as the container sees it in its own cgroup namespace."""
    names = (
        "memory.max memory.high memory.swap.max memory.low pids.max cpu.max cpu.weight cpuset.cpus io.weight".split()
    )
    bundle = config(
        "files",
        "cat /proc/self/cgroup; cd /sys/fs/cgroup; for f in " + " ".join(names) + "; do echo $f $(cat $f 2>&1); done",
        memory={"limit": 32 * MB, "swap": 48 * MB, "reservation": 16 * MB},
        pids={"limit": 20},
        cpu={"quota": 20000, "period": 100000, "shares": 512, "cpus": "0"},
        unified={"memory.high": str(24 * MB)},
    )
    lines = ctk("run", "-b", bundle, "files").ok().out.splitlines()
    return {"cgroup": lines[0], **dict(line.split(" ", 1) for line in lines[1:]), "left": folder("files").exists()}


@by_systemd
def oom() -> Facts:
    """Who takes more memory than the limit is killed."""
    done = ctk(
        "run", "-b", config("oom", "exec dd if=/dev/zero of=/dev/null bs=64M count=1", memory={"limit": 20 * MB}), "oom"
    )
    again = ctk("run", "-b", config("oom", "echo again"), "oom")  # systemd remembers a failed unit's name
    return {**done.facts(), "again": again.facts(), "left": folder("oom").exists()}


@by_cgroupfs
def pids() -> Facts:
    """A fork beyond the limit is refused."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 3 & done; :"
    done = ctk("run", "-b", config("pids", script + "; cat /sys/fs/cgroup/pids.events", pids={"limit": 8}), "pids")
    # ash ends at the fork that fails, so the count is read outside, in a container that is still there.
    bundle = config(
        "pids2", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do (sleep 30 &) 2>/dev/null; done; sleep 30", pids={"limit": 8}
    )
    ctk("run", "-d", "-b", bundle, "pids2").ok()
    room.until(lambda: room.read(folder("pids2") / "pids.events") != "max 0", 10)
    seen = {
        "code": done.code,
        "err": done.err,
        "events": room.read(folder("pids2") / "pids.events"),
        "current": room.read(folder("pids2") / "pids.current"),
    }
    ctk("delete", "-f", "pids2").ok()
    return seen


@by_systemd
def cpu() -> Facts:
    """A busy loop gets its share of cpu time and no more."""
    script = "timeout 3 sh -c 'while :; do :; done'; cat /sys/fs/cgroup/cpu.stat"
    started = time.monotonic()
    done = ctk("run", "-b", config("cpu", script, cpu={"quota": 20000, "period": 100000}), "cpu").ok()
    seconds = time.monotonic() - started
    stat = dict(line.split() for line in done.out.splitlines() if " " in line)
    return {"wall": seconds, "used": int(stat["usage_usec"]) / 1e6, "throttled": int(stat["nr_throttled"])}


@case
def pause() -> Facts:
    """Paused, it stands still and says so; resumed, it goes on."""
    ctk("run", "-d", "-b", config("pause", "while :; do echo x >>/tmp/count; sleep 0.1; done"), "pause").ok()
    pid = ctk.pid("pause")
    count = Path(f"/proc/{pid}/root/tmp/count")
    room.until(lambda: count.exists() and count.stat().st_size > 4)
    ctk("pause", "pause").ok()
    seen: Facts = {"status": ctk.state("pause"), "events": room.read(folder("pause") / "cgroup.events").splitlines()}
    before = count.stat().st_size
    time.sleep(0.7)
    seen["grew"] = count.stat().st_size - before
    seen["exec"] = ctk("exec", "pause", "/bin/true").facts()
    ctk("resume", "pause").ok()
    seen["resumed"] = room.until(lambda: count.stat().st_size > before + 2)
    seen["status after"] = ctk.state("pause")
    ctk("pause", "pause").ok()
    seen["delete"] = ctk("delete", "-f", "pause").facts()  # of a paused one: it must be killed all the same
    seen["left"] = folder("pause").exists()
    return seen


@case
def devices() -> Facts:
    """A device without a rule can be made and not opened; with one it can; the standard ones always."""
    denied = ctk("run", "-b", config("denied", READ_DISK), "denied")
    allowed = ctk("run", "-b", config("allowed", READ_DISK, [DENY, DISK]), "allowed")
    return {"denied": denied.facts(), "allowed": allowed.facts()}


@case
def update() -> Facts:
    """New limits reach the kernel, and the device filter stays; systemd's reload takes nothing away."""
    bundle = config("update", "sleep 100", memory={"limit": 64 * MB}, pids={"limit": 40})
    ctk("run", "-d", "-b", bundle, "update").ok()
    ctk(
        "update",
        "--memory",
        str(40 * MB),
        "--pids-limit",
        "17",
        "--cpu-quota",
        "30000",
        "--cpu-period",
        "100000",
        "update",
    ).ok()
    if DRIVER == "systemd":
        room.run("systemctl", "daemon-reload").ok()
    at = folder("update")
    seen: Facts = {name: room.read(at / name) for name in ("memory.max", "pids.max", "cpu.max")}
    seen["open"] = ctk("exec", "--cap", "CAP_MKNOD", "update", "/bin/sh", "-c", READ_DISK).facts()
    seen["exec cgroup"] = ctk("exec", "update", "/bin/cat", "/proc/self/cgroup").ok().out.strip()
    seen["cgroup"] = str(room.cgroup(ctk.pid("update")))
    if DRIVER == "systemd":
        words = ["-p", "MemoryMax", "-p", "TasksMax", "-p", "CPUQuotaPerSecUSec", "-p", "Delegate"]
        shown = room.run("systemctl", "show", *words, at.name).ok().out
        seen["unit"] = dict(line.split("=", 1) for line in shown.splitlines())
    seen["ps"] = ctk("ps", "--format", "json", "update").ok().out.strip()
    seen["stats"] = ctk("events", "--stats", "update").ok().out
    ctk("kill", "update", "KILL").ok()
    room.until(lambda: ctk.state("update") == "stopped")
    ctk("delete", "update").ok()
    seen["left"] = at.exists()
    if DRIVER == "systemd":
        seen["left unit"] = room.run("systemctl", "is-active", at.name).out.strip()
    return seen


@by_systemd
def tree() -> Facts:
    """delete --force ends every process of the container, those in cgroups of its own making too."""
    made = room.spec(
        "mkdir /sys/fs/cgroup/sub; sleep 100 & echo $! >/sys/fs/cgroup/sub/cgroup.procs; touch /tmp/up; wait"
    )
    made["linux"]["cgroupsPath"] = "system.slice:ctk:tree" if DRIVER == "systemd" else "/ctk-vm/tree"
    for mount in made["mounts"]:
        if mount["destination"] == "/sys/fs/cgroup":
            mount["options"].remove("ro")
    ctk("run", "-d", "-b", room.bundle("tree", made), "tree").ok()
    up = Path(f"/proc/{ctk.pid('tree')}/root/tmp/up")
    room.until(up.exists)
    inner = room.read(folder("tree") / "sub/cgroup.procs").split()
    ctk("delete", "-f", "tree").ok()
    return {
        "inner": len(inner),
        "alive": [pid for pid in inner if Path(f"/proc/{pid}").exists()],
        "left": folder("tree").exists(),
    }


FROZEN = """
cd /sys/fs/cgroup; mkdir sub
(until [ "$(wc -l <sub/cgroup.procs)" = {members} ]; do sleep 0.1; done
 echo 1 >sub/cgroup.freeze; until grep -q "frozen 1" sub/cgroup.events; do sleep 0.1; done; echo frozen >/tmp/up) &
sleep 1000 & echo $! >sub/cgroup.procs
{first}
wait
"""


def _frozen(name: str, *, first: bool, pid_namespace: bool) -> Facts:
    """A container that has frozen a part of itself, its first process too if `first`; then it is ended."""
    script = FROZEN.format(members=2 if first else 1, first="echo 0 >sub/cgroup.procs" if first else "")
    made = room.spec(script)
    made["linux"]["cgroupsPath"] = f"system.slice:ctk:{name}" if DRIVER == "systemd" else f"/ctk-vm/{name}"
    if not pid_namespace:
        made["linux"]["namespaces"] = [one for one in made["linux"]["namespaces"] if one["type"] != "pid"]
    for mount in made["mounts"]:
        if mount["destination"] == "/sys/fs/cgroup":
            mount["options"].remove("ro")
    ctk("run", "-d", "-b", room.bundle(name, made), name).ok()
    up = Path(f"/proc/{ctk.pid(name)}/root/tmp/up")
    seen: Facts = {"frozen": room.until(lambda: up.exists() and up.read_text() == "frozen\n", 30)}
    pids = [pid for path in folder(name).rglob("cgroup.procs") for pid in room.read(path).split()]
    pids += room.read(folder(name) / "cgroup.procs").split()
    seen["inner"] = len(room.read(folder(name) / "sub/cgroup.procs").split())
    seen["state"] = ctk.state(name)
    seen["exec"] = ctk("exec", name, "/bin/true").facts()
    seen["exec there"] = ctk("exec", "--cgroup", "sub", name, "/bin/true").facts()
    started = time.monotonic()
    if first:
        # Not by the command: to load it takes ten seconds here, and it is the way to stop that is timed.
        stopping.stop(places.runtime_root(), name, signal="", timeout_s=1, say=lambda _: None)
        seen["stopped"] = ctk.state(name)
    seen["delete"] = ctk("delete", "-f", name).facts()
    seen["took_s"] = time.monotonic() - started
    seen["alive"] = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    seen["left"] = folder(name).exists()
    return seen


@by_systemd
def frozen_child() -> Facts:
    """A child is frozen in an inner cgroup."""
    return _frozen("frozen-child", first=False, pid_namespace=True)


@by_cgroupfs
def frozen_first() -> Facts:
    """The first process is frozen there, too: it takes no SIGTERM."""
    return _frozen("frozen-first", first=True, pid_namespace=True)


@by_systemd
def frozen_stranger() -> Facts:
    """The frozen child is in no pid namespace that would end with the first process."""
    return _frozen("frozen-stranger", first=False, pid_namespace=False)


if __name__ == "__main__":
    room.main()
