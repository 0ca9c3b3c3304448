"""Translate linux.cgroupsPath and linux.resources for systemd: unit names, slices, unit properties. Pure.

A property is (name, (D-Bus type, value)). Sources: systemd.slice(5),
systemd.resource-control(5), org.freedesktop.systemd1(5).
Limits without a property are written to the cgroup's files instead: the unit is delegated to us.
"""

from toolkit.errors import Invalid
from toolkit.runtime.cgroups.limits import swap_alone, unified_of, weight_of_shares

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from toolkit.oci.types import Resources

    Property = tuple[str, tuple[str, Any]]

_INFINITY = 2**64 - 1
_AT = "linux.resources."
_PREFIX = "org.systemd.property."
_MEMORY_FILES = {
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
}


def parse_path(cgroups_path: "str | None", container_id: str, *, user: bool) -> "tuple[str, str]":
    """(slice, unit) of a cgroupsPath 'slice:prefix:name'. Raises Invalid.

    If absent, the unit is a scope named after ctk and the id, in the slice for system or user units.
    """
    slice_name, prefix, name = "", "ctk", container_id
    if cgroups_path:
        parts = cgroups_path.split(":")
        if len(parts) != 3:
            raise Invalid(
                "linux.cgroupsPath",
                f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "{cgroups_path}" '
                "instead",
            )
        slice_name, prefix, name = parts
    slice_name = slice_name or ("user.slice" if user else "system.slice")
    expand_slice(slice_name)
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope"
    if not name or "/" in unit or not unit.isprintable() or unit.startswith("."):
        raise Invalid("linux.cgroupsPath", f"{unit!r} is not the name of a unit")
    return slice_name, unit


def expand_slice(name: str) -> str:
    """The slice's cgroup: 'a-b.slice' is '/a.slice/a-b.slice', '-.slice' is ''. Raises Invalid."""
    stem = name.removesuffix(".slice")
    if stem == "-" and name != stem:
        return ""
    words = stem.split("-")
    if stem == name or "/" in name or "" in words:
        raise Invalid("linux.cgroupsPath", f"invalid slice name: {name}")
    return "".join("/" + "-".join(words[: end + 1]) + ".slice" for end in range(len(words)))


def unit_properties(container_id: str, slice_name: str, unit: str, pid: int, *, v2: bool) -> "list[Property]":
    """The properties that the unit is started with; those of the limits are set separately."""
    properties: list[Property] = [("Description", ("s", f"container {container_id}"))]
    if unit.endswith(".slice"):
        properties.append(("Wants", ("as", [slice_name])))
    else:
        # Delegate: we may write the files below, and systemd does not touch sub-cgroups.
        properties += [("Slice", ("s", slice_name)), ("Delegate", ("b", True)), ("PIDs", ("au", [pid]))]
    for name in ("MemoryAccounting", "CPUAccounting", "IOAccounting" if v2 else "BlockIOAccounting", "TasksAccounting"):
        properties.append((name, ("b", True)))
    properties.append(("DefaultDependencies", ("b", False)))
    if not v2:
        # Without a device policy systemd does not use v1's devices hierarchy for this unit, and moves the process back
        # up at the next change of a property. Everything is allowed until the rules are set.
        everything = [("char-*", "rwm"), ("block-*", "rwm")]
        properties += [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", everything))]
    return properties


def limits_as_properties(
    resources: "Resources", *, v2: bool, version: "Callable[[], int]"
) -> "tuple[list[Property], Resources]":
    """The properties, and the resources to write to the files. `version()` is systemd's.

    systemd has CPU quotas only in whole percents, and rounds up; the file gets the same value, else the two would
    overwrite each other. Raises Invalid.
    """
    properties: list[Property] = []
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    limit = memory.get("limit") or 0
    if limit:
        properties.append(("MemoryMax" if v2 else "MemoryLimit", ("t", limit & _INFINITY)))
    if v2:
        if memory.get("reservation"):
            properties.append(("MemoryLow", ("t", memory["reservation"] & _INFINITY)))
        both = memory.get("swap") or 0
        swap = swap_alone(both, limit)
        if swap or both > 0:
            properties.append(("MemorySwapMax", ("t", swap & _INFINITY)))
        if cpu.get("idle") == 1 and version() >= 252:
            properties.append(("CPUWeight", ("t", 0)))
        elif cpu.get("shares"):
            properties.append(("CPUWeight", ("t", weight_of_shares(cpu["shares"]))))
    else:
        if cpu.get("shares"):
            properties.append(("CPUShares", ("t", cpu["shares"])))
        weight = (resources.get("blockIO") or {}).get("weight")
        if weight:
            properties.append(("BlockIOWeight", ("t", weight)))
    quota, period = cpu.get("quota") or 0, cpu.get("period") or 0
    rounded = _add_quota(properties, quota, period)
    if rounded != quota:
        resources = {**resources, "cpu": {**cpu, "quota": rounded}}
    tasks = (resources.get("pids") or {}).get("limit")
    if tasks is not None:
        properties.append(("TasksMax", ("t", _INFINITY if tasks < 0 else tasks or 1)))
    if v2:
        if cpu.get("cpus"):
            properties.append(("AllowedCPUs", ("ay", range_to_bits(cpu["cpus"], f"{_AT}cpu.cpus"))))
        if cpu.get("mems"):
            properties.append(("AllowedMemoryNodes", ("ay", range_to_bits(cpu["mems"], f"{_AT}cpu.mems"))))
        for name, value in unified_of(resources).items():
            _add_unified(properties, name, value.strip(), version)
    return properties, resources


def _add_quota(properties: "list[Property]", quota: int, period: int) -> int:
    """Append the quota's properties; returns the quota as systemd will set it."""
    if period:
        properties.append(("CPUQuotaPeriodUSec", ("t", period)))
    if not (quota or period):
        return quota
    per_second = _INFINITY
    if quota > 0:
        length = period or 100000
        per_second = quota * 1000000 // length
        if per_second % 10000:
            per_second = (per_second // 10000 + 1) * 10000
            quota = per_second * length // 1000000
    properties.append(("CPUQuotaPerSecUSec", ("t", per_second)))
    return quota


def _add_unified(properties: "list[Property]", name: str, value: str, version: "Callable[[], int]") -> None:
    at = f"{_AT}unified[{name!r}]"
    try:
        if name in _MEMORY_FILES:
            properties.append((_MEMORY_FILES[name], ("t", _INFINITY if value == "max" else int(value))))
        elif name == "pids.max":
            properties.append(("TasksMax", ("t", _INFINITY if value == "max" else int(value) or 1)))
        elif name == "cpu.weight":
            properties.append(("CPUWeight", ("t", int(value))))
        elif name == "cpu.idle" and value == "1" and version() >= 252:
            properties.append(("CPUWeight", ("t", 0)))
        elif name == "cpu.max":
            words = value.split()
            _add_quota(
                properties, 0 if words[0] == "max" else int(words[0]), int(words[1]) if len(words) > 1 else 100000
            )
        elif name in ("cpuset.cpus", "cpuset.mems"):
            kind = "AllowedCPUs" if name == "cpuset.cpus" else "AllowedMemoryNodes"
            properties.append((kind, ("ay", range_to_bits(value, at))))
    except (ValueError, IndexError):
        raise Invalid(at, f"{value!r} is not a valid value") from None


def range_to_bits(text: str, at: str) -> bytes:
    """'0-2,5' as a bit mask, the lowest byte first (AllowedCPUs). Raises Invalid."""
    mask = 0
    try:
        for part in text.split(","):
            if part.strip():
                first, _, last = part.strip().partition("-")
                for number in range(int(first), int(last or first) + 1):
                    mask |= 1 << number
    except ValueError:
        mask = 0
    if not mask:
        raise Invalid(at, f"{text!r} is not a list of numbers such as '0-2,5'")
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")


def device_properties(default: bool, exceptions: "dict[tuple[str, int, int], int]") -> "list[Property]":
    """The device rules as far as systemd can express them: it has no deny lists, and no '*:minor'."""
    from toolkit.runtime.cgroups.devices import letters

    allowed: list[tuple[str, str]] = []
    for (kind, major, minor), access in exceptions.items() if not default else ():
        group = "block" if kind == "b" else "char"
        if major < 0:
            if minor < 0:
                allowed.append((group + "-*", letters(access)))
        elif minor < 0:
            allowed.append((f"{group}-{major}", letters(access)))
        else:
            allowed.append((f"/dev/{group}/{major}:{minor}", letters(access)))
    policy = "auto" if default and not exceptions else "strict"
    # The empty list resets the rules that the unit had before.
    return [("DeviceAllow", ("a(ss)", [])), ("DevicePolicy", ("s", policy)), ("DeviceAllow", ("a(ss)", allowed))]


_NUMBERS = {
    "byte": "y",
    "int16": "n",
    "uint16": "q",
    "int32": "i",
    "uint32": "u",
    "int64": "x",
    "uint64": "t",
    "double": "d",
}


def annotated_properties(annotations: "dict[str, str]") -> "list[Property]":
    """The properties that annotations 'org.systemd.property.NAME' ask for, in GVariant's text form. Raises Invalid."""
    properties: list[Property] = []
    for key, text in annotations.items():
        if not key.startswith(_PREFIX):
            continue
        name = key[len(_PREFIX) :]
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            raise Invalid(f"annotations[{key!r}]", "annotation name incorrect: not the name of a property")
        try:
            kind, value = _variant(text.strip())
            if name.endswith("Sec") and name[:-3][-1:].islower():
                # systemd's own properties count in microseconds; its files and our callers write seconds.
                name, kind, value = name[:-3] + "USec", "t", int(value * 1000000)
        except (ValueError, TypeError):
            raise Invalid(
                f"annotations[{key!r}]", f"{text!r} value parse error", hint='such as "uint64 5", "\'text\'", true'
            ) from None
        properties.append((name, (kind, value)))
    return properties


def _variant(text: str) -> "tuple[str, Any]":
    if text in ("true", "false"):
        return "b", text == "true"
    if text[:1] in "'\"":
        return "s", _string(text)
    if text.startswith("@as"):
        text = text[3:].strip()
    if text.startswith("["):
        if not text.endswith("]"):
            raise ValueError(text)
        inner = text[1:-1].strip()
        return "as", [_string(item.strip()) for item in inner.split(",")] if inner else []
    word, _, number = text.rpartition(" ")
    if word:
        kind = _NUMBERS.get(word.strip(), "")
        if not kind:
            raise ValueError(text)
        return kind, float(number) if kind == "d" else int(number, 0)
    if "." in number:
        return "d", float(number)
    return "i", int(number, 0)


def _string(text: str) -> str:
    quote = text[:1]
    if len(text) < 2 or quote not in "'\"" or text[-1] != quote or quote in text[1:-1].replace("\\" + quote, ""):
        raise ValueError(text)
    return text[1:-1].replace("\\" + quote, quote).replace("\\\\", "\\")
