"""Findings about this host: the parts of a document that it cannot carry out, judged only by facts that can be read."""

import os
from typing import Any

from toolkit.errors import CtkError, Invalid
from toolkit.explain.finding import Found, found
from toolkit.kernel import namespaces
from toolkit.kernel.host import HostFacts, read

Spec = dict[str, Any]

# What cgroup v2 has no file for (toolkit/runtime/cgroups/limits.py, plan_v2).
V1_ONLY = (
    "memory.kernelTCP", "memory.swappiness", "memory.disableOOMKiller", "cpu.realtimeRuntime", "cpu.realtimePeriod",
    "blockIO.leafWeight", "network.classID", "network.priorities",
)  # fmt: skip
_CONTROLLERS = (
    ("memory", "memory"), ("cpu.shares", "cpu"), ("cpu.quota", "cpu"), ("cpu.period", "cpu"), ("cpu.idle", "cpu"),
    ("cpu.cpus", "cpuset"), ("cpu.mems", "cpuset"), ("pids", "pids"), ("hugepageLimits", "hugetlb"), ("rdma", "rdma"),
)  # fmt: skip
_LEAST_MEMORY = 512 << 10


def findings(spec: Spec, *, terminal: bool, privileged: bool, facts: HostFacts | None = None) -> list[Found]:
    """What this host cannot carry out; `facts` are its own unless given.

    `terminal`: the caller has one; `privileged`: the caller is root.
    """
    facts = facts or HostFacts()
    linux = spec.get("linux") or {}
    process = spec.get("process") or {}
    listed = _namespaces(linux, privileged, facts)
    if process.get("apparmorProfile") not in (None, "", "unconfined"):
        if not facts.apparmor:
            listed.append(found("E233", "process.apparmorProfile", "this host does not run AppArmor"))
        elif (loaded := _profiles()) is not None and process["apparmorProfile"] not in loaded:
            message = f"no profile {process['apparmorProfile']!r} is loaded"
            listed.append(found("E233", "process.apparmorProfile", message, "load it: apparmor_parser -r FILE"))
    if process.get("selinuxLabel") and not facts.selinux:
        listed.append(found("E233", "process.selinuxLabel", "this host does not run SELinux"))
    if linux.get("intelRdt"):
        listed.append(found("E234", "linux.intelRdt", "is not supported by this build of ctk"))
    for name in linux.get("netDevices") or ():
        if not os.path.exists(f"/sys/class/net/{name}"):
            listed.append(found("E240", f"linux.netDevices[{name!r}]", "is not an interface of this host"))
    if process.get("terminal") and not terminal:
        listed.append(found("W250", "process.terminal", "there is no terminal here that the container could take over"))
    listed += _file_systems(spec)
    return listed + _resources(linux.get("resources") or {}, facts)


def _namespaces(linux: Spec, privileged: bool, facts: HostFacts) -> list[Found]:
    listed = []
    kinds = {}
    for index, entry in enumerate(linux.get("namespaces") or ()):
        kind, path = entry.get("type") or "", entry.get("path") or ""
        kinds[kind] = path
        if kind not in namespaces.NAMESPACES:
            continue
        if not os.path.exists("/proc/self/ns/" + namespaces.NAMESPACES[kind][1]):
            listed.append(found("E230", f"linux.namespaces[{index}].type", f"this kernel has no {kind} namespaces"))
        if path.startswith("/") and not os.path.exists(path):
            listed.append(found("E231", f"linux.namespaces[{index}].path", f"{path!r} does not exist"))
    if not privileged:
        if "user" not in kinds:
            message = "there is no user namespace, and you are not root"
            listed.append(found("E232", "linux.namespaces", message))
        elif not kinds["user"] and facts.user_namespaces:
            listed.append(
                found("E232", "linux.namespaces", f"you may not make a user namespace: {facts.user_namespaces}")
            )
    return listed


def _profiles() -> set[str] | None:
    text = read("/sys/kernel/security/apparmor/profiles", 1 << 20)
    return {line.rpartition(" (")[0] for line in text.splitlines()} or None


def _file_systems(spec: Spec) -> list[Found]:
    known = {line.split()[-1] for line in read("/proc/filesystems").splitlines() if line.strip()}
    listed = []
    for index, mount in enumerate(spec.get("mounts") or ()):
        kind, options = mount.get("type") or "", mount.get("options") or ()
        if kind in ("", "bind", "none", "cgroup", "cgroup2") or "bind" in options or "rbind" in options or not known:
            continue
        if kind not in known:
            listed.append(found("W241", f"mounts[{index}].type", f"the kernel does not list the file system {kind!r}"))
    return listed


def _get(resources: Spec, path: str) -> Any:
    at: Any = resources
    for part in path.split("."):
        at = at.get(part) if isinstance(at, dict) else None
    return at


def _resources(resources: Spec, facts: HostFacts) -> list[Found]:
    listed = []
    at = "linux.resources."
    unified = facts.cgroup_layout == "v2"
    if unified:
        for path in V1_ONLY:
            if _get(resources, path):
                listed.append(found("W237", at + path, "is ignored: this host has cgroup v2"))
        for name, value in (resources.get("unified") or {}).items():
            del value
            controller = name.partition(".")[0]
            if controller not in ("cgroup", *_controllers()):
                listed.append(found("E235", f"{at}unified[{name!r}]", f"this host has no controller {controller!r}"))
    elif resources.get("unified") and facts.cgroup_layout != "none":
        listed.append(found("E236", at + "unified", "this host has cgroup v1"))
    there = _controllers()
    missing = set()
    for path, controller in _CONTROLLERS:
        if _get(resources, path) and controller not in there and (path.partition(".")[0], controller) not in missing:
            missing.add((path.partition(".")[0], controller))
            listed.append(found("E235", at + path, f"this host has no controller {controller!r}"))
    listed += _numbers(resources, at)
    try:
        from toolkit.runtime.cgroups import limits

        (limits.plan_v2 if unified else limits.plan_v1)({k: v for k, v in resources.items() if k != "unified"})
    except Invalid as error:
        listed.append(found("E115", error.path, error.because, error.hint))
    except (CtkError, KeyError, TypeError):
        pass  # what is missing there was reported by the document's own rules
    return listed


def _controllers() -> set[str]:
    from toolkit.runtime.cgroups import layout

    names: set[str] = set()
    for keys, mountpoint, _ in layout.hierarchies():
        names.update(keys.split(",") if keys else read(mountpoint + "/cgroup.controllers").split())
    return names


def _numbers(resources: Spec, at: str) -> list[Found]:
    listed = []
    for name, file in (("cpus", "/sys/devices/system/cpu/online"), ("mems", "/sys/devices/system/node/online")):
        asked = _list(_get(resources, "cpu." + name) or "")
        there = _list(read(file).strip())
        if asked and there and not asked <= there:
            extra = ", ".join(str(number) for number in sorted(asked - there)[:5])
            listed.append(found("E238", f"{at}cpu.{name}", f"this host does not have number {extra}"))
    try:
        sizes = {_page_size(name) for name in os.listdir("/sys/kernel/mm/hugepages")}
    except OSError:
        sizes = set()
    for index, entry in enumerate(resources.get("hugepageLimits") or ()):
        if entry.get("pageSize") and sizes and entry["pageSize"] not in sizes:
            message = f"{entry['pageSize']!r} is not one of {', '.join(sorted(sizes))}"
            listed.append(found("E239", f"{at}hugepageLimits[{index}].pageSize", message))
    limit = _get(resources, "memory.limit")
    if isinstance(limit, int) and 0 < limit < _LEAST_MEMORY:
        hint = f"did you mean {limit} MiB? write {limit << 20}" if limit < 65536 else ""
        listed.append(found("W253", at + "memory.limit", f"{limit} bytes", hint))
    return listed


def _list(text: str) -> set[int]:
    """The numbers of a kernel list such as 0-3,7; empty if `text` is not such a list."""
    numbers: set[int] = set()
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        if low.isdigit() and (not high or high.isdigit()) and int(high or low) < 1 << 16:
            numbers.update(range(int(low), int(high or low) + 1))
    return numbers


def _page_size(name: str) -> str:
    """The page size of a folder such as hugepages-2048kB, in the spec's form: 2MB."""
    size = int(name.removeprefix("hugepages-").removesuffix("kB"))
    for unit in ("KB", "MB", "GB"):
        if size < 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}TB"
