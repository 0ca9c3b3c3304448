"""Observations as table rows: for inspect, stats and top."""

import time

from toolkit.observe import living, proc
from toolkit.observe.living import Use
from toolkit.ui.braces import braced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from toolkit.runtime.record import Record

    Rows = tuple[tuple[str, ...], ...]

STATS = ("ID", "CPU %", "MEMORY", "LIMIT", "MEM %", "PIDS", "LIMIT", "READ", "WRITTEN")
TOP = ("ID", "PID", "INSIDE", "UID", "S", "CPU %", "MEMORY", "TIME", "COMMAND")
# A rate needs two samples; the time between the first two.
FIRST_S = 0.5


def size(size_bytes: int) -> str:
    """Bytes in binary units, as memory limits are written: '64.0M'."""
    value = float(size_bytes)
    for unit in ("B", "K", "M", "G"):
        if value < 1023.95:
            return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


def stats_row(before: Use, after: Use) -> tuple[str, ...]:
    """The row of one container, from two samples."""
    percent = living.cpu_percent((before.at_s, before.cpu_s), (after.at_s, after.cpu_s))
    limit = after.memory_limit_bytes
    return (
        after.id,
        f"{percent:.1f}",
        size(after.memory_bytes),
        size(limit) if limit else "-",
        f"{after.memory_bytes / limit * 100:.1f}" if limit else "-",
        str(after.pids),
        str(after.pids_limit) if after.pids_limit else "-",
        size(after.read_bytes),
        size(after.written_bytes),
    )


def stats_json(before: Use, after: Use) -> "dict[str, Any]":
    """The same for --json: plain numbers (bytes, percent of one processor)."""
    return {
        "id": after.id,
        "cpuPercent": round(living.cpu_percent((before.at_s, before.cpu_s), (after.at_s, after.cpu_s)), 2),
        "cpuSeconds": round(after.cpu_s, 3),
        "memory": after.memory_bytes,
        "memoryLimit": after.memory_limit_bytes or None,
        "pids": after.pids,
        "pidsLimit": after.pids_limit or None,
        "read": after.read_bytes,
        "written": after.written_bytes,
    }


def stats(
    look: "Callable[[], Sequence[Record]]", interval_s: float, *, wait: "Callable[[float], None]" = time.sleep
) -> "Iterator[list[tuple[Use, Use]]]":
    """Yield pairs of samples of each running container, endlessly; the first after FIRST_S."""
    before = {one.id: living.use(one) for one in look()}
    wait(FIRST_S)
    while True:
        now = {one.id: living.use(one) for one in look()}
        yield [(before[name], use) for name, use in now.items() if name in before]
        before = now
        wait(interval_s)


def top(
    look: "Callable[[], Sequence[Record]]", interval_s: float, *, wait: "Callable[[float], None]" = time.sleep
) -> "Iterator[list[tuple[str, proc.Process, float]]]":
    """Yield (container, process, percent of one processor), the busiest first, endlessly; the first after FIRST_S."""
    before = _processes(look())
    then = time.monotonic()
    wait(FIRST_S)
    while True:
        now, moment = _processes(look()), time.monotonic()
        found = []
        for key, one in now.items():
            cpu_s = before[key].cpu_s if key in before else one.cpu_s
            found.append((key[0], one, living.cpu_percent((then, cpu_s), (moment, one.cpu_s))))
        yield sorted(found, key=lambda row: (-row[2], row[0], row[1].pid))
        before, then = now, moment
        wait(interval_s)


def _processes(containers: "Sequence[Record]") -> dict[tuple[str, int], proc.Process]:
    found = {}
    for container in containers:
        for one in map(proc.process, living.pids(container)):
            if one is not None:
                found[container.id, one.pid] = one
    return found


def top_row(container_id: str, one: proc.Process, percent: float) -> tuple[str, ...]:
    """The row of one process."""
    minutes, seconds = divmod(one.cpu_s, 60)
    return (
        container_id,
        str(one.pid),
        str(one.inner_pid),
        str(one.uid),
        one.state,
        f"{percent:.1f}",
        size(one.memory_bytes),
        f"{minutes:.0f}:{seconds:05.2f}",
        one.command,
    )


def inspection(document: "dict[str, Any]") -> "list[tuple[str, tuple[str, ...], Rows, str]]":
    """(title, headings, rows, text if there are none) of each part of the document of `inspect`."""
    names = ("id", "status", "pid", "hostname", "bundle", "rootfs", "created")
    facts: list[tuple[str, ...]] = [(name, str(document[name])) for name in names if name in document]
    facts.append(("rootless", "yes" if document["rootless"] else "no"))
    parts: list[tuple[str, tuple[str, ...], Rows, str]] = [("container", ("", ""), tuple(facts), "")]
    if not document["pid"]:
        return parts
    parts.append(("namespaces", ("TYPE", "INODE", "HOST", ""), tuple(
        (row["type"], str(row["inode"]), str(row["host"]), "shared with the host" if row["shared"] else "its own")
        for row in document["namespaces"]
    ), ""))  # fmt: skip
    maps = [
        (kind, *(str(row[key]) for key in ("containerID", "hostID", "size")))
        for kind, field in (("user", "uidMappings"), ("group", "gidMappings"))
        for row in document[field]
    ]
    parts.append(("ids", ("KIND", "INSIDE", "HOST", "COUNT"), tuple(maps), "not mapped"))
    limits = tuple(
        (row["name"], *(_limit(row["name"], row[key]) for key in ("current", "peak", "limit")))
        for row in document["cgroups"]["limits"]
    )
    parts.append(("limits", ("WHAT", "NOW", "PEAK", "LIMIT"), limits, "none: it has no cgroup of its own"))
    paths = tuple((name or "unified", path) for name, path in sorted(document["cgroups"]["paths"].items()))
    parts.append(("cgroups", ("CONTROLLERS", "PATH"), paths, "none"))
    sets: dict[str, list[str]] = {}
    for name, names in document["capabilities"].items():
        sets.setdefault(" ".join(word.removeprefix("CAP_").lower() for word in names) or "none", []).append(name)
    parts.append(("capabilities", ("", ""), tuple((", ".join(kinds), names) for names, kinds in sets.items()), ""))
    filters = document["seccomp"]
    rights = (
        ("seccomp", filters["mode"] + (f", {filters['filters']} filters" if filters["filters"] else "")),
        ("no_new_privs", "yes" if document["noNewPrivileges"] else "no"),
        ("label", document["label"] or "none"),
    )
    parts.append(("rights", ("", ""), rights, ""))
    ports = tuple((p["protocol"], f"{p['address']} {p['port']}", str(p["pid"] or "?")) for p in document["ports"])
    parts.append(("ports", ("PROTOCOL", "ADDRESS", "PID"), ports, "none open"))
    parts.append(("mounts", ("WHERE", "TYPE", "SOURCE", "OPTIONS"), _mounts(document["mounts"]), ""))
    processes = tuple(
        (str(p["pid"]), str(p["innerPid"]), str(p["uid"]), p["state"], size(p["memory"]), p["command"])
        for p in document["processes"]
    )
    parts.append(("processes", ("PID", "INSIDE", "UID", "S", "MEMORY", "COMMAND"), processes, ""))
    return sorted(parts, key=lambda part: _FIRST.index(part[0]) if part[0] in _FIRST else len(_FIRST))


# The most useful ones first; the rest follows in the order of the document.
_FIRST = ("container", "limits", "processes", "ports")


def _mounts(mounts: "Sequence[dict[str, str]]") -> "Rows":
    """Mounts of one type, source and options in one row: masked and read-only paths, cgroup v1 hierarchies."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for mount in mounts:
        alike.setdefault((mount["type"], mount["source"], mount["options"]), []).append(mount["destination"])
    rows = []
    for facts, places in alike.items():
        if len(places) < _FOLDED:
            rows += [(place, *facts) for place in places]
        else:
            rows.append((braced(places), *facts))
    return tuple(rows)


_FOLDED = 3


def _limit(name: str, value: "Any") -> str:
    if value is None:
        return "-"
    return size(value) if name.startswith("memory") and isinstance(value, int) else str(value)
