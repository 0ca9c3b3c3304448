"""One container from outside: what the kernel reports about its first process, its cgroups and its sockets."""

import os

from toolkit.errors import CtkError
from toolkit.kernel import capabilities
from toolkit.kernel.host import read
from toolkit.observe import living, proc
from toolkit.runtime import cgroups, lifecycle
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.record import Record

_SETS = (
    ("effective", "CapEff"),
    ("permitted", "CapPrm"),
    ("inheritable", "CapInh"),
    ("bounding", "CapBnd"),
    ("ambient", "CapAmb"),
)
_SECCOMP = {"0": "off", "1": "strict", "2": "filter"}
# (name, file with the limit, file with the current use, file with the highest use) of cgroup v2 and of v1.
_V2 = (
    ("memory", "memory.max", "memory.current", "memory.peak"),
    ("memory.high", "memory.high", "memory.current", ""),
    ("memory.swap", "memory.swap.max", "memory.swap.current", ""),
    ("pids", "pids.max", "pids.current", "pids.peak"),
    ("cpu", "cpu.max", "", ""),
    ("cpu.weight", "cpu.weight", "", ""),
    ("cpuset.cpus", "cpuset.cpus", "cpuset.cpus.effective", ""),
    ("io", "io.max", "", ""),
)
_V1 = (
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes"),
    ("memory+swap", "memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes", "memory.memsw.max_usage_in_bytes"),
    ("pids", "pids.max", "pids.current", ""),
    ("cpu.quota", "cpu.cfs_quota_us", "", ""),
    ("cpu.period", "cpu.cfs_period_us", "", ""),
    ("cpu.shares", "cpu.shares", "", ""),
    ("cpuset.cpus", "cpuset.cpus", "cpuset.effective_cpus", ""),
)
_UNLIMITED = ("max", "-1", str((1 << 63) - 4096))


def inspect(root: str, container_id: str) -> "dict[str, Any]":
    """All that can be seen of a container; if it does not run, only what is in its record. Raises NotFound."""
    container = records.load(root, container_id)
    status = lifecycle.status(container)
    seen: dict[str, Any] = {
        "id": container.id,
        "status": status,
        "pid": container.pid if lifecycle.alive(container) else 0,
        "bundle": container.bundle,
        "rootfs": container.rootfs,
        "created": container.created,
        "owner": container.owner_uid,
        "rootless": container.rootless,
        "annotations": container.annotations,
        "record": container.folder,
    }
    if not seen["pid"]:
        return seen
    pid = container.pid
    facts = proc.status(read(f"/proc/{pid}/status"))
    if not facts:
        raise CtkError(f"look at the container {container_id!r}", because="it has just ended")
    pids = living.pids(container)
    seen["hostname"] = _hostname(container)
    seen["namespaces"] = namespaces(pid)
    seen["uidMappings"] = _mapping(f"/proc/{pid}/uid_map")
    seen["gidMappings"] = _mapping(f"/proc/{pid}/gid_map")
    seen["cgroups"] = _cgroups(container)
    seen["capabilities"] = {name: capabilities.names(int(facts[field], 16)) for name, field in _SETS if field in facts}
    seen["noNewPrivileges"] = facts.get("NoNewPrivs") == "1"
    seen["seccomp"] = {
        "mode": _SECCOMP.get(facts.get("Seccomp", "0"), "?"),
        "filters": int(facts.get("Seccomp_filters", 0)),
    }
    seen["label"] = read(f"/proc/{pid}/attr/current").strip("\0\n ")
    seen["mounts"] = proc.mounts(read(f"/proc/{pid}/mountinfo", 1 << 22))
    seen["ports"] = ports(pid, pids)
    seen["processes"] = [
        {
            "pid": one.pid,
            "innerPid": one.inner_pid,
            "uid": one.uid,
            "state": one.state,
            "memory": one.memory_bytes,
            "cpuSeconds": round(one.cpu_s, 2),
            "command": one.command,
        }
        for one in map(proc.process, pids)
        if one is not None
    ]
    return seen


def namespaces(pid: int) -> "list[dict[str, Any]]":
    """Each namespace of a process with its inode and the host's (that of process 1, or ours if that is hidden)."""
    found = []
    for kind in sorted(os.listdir("/proc/self/ns")):
        if kind.endswith("_for_children"):
            continue
        theirs = _inode(f"/proc/{pid}/ns/{kind}")
        host = _inode(f"/proc/1/ns/{kind}") or _inode(f"/proc/self/ns/{kind}")
        found.append({"type": kind, "inode": theirs, "host": host, "shared": theirs == host})
    return found


def _inode(path: str) -> int:
    try:
        return int(os.readlink(path).partition("[")[2].rstrip("]"))
    except (OSError, ValueError):
        return 0


def _hostname(container: "Record") -> str:
    try:
        return str(container.config().get("hostname", ""))
    except CtkError:
        return ""


def _mapping(path: str) -> list[dict[str, int]]:
    lines = proc.id_map(read(path))
    return [{"containerID": first, "hostID": outside, "size": count} for first, outside, count in lines]


def _cgroups(container: "Record") -> "dict[str, Any]":
    """The paths of its cgroups, and each limit with the current use."""
    if not container.cgroups:
        return {"paths": {}, "limits": []}
    manager = cgroups.from_facts(container.cgroups)
    paths = manager.folders()
    table = _V2 if manager.unified else _V1
    limits = []
    for name, limit_file, current_file, peak_file in table:
        controller = limit_file.partition(".")[0]
        folder = paths.get("") if table is _V2 else _folder(paths, controller)
        value = read(f"{folder}/{limit_file}").strip() if folder else ""
        if not value:
            continue
        limits.append(
            {
                "name": name,
                "limit": None if value in _UNLIMITED else _number(value),
                "current": _number(read(f"{folder}/{current_file}").strip()) if current_file else None,
                "peak": _number(read(f"{folder}/{peak_file}").strip()) if peak_file else None,
                "file": f"{folder}/{limit_file}",
            }
        )
    return {"paths": paths, "limits": limits, "oomKills": manager.oom_kills()}


def _folder(paths: dict[str, str], controller: str) -> str:
    return next((path for names, path in paths.items() if controller in names.split(",")), "")


def _number(text: str) -> "Any":
    return int(text) if text.lstrip("-").isdigit() else text or None


def ports(pid: int, pids: list[int]) -> "list[dict[str, Any]]":
    """The listening sockets in the network namespace of `pid`, each with the process of `pids` that has it open.

    In the host's own namespace only those that one of `pids` has open: the others don't belong to the container.
    """
    held = {inode: number for number in pids for inode in proc.sockets(number)}
    shared = _inode(f"/proc/{pid}/ns/net") == _inode("/proc/self/ns/net")
    found = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for port in proc.listening(read(f"/proc/{pid}/net/{protocol}", 1 << 20), protocol):
            if shared and port.inode not in held:
                continue
            found.append(
                {
                    "protocol": protocol,
                    "address": port.address,
                    "port": port.port,
                    "pid": held.get(port.inode, 0),
                }
            )
    return found
