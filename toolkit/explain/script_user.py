"""A new user namespace in a launch's script: what has to be done outside it, and in which order.

Root in the namespace is an ordinary user on the host. So the host's root first makes, in a mount namespace between the
two, what that user could not: the mount of the root, which may be in a folder that the user can't enter, the sources of
bind mounts, and the device nodes, because mknod(2) is refused inside. Then unshare(1) makes only the user namespace.
Its process waits until the helper outside has written the maps, becomes root in it, and makes the other namespaces: the
user namespace then owns them (user_namespaces(7)).
"""

from typing import TYPE_CHECKING

from toolkit.explain.act import Act
from toolkit.explain.launch import Launch
from toolkit.runtime import mount_telling
from toolkit.runtime.devices import MakeDevices
from toolkit.runtime.mounting import Mount
from toolkit.runtime.shell_words import in_root, parent
from toolkit.runtime.steps import SetNames
from toolkit.text import quote

if TYPE_CHECKING:
    from toolkit.oci.types import Device


def wanted(launch: Launch) -> bool:
    """Does the container get a user namespace of its own?"""
    return "user" in launch.plan.new


def root_of(launch: Launch) -> str:
    """uid:gid on the host of root in the namespace; 0 for an id that is not mapped."""
    linux = launch.spec["linux"]
    return f"{_on_host(0, linux['uidMappings'])}:{_on_host(0, linux['gidMappings'])}"


def _on_host(number: int, maps: list[dict[str, int]]) -> int:
    for entry in maps:
        if 0 <= number - entry["containerID"] < entry["size"]:
            return entry["hostID"] + number - entry["containerID"]
    return 0 if number == 0 else _on_host(0, maps)


def rooms(launch: Launch) -> list[str]:
    """Lines for outside, once the script's work folder exists: permissions in it."""
    return [
        'mkfifo "$work/unmapped" "$work/mapped"',
        f'chown {root_of(launch)} "$work/ready" "$work/go" "$work/made" "$work/hooked"',
        'chmod 711 "$work"',
    ]


def mapped_by_helper(launch: Launch) -> list[str]:
    """The helper's first task: write the maps."""
    lines = ['read -r pid < "$work/unmapped"']
    for act in launch.acts:
        if act.field in ("linux.uidMappings", "linux.gidMappings"):
            lines += [line.replace(" > /proc/PID/", ' > "/proc/$pid"/') for line in act.shell]
    return [*lines, 'echo go > "$work/mapped"', "pid="]


def named_by_helper(launch: Launch) -> list[str]:
    """Set the host and domain name: only the host's root may write them in its procfs (kernel, proc_sys_permission)."""
    names = [act for act in launch.acts if act.step >= 0 and isinstance(launch.plan.steps[act.step], SetNames)]
    return [
        f'nsenter --uts="/proc/$pid/ns/uts" sh -c {quote(line)}' for act in names for line in act.shell
    ]  # fmt: skip


def prepared(launch: Launch) -> list[str]:
    """Lines for the host's root, in the mount namespace in between."""
    lines = ['mkdir "$work/root"', 'mount --rbind "$root" "$work/root"', "root=$work/root"]
    for number, step in _binds(launch):
        place = f'"$work/bind{number}"'
        source = quote(step.source)
        lines += [f"if [ -d {source} ]; then mkdir {place}; else touch {place}; fi", f"mount --rbind {source} {place}"]
    lines += ['mkdir "$work/dev"', 'mount -t tmpfs -o nosuid,noexec,mode=755 none "$work/dev"']
    for number, device in _devices(launch):
        lines += _node(launch, f'"$work/dev/{number}"', device)
    if (launch.spec.get("process") or {}).get("terminal"):
        lines.append(f'chown {root_of(launch)} "$(tty)"')
    return lines


def entered(flags: tuple[str, ...], *, own_cgroups: bool) -> list[str]:
    """Lines for the new user namespace: wait for the maps, become its root, make the other namespaces."""
    others = [flag for flag in flags if flag != "--user"]
    if own_cgroups:
        others.insert(0, "--cgroup")
    return [
        "read -r pid rest < /proc/self/stat",
        'echo "$pid" > "$work/unmapped"',
        'read -r go < "$work/mapped"',
        f'exec setpriv --reuid=0 --regid=0 --clear-groups unshare {" ".join(others)} sh -c "$inside"',
    ]


def told(launch: Launch, act: Act) -> Act | None:
    """An inside act as it is done in a user namespace; None for one that the helper does."""
    step = launch.plan.steps[act.step] if act.step >= 0 else None
    if isinstance(step, SetNames):
        return None
    if isinstance(step, MakeDevices):
        lines = [f"mkdir -p {in_root(folder)}" for folder in dict.fromkeys(parent(d["path"]) for d in step.devices)]
        for number, device in _devices(launch):
            place = in_root(device["path"])
            lines.append(f': > {place}; mount --bind "$work/dev/{number}" {place}')
        return Act(act.side, act.sentence, "", tuple(lines), act.field)
    for number, bind in _binds(launch):
        if bind is step:
            shell = mount_telling.bind_lines(bind, f'"$work/bind{number}"')
            return Act(act.side, act.sentence, "", tuple(shell), act.field)
    return act


def _binds(launch: Launch) -> list[tuple[int, Mount]]:
    return [(n, step) for n, step in enumerate(launch.plan.steps) if isinstance(step, Mount) and step.is_bind]


def _devices(launch: Launch) -> "list[tuple[int, Device]]":
    steps = [step for step in launch.plan.steps if isinstance(step, MakeDevices)]
    return list(enumerate(steps[0].devices)) if steps else []


def _node(launch: Launch, place: str, device: "Device") -> list[str]:
    linux = launch.spec["linux"]
    given = device.get("fileMode")
    mode = 0o666 if given is None else given & 0o7777
    tail = "p" if device["type"] == "p" else f"{device['type']} {device.get('major') or 0} {device.get('minor') or 0}"
    uid = _on_host(device.get("uid") or 0, linux["uidMappings"])
    gid = _on_host(device.get("gid") or 0, linux["gidMappings"])
    return [f"mknod -m {mode:o} {place} {tail}", f"chown {uid}:{gid} {place}"]
