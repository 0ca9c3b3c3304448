"""Containers of an ordinary user, in a service that his own systemd delegates controllers to. Runs as that user."""

import os
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import MB, Facts, Runtime, case

ctk = Runtime()
by_systemd = Runtime("--systemd-cgroup")
LIMITS = {"memory": {"limit": 24 * MB}, "pids": {"limit": 9}, "cpu": {"quota": 30000, "period": 100000}}
SHOW = "id -u; cat /proc/self/uid_map; cd /sys/fs/cgroup; cat memory.max pids.max cpu.max"
UID = os.geteuid()


def spec(script: str, **resources: object) -> Facts:
    """A rootless spec whose user namespace maps the user and all his subordinate ids."""
    made = room.spec(script, rootless=True)
    made["linux"]["resources"] = resources
    for kind in ("uid", "gid"):
        first = int(room.read(f"/etc/sub{kind}").split(":")[1])
        made["linux"][f"{kind}Mappings"] = [
            {"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": first, "size": 65536},
        ]
    return made


@case
def mapped() -> Facts:
    """The user and his subordinate ids (newuidmap), or the user alone."""
    made = spec("cat /proc/self/uid_map; touch /tmp/f; busybox chown 7:8 /tmp/f && stat -c %u:%g /tmp/f")
    for kind in made["process"]["capabilities"].values():
        kind.append("CAP_CHOWN")
    many = ctk("run", "-b", room.bundle("many", made), "many")
    alone = ctk("run", "-b", room.bundle("alone", room.spec("cat /proc/self/uid_map; id -u", rootless=True)), "alone")
    return {"many": many.facts(), "alone": alone.facts(), "uid": UID}


@case
def limits_by_systemd() -> Facts:
    """The user's manager makes the scope, and the limits are in the kernel."""
    made = spec(SHOW, **LIMITS)
    made["linux"]["cgroupsPath"] = "user.slice:ctk:limits"
    return by_systemd("run", "-b", room.bundle("limits", made), "limits").facts()


@case
def limits_below_us() -> Facts:
    """cgroupfs: below a cgroup that was delegated to us; its own leaf is emptied first, as cgroup v2 wants it."""
    own = room.cgroup("self")
    leaf = own / "leaf"
    leaf.mkdir(exist_ok=True)
    for pid in room.read(own / "cgroup.procs").split():
        (leaf / "cgroup.procs").write_text(pid)
    made = spec(SHOW, **LIMITS)
    made["linux"]["cgroupsPath"] = str(own).removeprefix("/sys/fs/cgroup") + "/box"
    done = ctk("run", "-b", room.bundle("below", made), "below")
    return {**done.facts(), "left": (own / "box").exists(), "delegated": room.read(own / "cgroup.controllers")}


@case
def oom() -> Facts:
    made = spec("exec dd if=/dev/zero of=/dev/null bs=64M count=1", memory={"limit": 20 * MB})
    return by_systemd("run", "-b", room.bundle("oom", made), "oom").facts()


@case
def life() -> Facts:
    """create, start, exec, pause, update, kill, delete, by the user's systemd."""
    ctk = by_systemd
    made = spec("sleep 100", **LIMITS)
    ctk("create", "-b", room.bundle("life", made), "life").ok()
    seen: Facts = {"created": ctk.state("life")}
    ctk("start", "life").ok()
    pid = ctk.pid("life")
    at = room.cgroup(pid)
    seen["cgroup"] = str(at)
    seen["owner on the host"] = Path(f"/proc/{pid}").stat().st_uid
    seen["exec"] = ctk("exec", "life", "/bin/id", "-u").facts()
    ctk("pause", "life").ok()
    seen["frozen"] = "frozen 1" in room.read(at / "cgroup.events")
    ctk("resume", "life").ok()
    ctk("update", "--pids-limit", "33", "life").ok()
    seen["pids.max"] = room.read(at / "pids.max")
    ctk("kill", "life", "KILL").ok()
    room.until(lambda: ctk.state("life") == "stopped")
    ctk("delete", "life").ok()
    seen["left"] = at.exists()
    seen["list"] = ctk("list", "-q").ok().out
    return seen


if __name__ == "__main__":
    room.main()
