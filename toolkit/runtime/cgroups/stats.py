"""Statistics of a container's resources, in the fields of `data` in runc's `events --stats` (its types/events.go).

Zeros and empty lists are left out where runc's encoder does so. CPU times are in nanoseconds, memory in bytes.
"""

import os

from toolkit.runtime.cgroups import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Folder = Callable[[str], str]

_NO_LIMIT = 2**64 - 1
_SECOND_NS = 1_000_000_000
_CPUSET_FLAGS = (
    "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab memory_pressure "
    "sched_load_balance sched_relax_domain_level"
).split()
# (field of the result, suffix of the file) in the order of runc's fields.
_BLKIO = (
    ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
    ("ioServicedRecursive", "io_serviced_recursive"),
    ("ioQueueRecursive", "io_queued_recursive"),
    ("ioServiceTimeRecursive", "io_service_time_recursive"),
    ("ioWaitTimeRecursive", "io_wait_time_recursive"),
    ("ioMergedRecursive", "io_merged_recursive"),
    ("ioTimeRecursive", "time_recursive"),
    ("sectorsRecursive", "sectors_recursive"),
)


def _text(path: str) -> str:
    """The file's text; '' if there is no such file or it can't be read."""
    try:
        return files.get(path)
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    if text == "max":
        return _NO_LIMIT
    return int(text) if text.lstrip("-").isdigit() else 0


def _pairs(path: str) -> "dict[str, int]":
    result = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            result[name] = int(value)
    return result


def _compact(values: "dict[str, Any]", keep: "tuple[str, ...]" = ()) -> "dict[str, Any]":
    """The values without zeros and empty ones, as with Go's omitempty."""
    return {key: value for key, value in values.items() if value or key in keep}


def _range(text: str) -> "list[int]":
    """'0-2,5' as [0, 1, 2, 5]."""
    numbers: list[int] = []
    for part in text.strip().split(",") if text.strip() else ():
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _result(
    cpu: "dict[str, Any]",
    cpuset: "dict[str, Any]",
    memory: "dict[str, Any]",
    pids: "dict[str, Any]",
    blkio: "dict[str, Any]",
    hugetlb: "dict[str, Any]",
) -> "dict[str, Any]":
    return {
        "cpu": cpu,
        "cpuset": cpuset,
        "memory": memory,
        "pids": _compact(pids),
        "blkio": _compact(blkio),
        "hugetlb": hugetlb,
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _usage(values: "dict[str, Any]") -> "dict[str, Any]":
    return _compact(values, ("kernel", "user"))


def _memory_entry(limit: int, usage: int, peak: int, failures: int) -> "dict[str, Any]":
    return _compact({"limit": limit, "usage": usage, "max": peak, "failcnt": failures}, ("limit", "failcnt"))


def _no_cpuset() -> "dict[str, Any]":
    return dict.fromkeys(_CPUSET_FLAGS, 0)


def _pids(path: str) -> "dict[str, Any]":
    limit = _number(path + "/pids.max")
    return {"current": _number(path + "/pids.current"), "limit": 0 if limit == _NO_LIMIT else limit}


def huge_page_sizes() -> "list[str]":
    """The sizes of huge pages as in the names of the controller's files: 2MB, 1GB."""
    try:
        names = os.listdir("/sys/kernel/mm/hugepages")
    except OSError:
        return []
    sizes = []
    for name in names:
        kilobytes = int(name.removeprefix("hugepages-").removesuffix("kB"))
        for unit, shift in (("GB", 20), ("MB", 10), ("KB", 0)):
            if kilobytes >> shift:
                sizes.append(f"{kilobytes >> shift}{unit}")
                break
    return sorted(sizes)


# -- v1


def of_v1(folder: "Folder") -> "dict[str, Any]":
    """The statistics of v1 cgroups; `folder(controller)` is the directory, '' if there is none."""
    pids, block = folder("pids"), folder("blkio")
    return _result(
        _cpu_v1(folder("cpuacct"), folder("cpu")),
        _cpuset_v1(folder("cpuset")),
        _memory_v1(folder("memory")),
        _pids(pids) if pids else {},
        _blkio_v1(block) if block else {},
        _hugetlb_v1(folder("hugetlb")),
    )


def _cpu_v1(accounting: str, cpu: str) -> "dict[str, Any]":
    usage: dict[str, Any] = {"kernel": 0, "user": 0}
    if accounting:
        per_mode = [line.split() for line in _text(accounting + "/cpuacct.usage_all").splitlines()[1:]]
        ticks = _pairs(accounting + "/cpuacct.stat")
        tick_ns = _SECOND_NS // os.sysconf("SC_CLK_TCK")
        usage = {
            "total": _number(accounting + "/cpuacct.usage"),
            "percpu": [int(word) for word in _text(accounting + "/cpuacct.usage_percpu").split()],
            "percpu_kernel": [int(words[2]) for words in per_mode],
            "percpu_user": [int(words[1]) for words in per_mode],
            "kernel": ticks.get("system", 0) * tick_ns,
            "user": ticks.get("user", 0) * tick_ns,
        }
    stat = _pairs(cpu + "/cpu.stat") if cpu else {}
    throttling = {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": stat.get("throttled_time", 0),
    }
    return {"usage": _usage(usage), "throttling": _compact(throttling)}


def _cpuset_v1(path: str) -> "dict[str, Any]":
    result = _no_cpuset()
    if path:
        for name in _CPUSET_FLAGS:
            result[name] = _number(f"{path}/cpuset.{name}")
        for name in ("cpus", "mems"):
            numbers = _range(_text(f"{path}/cpuset.{name}"))
            if numbers:
                result[name] = numbers
    return result


def _memory_v1(path: str) -> "dict[str, Any]":
    if not path:
        return {}
    raw = _pairs(path + "/memory.stat")
    result = {"cache": raw.get("cache", 0)}
    for field, name in (("usage", ""), ("swap", ".memsw"), ("kernel", ".kmem"), ("kernelTCP", ".kmem.tcp")):
        base = f"{path}/memory{name}."
        entry = [_number(base + file) for file in ("limit_in_bytes", "usage_in_bytes", "max_usage_in_bytes", "failcnt")]
        if any(entry):
            result[field] = _memory_entry(*entry)  # type: ignore[assignment]
    result["raw"] = raw  # type: ignore[assignment]
    return _compact(result)


def _blkio_v1(path: str) -> "dict[str, Any]":
    for prefix in ("blkio.bfq.", "blkio.", "blkio.throttle."):
        result = {field: _blkio_table(path + "/" + prefix + name) for field, name in _BLKIO}
        if any(result.values()):
            return result
    return {
        field: _blkio_table(f"{path}/blkio.throttle.{name.removesuffix('_recursive')}") for field, name in _BLKIO[:2]
    }


def _blkio_table(path: str) -> "list[dict[str, Any]]":
    """'8:0 Read 4096' lines; the table's own 'Total' is left out."""
    entries = []
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 3 and words[0].isdigit():
            operation = words[2] if len(words) == 4 else ""
            entries.append(_entry(int(words[0]), int(words[1]), operation, int(words[-1])))
    return entries


def _entry(major: int, minor: int, operation: str, value: int) -> "dict[str, Any]":
    return _compact({"major": major, "minor": minor, "op": operation, "value": value})


def _hugetlb_v1(path: str) -> "dict[str, Any]":
    result = {}
    for size in huge_page_sizes() if path else ():
        base = f"{path}/hugetlb.{size}.rsvd."
        if not os.path.exists(base + "usage_in_bytes"):
            base = f"{path}/hugetlb.{size}."
        values = {"usage": _number(base + "usage_in_bytes"), "max": _number(base + "max_usage_in_bytes")}
        result[size] = _compact(values | {"failcnt": _number(base + "failcnt")}, ("failcnt",))
    return result


# -- v2


def of_v2(path: str) -> "dict[str, Any]":
    """The statistics of a v2 cgroup, under v1's names."""
    cpu = _cpu_v2(path)
    memory = _memory_v2(path)
    block = _io_v2(path)
    for values, name in ((cpu, "cpu"), (memory, "memory"), (block, "io")):
        pressure = _pressure(f"{path}/{name}.pressure")
        if pressure:
            values["psi"] = pressure
    return _result(cpu, _no_cpuset(), memory, _pids(path), block, _hugetlb_v2(path))


def _cpu_v2(path: str) -> "dict[str, Any]":
    stat = _pairs(path + "/cpu.stat")
    usage = {
        "total": stat.get("usage_usec", 0) * 1000,
        "kernel": stat.get("system_usec", 0) * 1000,
        "user": stat.get("user_usec", 0) * 1000,
    }
    throttling = {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": stat.get("throttled_usec", 0) * 1000,
    }
    return {"usage": _usage(usage), "throttling": _compact(throttling)}


def _memory_v2(path: str) -> "dict[str, Any]":
    raw = _pairs(path + "/memory.stat")
    limit, usage = _number(path + "/memory.max"), _number(path + "/memory.current")
    # v1 counts memory and swap together, and so do the fields.
    swap_limit, swap = _number(path + "/memory.swap.max"), _number(path + "/memory.swap.current")
    if swap_limit != _NO_LIMIT:
        swap_limit = min(swap_limit + limit, _NO_LIMIT)
    result = {
        "cache": raw.get("file", 0),
        "usage": _memory_entry(limit, usage, _number(path + "/memory.peak"), 0),
        "swap": _memory_entry(swap_limit, swap + usage, 0, 0),
        "raw": raw,
    }
    return _compact(result) if raw else {}


def _io_v2(path: str) -> "dict[str, Any]":
    tables: dict[str, list[dict[str, Any]]] = {"ioServiceBytesRecursive": [], "ioServicedRecursive": []}
    for line in _text(path + "/io.stat").splitlines():
        device, *items = line.split()
        major, _, minor = device.partition(":")
        for item in items:
            name, _, value = item.partition("=")
            if name in ("rbytes", "wbytes", "rios", "wios"):
                field = "ioServicedRecursive" if name.endswith("ios") else "ioServiceBytesRecursive"
                operation = "Read" if name[0] == "r" else "Write"
                tables[field].append(_entry(int(major), int(minor), operation, int(value)))
    return _compact(tables)


def _hugetlb_v2(path: str) -> "dict[str, Any]":
    result = {}
    for size in huge_page_sizes():
        base = f"{path}/hugetlb.{size}"
        name = base + (".rsvd.current" if os.path.exists(base + ".rsvd.current") else ".current")
        if os.path.exists(name):
            values = {"usage": _number(name), "failcnt": _pairs(base + ".events").get("max", 0)}
            result[size] = _compact(values, ("failcnt",))
    return result


def _pressure(path: str) -> "dict[str, Any]":
    """A PSI file (Documentation/accounting/psi.rst); {} if the kernel has none."""
    result: dict[str, Any] = {}
    for line in _text(path).splitlines():
        kind, *items = line.split()
        values: dict[str, Any] = {}
        for item in items:
            name, _, value = item.partition("=")
            values[name] = int(value) if name == "total" else float(value)
        result[kind] = values
    return {kind: values for kind, values in result.items() if any(values.values())}
