"""`update`: change the limits of a running container."""

from toolkit.errors import CtkError, HostLacks, Invalid
from toolkit.kernel import reading
from toolkit.oci import check, json_text
from toolkit.runtime import lifecycle, log, removal
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.oci.types import Resources
    from toolkit.runtime.options import Options

# Option, section of the resources object, field, parser.
_FIELDS = (
    ("blkio-weight", "blockIO", "weight", "number"),
    ("cpu-period", "cpu", "period", "unsigned"),
    ("cpu-quota", "cpu", "quota", "signed"),
    ("cpu-burst", "cpu", "burst", "unsigned"),
    ("cpu-share", "cpu", "shares", "unsigned"),
    ("cpu-rt-period", "cpu", "realtimePeriod", "unsigned"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", "signed"),
    ("cpu-idle", "cpu", "idle", "signed"),
    ("cpuset-cpus", "cpu", "cpus", "text"),
    ("cpuset-mems", "cpu", "mems", "text"),
    ("memory", "memory", "limit", "bytes"),
    ("memory-reservation", "memory", "reservation", "bytes"),
    ("memory-swap", "memory", "swap", "bytes"),
    ("pids-limit", "pids", "limit", "number"),
)


def run(options: "Options") -> int:
    """Apply the limits. Raises NotFound, Invalid, CtkError ("container not running")."""
    container = records.load(options.root, options.id)
    resources = _from_document(options.resources) if options.resources else from_options(options)
    for finding in check.resource_errors(resources):
        raise finding.as_error("resources")
    removal.lock(container)
    lifecycle.require(container, "update")
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if options.value(name):
            raise HostLacks(f"set --{name}", because="updating Intel RDT is not supported", hint="set linux.intelRdt")
    if not container.cgroups:
        raise HostLacks(f"update {options.id}", because="the container has no cgroup of its own")
    from toolkit.runtime import cgroups

    manager = cgroups.from_facts(container.cgroups)
    manager.update(resources)
    container.cgroups = manager.facts()
    container.save()
    return 0


def _from_document(path: str) -> "Resources":
    """The resources object of a file, or of standard input for "-"."""
    # "-" is the caller's own standard input; a name may turn out to be any kind of file.
    text = reading.whole(0, path) if path == "-" else reading.named(path)
    document = json_text.loads(text, "resources")
    if not isinstance(document, dict):
        raise Invalid("", "must be an object", document="resources")
    given: "Any" = document
    resources: "Resources" = given  # the caller checks its types
    return resources


def from_options(options: "Options") -> "Resources":
    """The resources object that the options describe, without those that were not given. Raises CtkError."""
    resources: "Any" = {}
    for name, section, field, kind in _FIELDS:
        given = options.value(name)
        if given == "" or (kind == "number" and name not in options.given):
            continue
        if kind == "bytes":
            given = _bytes(name, given)
        elif kind in ("signed", "unsigned"):
            given = _number(name, given, signed=kind == "signed")
        resources.setdefault(section, {})[field] = given
    for name in ("kernel-memory", "kernel-memory-tcp"):
        if name in options.given:
            log.warning(f"--{name} is ignored: the kernel has no such limit any more")
    memory = resources.get("memory")
    if memory and memory.get("limit") == -1 and "swap" not in memory:
        memory["swap"] = -1  # unlimited memory with a limit on memory and swap together is refused
    described: "Resources" = resources
    return described


def _number(name: str, text: str, *, signed: bool) -> int:
    digits = text[1:] if signed and text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise CtkError(f"invalid value for {name}: {text!r}", because="not a number")
    return int(text)


_SUFFIXES = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def _bytes(name: str, text: str) -> int:
    """Bytes from "512m", "1.5GiB", "2048", or "-1" for no limit; suffixes count in 1024, as docker's."""
    if text == "-1":
        return -1
    number = text.rstrip("bBiIkKmMgGtTpP ")
    suffix = text[len(number) :].strip().lower()
    whole, dot, part = number.partition(".")
    unit = suffix[:1] if suffix in _SUFFIXES or suffix[1:] in ("b", "ib") else "?"
    digits = whole + part
    if unit not in _SUFFIXES or not (digits.isascii() and digits.isdigit() and len(digits) < 19) or (dot and not part):
        raise CtkError(f"invalid value for {name}: {text!r}", because="not a size", hint="as 512m, 2g or 1073741824")
    factor: int = 1 << 10 * _SUFFIXES[unit]
    divisor: int = 10 ** len(part)
    return int(digits) * factor // divisor
