"""The running containers, their processes, and the resources that they use."""

import os
import time

from toolkit.errors import CtkError, NotFound
from toolkit.kernel.host import read
from toolkit.observe import proc
from toolkit.runtime import cgroups, lifecycle
from toolkit.runtime import record as records
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from toolkit.runtime.record import Record

_NO_LIMIT = 1 << 60


class Use:
    """The resource usage of a container at a moment. A limit of 0 means no limit."""

    def __init__(
        self,
        id: str,
        at_s: float,
        cpu_s: float,
        memory_bytes: int,
        memory_limit_bytes: int,
        pids: int,
        pids_limit: int,
        read_bytes: int,
        written_bytes: int,
    ) -> None:
        self.id = id
        self.at_s = at_s
        self.cpu_s = cpu_s
        self.memory_bytes = memory_bytes
        self.memory_limit_bytes = memory_limit_bytes
        self.pids = pids
        self.pids_limit = pids_limit
        self.read_bytes = read_bytes
        self.written_bytes = written_bytes


def running(root: str, wanted: "Iterable[str]" = ()) -> "list[Record]":
    """The containers below `root` whose first process is alive; with `wanted` only those, in that order.

    Raises NotFound for a wanted container that does not exist, CtkError for one that is not running.
    """
    chosen = list(wanted)
    if not chosen:
        try:
            found = [_loaded(root, name) for name in records.ids(root)]
        except OSError:
            return []
        return [one for one in found if one is not None and lifecycle.alive(one)]
    result = []
    for name in chosen:
        container = records.load(root, name)
        if not lifecycle.alive(container):
            raise CtkError(
                f"look at the container {name!r}", because="it is not running", hint=f"ctk state {quote(name)}"
            )
        result.append(container)
    return result


def _loaded(root: str, name: str) -> "Record | None":
    try:
        return records.load(root, name)
    except (CtkError, OSError):
        return None


class Tree:
    """A root file system: its folder, the path under which it can be read now, and the mounts in it."""

    def __init__(
        self,
        rootfs: str,
        seen_at: str,
        mounted: frozenset[str] = frozenset(),
    ) -> None:
        self.rootfs = rootfs
        self.seen_at = seen_at
        self.mounted = mounted


def tree(root: str, name: str) -> Tree:
    """The root file system of a container, or of `name` itself if it is a folder's path.

    A container with an overlay (`run --ephemeral`, `--overlay`) is read through its own mount namespace, which has the
    overlay. Raises NotFound, and CtkError if such a container has ended.
    """
    container = None
    if "/" not in name:
        try:
            container = records.load(root, name)
        except NotFound:
            if not os.path.isdir(name):
                raise
    if container is None:
        return Tree(os.path.abspath(name), os.path.abspath(name))
    layer = container.extra.get("layer")
    if not layer:
        return Tree(container.rootfs, container.rootfs)
    if not lifecycle.alive(container):
        hint = (
            f"what it wrote is in {layer}/upper" if layer != "memory" else f"its root is untouched: {container.rootfs}"
        )
        raise CtkError(f"look at the layer of {name!r}", because="the container has ended", hint=hint)
    points = proc.mounts(read(f"/proc/{container.pid}/mountinfo", 1 << 22))
    mounted = frozenset(point["destination"] for point in points)
    return Tree(container.rootfs, f"/proc/{container.pid}/root", mounted)


def pids(container: "Record") -> list[int]:
    """The pids of a container's processes in the host's pid namespace, sorted."""
    found: list[int] = []
    if container.cgroups:
        try:
            found = cgroups.from_facts(container.cgroups).pids()
        except (CtkError, OSError):
            found = []
    if not found:
        found = _same_namespace(container.pid)
    return sorted(found)


def _same_namespace(pid: int) -> list[int]:
    """The pids of a container without a cgroup: all in its init's pid namespace, unless that is the host's."""
    theirs = _link(f"/proc/{pid}/ns/pid")
    if not theirs or theirs == _link("/proc/self/ns/pid"):
        return [pid] if os.path.isdir(f"/proc/{pid}") else []
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [number for number in numbers if _link(f"/proc/{number}/ns/pid") == theirs]


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def use(container: "Record") -> Use:
    """What the container uses now, from its cgroups, and from its processes if the cgroups don't have it."""
    stats: dict[str, Any] = {}
    if container.cgroups:
        try:
            stats = cgroups.from_facts(container.cgroups).stats()
        except (CtkError, OSError, ValueError):
            stats = {}
    memory, tasks = stats.get("memory") or {}, stats.get("pids") or {}
    cpu_ns = stats.get("cpu", {}).get("usage", {}).get("total")
    block = (stats.get("blkio") or {}).get("ioServiceBytesRecursive")
    used = memory.get("usage", {}).get("usage")
    processes = []
    if cpu_ns is None or used is None or block is None or not tasks:
        processes = [one for one in map(proc.process, pids(container)) if one is not None]
    if used is None:
        used = sum(one.memory_bytes for one in processes)
    else:
        # Inactive file pages can be reclaimed at once, so they are subtracted, as engines do.
        raw = memory.get("raw", {})
        used = max(0, used - raw.get("total_inactive_file", raw.get("inactive_file", 0)))
    limit = memory.get("usage", {}).get("limit", 0)
    return Use(
        id=container.id,
        at_s=time.monotonic(),
        cpu_s=cpu_ns / 1e9 if cpu_ns is not None else sum(one.cpu_s for one in processes),
        memory_bytes=used,
        memory_limit_bytes=0 if limit >= _NO_LIMIT else limit,
        pids=tasks.get("current", 0) if tasks else sum(one.threads for one in processes),
        pids_limit=tasks.get("limit", 0),
        read_bytes=_sum(block, "Read") if block is not None else sum(one.read_bytes for one in processes),
        written_bytes=_sum(block, "Write") if block is not None else sum(one.written_bytes for one in processes),
    )


def _sum(entries: "list[dict[str, Any]]", operation: str) -> int:
    return sum(entry.get("value", 0) for entry in entries if entry.get("op") == operation)


def cpu_percent(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Percent of one processor between two (time, cpu time used) pairs, in seconds."""
    passed = after[0] - before[0]
    return max(0.0, (after[1] - before[1]) / passed * 100) if passed > 0 else 0.0
