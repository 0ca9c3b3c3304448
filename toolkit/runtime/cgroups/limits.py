"""Turn linux.resources into the writes that set it, for v1 and for v2. Pure: no file is read.

A write is (controller, file, value, otherwise). `otherwise` says what to do if the kernel refuses it: '' it is an
error; 'skip' skip it if the file does not exist; 'later' try again after all others (values that limit each other:
which order the kernel accepts depends on their old values).

The conversions are those of runc 1.4, so that an engine reads the same figures back whichever runtime wrote them.
Sources: config-linux.md of the runtime spec; the kernel's Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst.
"""

from toolkit.errors import Invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from toolkit.oci import types

    Write = tuple[str, str, str, str]
    Resources = Mapping[str, Any]  # a part of a document, picked apart by the names of its keys

_AT = "linux.resources."
_THROTTLES = (
    ("throttleReadBpsDevice", "read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "write_iops_device", "wiops"),
)


def weight_of_shares(shares: int) -> int:
    """v1 cpu.shares (2…262144, 1024 by default) as v2 cpu.weight (1…10000, 100 by default).

    A quadratic in the logarithm that maps both ends and both defaults, as in runc since 1.3.2 and crun since 1.24: the
    linear one before mapped the default shares to a weight of 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    import math

    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612.0 - 7.0 / 34.0))


def io_weight_of_blkio(weight: int) -> int:
    """v1 blkio.weight (10…1000) as v2 io.weight (1…10000), linearly."""
    return 1 + (weight - 10) * 9999 // 990


def swap_alone(memory_and_swap: int, memory: int) -> int:
    """v2's limit of swap alone, from the spec's memory+swap; 0: not set, -1: no limit. Raises Invalid."""
    if memory_and_swap == 0:
        return -1 if memory == -1 else 0
    if memory_and_swap == -1 or memory == -1:
        return memory_and_swap
    if memory == 0:
        raise Invalid(_AT + "memory.swap", "unable to set swap limit without memory limit")
    if memory < 0:
        raise Invalid(_AT + "memory.limit", f"invalid memory value: {memory}")
    if memory_and_swap < memory:
        raise Invalid(_AT + "memory.swap", "memory+swap limit should be >= memory limit")
    return memory_and_swap - memory


def plan_v1(resources: "Resources", *, bfq: bool = False) -> "list[Write]":
    """The writes for v1. `bfq`: the blkio files of the weights are BFQ's. Raises Invalid."""
    plan: list[Write] = []
    if resources.get("unified"):
        raise Invalid(_AT + "unified", "invalid configuration: cannot use unified on cgroup v1")
    cpu = resources.get("cpu") or {}
    for key in ("cpus", "mems"):
        if cpu.get(key):
            plan.append(("cpuset", "cpuset." + key, cpu[key], ""))
    _memory_v1(resources.get("memory") or {}, plan)
    if cpu:
        _cpu_v1(cpu, plan)
    _pids(resources, plan)
    block = resources.get("blockIO")
    if block:
        _blkio(block, bfq, plan)
    _hugetlb(resources, ".limit_in_bytes", plan)
    network = resources.get("network") or {}
    if network.get("classID"):
        plan.append(("net_cls", "net_cls.classid", str(network["classID"]), ""))
    for entry in network.get("priorities") or ():
        plan.append(("net_prio", "net_prio.ifpriomap", f"{entry['name']} {entry['priority']}", ""))
    _rdma(resources, plan)
    return plan


def _memory_v1(memory: "Resources", plan: "list[Write]") -> None:
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    # The kernel refuses a limit above memory+swap, and memory+swap below the limit (EINVAL): to raise both, swap must
    # be first; to lower both, the limit. So the limit is tried first and, if refused, again at the end.
    if limit:
        plan.append(("memory", "memory.limit_in_bytes", str(limit), "later"))
    if swap:
        plan.append(("memory", "memory.memsw.limit_in_bytes", str(swap), ""))
    elif limit == -1:
        # "No limit" includes swap; the file does not exist if swap is not accounted.
        plan.append(("memory", "memory.memsw.limit_in_bytes", "-1", "skip"))
    # memory.kmem.limit_in_bytes does nothing since Linux 5.16; only the one for TCP still does.
    if memory.get("kernelTCP"):
        plan.append(("memory", "memory.kmem.tcp.limit_in_bytes", str(memory["kernelTCP"]), "skip"))
    if memory.get("reservation"):
        plan.append(("memory", "memory.soft_limit_in_bytes", str(memory["reservation"]), ""))
    if memory.get("disableOOMKiller"):
        plan.append(("memory", "memory.oom_control", "1", ""))
    swappiness = memory.get("swappiness")
    # Engines in Go write -1, "unchanged", into the spec's unsigned field as 2**64 - 1.
    if swappiness is not None and swappiness not in (-1, 2**64 - 1):
        if not 0 <= swappiness <= 100:
            raise Invalid(
                _AT + "memory.swappiness", f"invalid memory swappiness value: {swappiness} (valid range is 0-100)"
            )
        plan.append(("memory", "memory.swappiness", str(swappiness), ""))


def _cpu_v1(cpu: "Resources", plan: "list[Write]") -> None:
    shares = cpu.get("shares") or 0
    if shares:
        # The kernel would accept any number and round it silently, and the user would never know.
        if shares < 2:
            raise Invalid(_AT + "cpu.shares", "the minimum allowed cpu-shares is 2")
        if shares > 262144:
            raise Invalid(_AT + "cpu.shares", "the maximum allowed cpu-shares is 262144")
        plan.append(("cpu", "cpu.shares", str(shares), ""))
    quota = cpu.get("quota") or 0
    bounded = "later" if quota else ""
    # Period, burst and quota limit each other, and a parent's quota limits their ratio.
    if cpu.get("period"):
        plan.append(("cpu", "cpu.cfs_period_us", str(cpu["period"]), bounded))
    if cpu.get("burst") is not None:
        plan.append(("cpu", "cpu.cfs_burst_us", str(cpu["burst"]), bounded or "skip"))
    if quota:
        plan.append(("cpu", "cpu.cfs_quota_us", str(quota), ""))
    if cpu.get("idle") is not None:
        plan.append(("cpu", "cpu.idle", str(cpu["idle"]), ""))
    runtime = cpu.get("realtimeRuntime") or 0
    if cpu.get("realtimePeriod"):
        plan.append(("cpu", "cpu.rt_period_us", str(cpu["realtimePeriod"]), "later" if runtime else ""))
    if runtime:
        plan.append(("cpu", "cpu.rt_runtime_us", str(runtime), ""))


def _pids(resources: "Resources", plan: "list[Write]") -> None:
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        # 0 becomes 1, as with runc 1.4: systemd has no 0, and with both the one process runs and can't fork.
        plan.append(("pids", "pids.max", "max" if limit < 0 else str(limit or 1), ""))


def _blkio(block: "Resources", bfq: bool, plan: "list[Write]") -> None:
    weights = "blkio.bfq.weight" if bfq else "blkio.weight"
    if block.get("weight"):
        plan.append(("blkio", weights, str(block["weight"]), ""))
    if block.get("leafWeight"):
        plan.append(("blkio", "blkio.leaf_weight", str(block["leafWeight"]), ""))
    for device in block.get("weightDevice") or ():
        number = f"{device['major']}:{device['minor']} "
        if device.get("weight"):
            plan.append(("blkio", weights + "_device", number + str(device["weight"]), ""))
        if device.get("leafWeight"):
            plan.append(("blkio", "blkio.leaf_weight_device", number + str(device["leafWeight"]), ""))
    for key, name, _ in _THROTTLES:
        for device in block.get(key) or ():
            value = f"{device['major']}:{device['minor']} {device['rate']}"
            plan.append(("blkio", "blkio.throttle." + name, value, ""))


def _hugetlb(resources: "Resources", suffix: str, plan: "list[Write]") -> None:
    for index, entry in enumerate(resources.get("hugepageLimits") or ()):
        size, limit = entry["pageSize"], str(entry["limit"])
        if "/" in size or not size.isprintable():
            raise Invalid(f"{_AT}hugepageLimits[{index}].pageSize", f"{size!r} is not a page size such as '2MB'")
        plan.append(("hugetlb", f"hugetlb.{size}{suffix}", limit, ""))
        # Pages that are reserved but not used yet have a limit of their own since Linux 5.7.
        plan.append(("hugetlb", f"hugetlb.{size}.rsvd{suffix}", limit, "skip"))


def _rdma(resources: "Resources", plan: "list[Write]") -> None:
    for device, entry in (resources.get("rdma") or {}).items():
        words = [device]
        for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if entry.get(key) is not None:
                words.append(f"{name}={entry[key]}")
        plan.append(("rdma", "rdma.max", " ".join(words), ""))


def plan_v2(resources: "Resources", *, bfq: bool = False) -> "list[Write]":
    """The writes for v2. `bfq`: the cgroup has io.bfq.weight. Raises Invalid.

    Settings that v2 has no file for are ignored, as in runc: realtime, swappiness, disableOOMKiller, kernel memory,
    leaf weights, network classes and priorities.
    """
    plan: list[Write] = []
    _pids(resources, plan)
    _memory_v2(resources.get("memory") or {}, plan)
    block = resources.get("blockIO")
    if block:
        _io(block, bfq, plan)
    cpu = resources.get("cpu") or {}
    if cpu:
        _cpu_v2(cpu, plan)
        for key in ("cpus", "mems"):
            if cpu.get(key):
                plan.append(("cpuset", "cpuset." + key, cpu[key], ""))
    _hugetlb(resources, ".max", plan)
    _rdma(resources, plan)
    for name, text in unified_of(resources).items():
        controller, dot, _ = name.partition(".")
        if "/" in name or not dot or not name.isprintable():
            raise Invalid(f"{_AT}unified[{name!r}]", "must be a file name such as 'memory.high' (no slashes)")
        for line in text.splitlines(keepends=True) or [text]:
            plan.append((controller, name, line, ""))
    return plan


def idle_and_weighed(resources: "Resources") -> bool:
    """Whether both a CPU weight and cpu.idle are set; the kernel refuses a weight then (EINVAL), so idle wins."""
    cpu, unified = resources.get("cpu") or {}, resources.get("unified") or {}
    return bool(cpu.get("idle") == 1 and cpu.get("shares")) or (
        unified.get("cpu.idle", "").strip() == "1" and "cpu.weight" in unified
    )


def unified_of(resources: "Resources") -> "dict[str, str]":
    """`unified` without the weight of an idle cgroup."""
    unified = resources.get("unified") or {}
    if unified.get("cpu.idle", "").strip() == "1":
        return {name: value for name, value in unified.items() if name != "cpu.weight"}
    return unified


def _amount(value: int) -> str:
    return "max" if value == -1 else str(value)


def _memory_v2(memory: "Resources", plan: "list[Write]") -> None:
    limit, both = memory.get("limit") or 0, memory.get("swap") or 0
    swap = swap_alone(both, limit)
    if swap or both > 0:  # both > 0 and swap 0: limit and memory+swap are equal, so no swap at all
        value = _amount(swap)
        plan.append(("memory", "memory.swap.max", value, "skip" if value in ("max", "0") else ""))
    if limit:
        plan.append(("memory", "memory.max", _amount(limit), ""))
    if memory.get("reservation"):
        plan.append(("memory", "memory.low", _amount(memory["reservation"]), ""))


def _io(block: "Resources", bfq: bool, plan: "list[Write]") -> None:
    name = "io.bfq.weight" if bfq else "io.weight"
    if block.get("weight"):
        plan.append(("io", name, str(block["weight"] if bfq else io_weight_of_blkio(block["weight"])), ""))
    for device in block.get("weightDevice") or ():
        if device.get("weight"):
            weight = device["weight"] if bfq else io_weight_of_blkio(device["weight"])
            plan.append(("io", name, f"{device['major']}:{device['minor']} {weight}", ""))
    for key, _, word in _THROTTLES:
        for device in block.get(key) or ():
            plan.append(("io", "io.max", f"{device['major']}:{device['minor']} {word}={device['rate']}", ""))


def _cpu_v2(cpu: "Resources", plan: "list[Write]") -> None:
    if cpu.get("idle") is not None:
        plan.append(("cpu", "cpu.idle", str(cpu["idle"]), ""))
    if cpu.get("shares") and cpu.get("idle") != 1:
        plan.append(("cpu", "cpu.weight", str(weight_of_shares(cpu["shares"])), ""))
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    if cpu.get("burst") is not None:
        plan.append(("cpu", "cpu.max.burst", str(cpu["burst"]), "later" if quota else ""))
    if quota or period:
        plan.append(("cpu", "cpu.max", f"{quota if quota > 0 else 'max'} {period or 100000}", ""))


def _with(resources: "types.Resources", section: str, **values: int) -> "types.Resources":
    completed: "Any" = dict(resources)
    completed[section] = {**completed[section], **values}
    whole: "types.Resources" = completed
    return whole


def completed_v1(resources: "types.Resources", read: "Callable[[str], str]") -> "types.Resources":
    """An update's resources, with a missing CPU quota or period read from the files."""
    cpu = resources.get("cpu") or {}
    if cpu.get("quota") and not cpu.get("period"):
        return _with(resources, "cpu", period=int(read("cpu.cfs_period_us")))
    if cpu.get("period") and not cpu.get("quota"):
        return _with(resources, "cpu", quota=int(read("cpu.cfs_quota_us")))
    return resources


def completed_v2(resources: "types.Resources", read: "Callable[[str], str]") -> "types.Resources":
    """An update's resources, with the missing half of values that v2 has in one file, or counts together (swap).

    The spec's fields are v1's, where each has a file of its own and keeps its value. `read(file)` is '' for no file.
    """
    cpu = resources.get("cpu") or {}
    if bool(cpu.get("quota")) != bool(cpu.get("period")):
        quota, _, period = read("cpu.max").partition(" ")
        if cpu.get("quota") and period:
            resources = _with(resources, "cpu", period=int(period))
        elif quota.isdigit():
            resources = _with(resources, "cpu", quota=int(quota))
    memory = resources.get("memory") or {}
    limit, both = memory.get("limit") or 0, memory.get("swap") or 0
    now, swap = read("memory.max"), read("memory.swap.max")
    if both > 0 and not limit:
        resources = _with(resources, "memory", limit=int(now) if now.isdigit() else -1)
    elif limit > 0 and not both and now.isdigit() and swap.isdigit():
        resources = _with(resources, "memory", swap=int(now) + int(swap))
    return resources
