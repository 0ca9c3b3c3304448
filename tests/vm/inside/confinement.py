"""What the kernel of this guest has and the host of a test often lacks: AppArmor, time namespaces, id-mapped mounts."""

import os
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import Facts, Runtime, case

ctk = Runtime()
PROFILE = """
profile ctk-vm flags=(attach_disconnected,mediate_deleted) {
  file, capability, mount, umount, pivot_root, signal, ptrace, network, unix,
  deny /etc/secret r,
}
profile ctk-vm-second flags=(attach_disconnected,mediate_deleted) {
  file, capability, mount, umount, pivot_root, signal, ptrace, network, unix,
}
"""


def apparmor_spec(profile: str, script: str) -> Facts:
    made = room.spec(script)
    made["process"]["apparmorProfile"] = profile
    return made


@case
def apparmor() -> Facts:
    room.run("apparmor_parser", "-r", input=PROFILE).ok()
    look = "cat /proc/self/attr/current; cat /etc/secret"
    done = ctk("run", "-b", room.bundle("armour", apparmor_spec("ctk-vm", look)), "armour")
    none = ctk("run", "-b", room.bundle("naked", room.spec(look)), "naked")
    wrong = ctk("run", "-b", room.bundle("wrong", apparmor_spec("ctk-vm-absent", look)), "wrong")
    left = ctk("list", "-q").out
    ctk("run", "-d", "-b", room.bundle("armour2", apparmor_spec("ctk-vm", "sleep 100")), "armour2").ok()
    same = ctk("exec", "armour2", "/bin/sh", "-c", look)
    other = ctk("exec", "--apparmor", "ctk-vm-second", "armour2", "/bin/sh", "-c", look)
    ctk("delete", "-f", "armour2").ok()
    names = ("done", "none", "wrong", "exec", "exec other")
    return {"left": left, **{n: d.facts() for n, d in zip(names, (done, none, wrong, same, other), strict=True)}}


@case
def time_namespace() -> Facts:
    made = room.spec("cat /proc/uptime /proc/self/timens_offsets")
    made["linux"]["namespaces"].append({"type": "time"})
    made["linux"]["timeOffsets"] = {"monotonic": {"secs": 172800, "nanosecs": 5}, "boottime": {"secs": 864000}}
    done = ctk("run", "-b", room.bundle("time", made), "time")
    made["process"]["args"] = ["/bin/sleep", "100"]
    ctk("run", "-d", "-b", room.bundle("time", made), "time2").ok()
    entered = ctk("exec", "time2", "/bin/cat", "/proc/uptime")
    ctk("delete", "-f", "time2").ok()
    return {"run": done.facts(), "exec": entered.facts(), "host": float(room.read("/proc/uptime").split()[0])}


def idmap_source(on_tmpfs: bool) -> Path:
    folder = Path("/dev/shm/idmap") if on_tmpfs else room.HOME / "idmap"
    (folder / "below").mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text("x")
    os.chown(folder / "file", 1005, 1006)
    if not os.path.ismount(folder / "below"):
        room.run("mount", "-t", "tmpfs", "below", str(folder / "below")).ok()
        (folder / "below/deep").write_text("y")
        os.chown(folder / "below/deep", 1005, 1006)
    return folder


def idmap(name: str, on_tmpfs: bool, option: str, user_namespace: bool) -> Facts:
    """A folder with a mount in it, mapped so that 1000+n on disk is 50000+n for the container's mount."""
    source = idmap_source(on_tmpfs)
    made = room.spec("cd /mnt; stat -c '%n %u:%g' file below/deep; touch new; stat -c '%n %u:%g' new")
    mount: Facts = {"destination": "/mnt", "type": "bind", "source": str(source), "options": ["rbind", option]}
    made["mounts"].append(mount)
    base = 0
    if user_namespace:
        base = 200000
        made["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            made["linux"][kind] = [{"containerID": 0, "hostID": base, "size": 65536}]
    else:
        for kind in ("uidMappings", "gidMappings"):
            mount[kind] = [
                {"containerID": 0, "hostID": 0, "size": 1},
                {"containerID": 1000, "hostID": 50000, "size": 100},
            ]
    done = ctk("run", "-b", room.bundle(name, made), name)
    new = source / "new"
    owner = f"{new.stat().st_uid}:{new.stat().st_gid}" if new.exists() else ""
    new.unlink(missing_ok=True)
    return {**done.facts(), "on disk": owner}


@case
def idmap_ext4() -> Facts:
    return idmap("idmap1", False, "idmap", False)


@case
def idmap_tmpfs() -> Facts:
    return idmap("idmap2", True, "idmap", False)


@case
def ridmap() -> Facts:
    return idmap("idmap3", False, "ridmap", False)


@case
def idmap_in_user_namespace() -> Facts:
    return idmap("idmap4", False, "idmap", True)


@case
def features() -> Facts:
    return {"out": ctk("features").ok().out}


if __name__ == "__main__":
    room.main()
