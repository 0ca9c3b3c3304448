"""Rules for `linux.resources`, and for the document that `update --resources` takes."""

from toolkit.oci.check_process import is_number_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.oci.check import Report

    Resources = dict[str, Any]


def resources(given: "Resources", at: str, report: "Report") -> None:
    """All rules; `at` is the prefix of the fields' names ("linux.resources." or "")."""
    for index, rule in enumerate(given.get("devices") or ()):
        where = f"{at}devices[{index}]"
        if rule.get("type") not in (None, "", "a", "b", "c"):
            report(where + ".type", f"{rule['type']!r} is not one of a, b, c", code="E105")
        if not set(rule.get("access") or "") <= set("rwm"):
            # runc ignores other letters, and its tests contain some.
            report(where + ".access", f"{rule['access']!r} has other letters than r, w, m", warning=True, code="W126")
        for name in ("major", "minor"):
            # -1, and in old documents any negative number, means all.
            if (rule.get(name) or 0) > 0xFFFFFFFF:
                report(f"{where}.{name}", f"{rule[name]} is out of range", code="E108")
    _memory(given.get("memory") or {}, at + "memory.", report)
    cpu = given.get("cpu") or {}
    for name in ("cpus", "mems"):
        if (cpu.get(name) or "").strip() and not is_number_list(cpu[name]):
            report(f"{at}cpu.{name}", f"{cpu[name]!r} is not a list of numbers", hint="write it as 0-3,7", code="E109")
    if cpu.get("idle") not in (None, 0, 1):
        report(at + "cpu.idle", f"{cpu['idle']} is neither 0 nor 1", code="E105")
    _block_io(given.get("blockIO") or {}, at + "blockIO.", report)
    _huge_pages(given.get("hugepageLimits") or (), at, report)
    for index, entry in enumerate((given.get("network") or {}).get("priorities") or ()):
        if not entry.get("name"):
            report(f"{at}network.priorities[{index}].name", "is required", code="E104")
        _required(entry, ("priority",), f"{at}network.priorities[{index}]", report)
    for name in given.get("rdma") or ():
        if name in ("", ".", "..") or "/" in name or " " in name or "\n" in name:
            report(f"{at}rdma[{name!r}]", "is not the name of a device", code="E109")
    for name in given.get("unified") or ():
        if "/" in name or name[:1] in ("", "."):
            report(
                f"{at}unified[{name!r}]", "is not the name of a file in a cgroup", hint="as memory.high", code="E109"
            )
        elif "." not in name:
            report(
                f"{at}unified[{name!r}]", "is not in the form controller.parameter", hint="as memory.high", code="E109"
            )


def _memory(memory: "Resources", at: str, report: "Report") -> None:
    # Engines send 0 for an unset value.
    if (memory.get("swappiness") or 0) > 100:
        report(at + "swappiness", f"{memory['swappiness']} is out of range (0 to 100)", code="E108")
    limit, swap = memory.get("limit") or 0, memory.get("swap") or 0
    if limit > 0 and 0 < swap < limit:
        report(
            at + "swap",
            f"{swap} is less than the memory limit, {limit}: it counts memory and swap together",
            code="E118",
        )


def _block_io(given: "Resources", at: str, report: "Report") -> None:
    weights = [("weight", given), ("leafWeight", given)]
    paths = [at, at]
    for index, device in enumerate(given.get("weightDevice") or ()):
        weights += [("weight", device), ("leafWeight", device)]
        paths += [f"{at}weightDevice[{index}]."] * 2
        _required(device, ("major", "minor"), f"{at}weightDevice[{index}]", report)
    for name in _THROTTLES:
        for index, device in enumerate(given.get(name) or ()):
            _required(device, ("major", "minor", "rate"), f"{at}{name}[{index}]", report)
    for (name, holder), path in zip(weights, paths, strict=True):
        if (holder.get(name) or 0) and not 10 <= holder[name] <= 1000:
            report(path + name, f"{holder[name]} is out of range (10 to 1000)", code="E108")


_THROTTLES = (
    "throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice",
)  # fmt: skip


def _required(holder: "Resources", names: "tuple[str, ...]", where: str, report: "Report") -> None:
    for name in names:
        if holder.get(name) is None:
            report(f"{where}.{name}", "is required", code="E104")


def _huge_pages(limits: "Any", at: str, report: "Report") -> None:
    seen = set()
    for index, entry in enumerate(limits):
        size = entry.get("pageSize") or ""
        number, unit = size[:-2], size[-2:]
        if unit not in ("KB", "MB", "GB") or not (number.isascii() and number.isdigit()) or number[0] == "0":
            report(
                f"{at}hugepageLimits[{index}].pageSize",
                f"{size!r} is not a page size",
                hint="as 2MB or 1GB",
                code="E109",
            )
        elif size in seen:
            report(f"{at}hugepageLimits[{index}].pageSize", f"{size} is given twice", code="E107")
        seen.add(size)
        _required(entry, ("limit",), f"{at}hugepageLimits[{index}]", report)
