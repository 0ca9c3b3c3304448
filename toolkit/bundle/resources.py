"""Edits of `linux.resources`: limits, named like the options of engines."""

import os
import stat

from toolkit.bundle.document import Edit, Spec
from toolkit.bundle.quantities import number, size_bytes
from toolkit.errors import Usage, reason

# The kernel's default period for CPU bandwidth control (sched-bwc): --cpus 1.5 is 150 ms in every 100 ms.
_CPU_PERIOD_US = 100_000


def _set(section: str, **values: object) -> Edit:
    def edit(spec: Spec) -> Spec:
        resources = spec.setdefault("linux", {}).setdefault("resources", {})
        resources.setdefault(section, {}).update(values)
        return spec

    return edit


def memory(text: str) -> Edit:
    """`memory.limit` in bytes."""
    return _set("memory", limit=size_bytes(text, option="--memory"))


def memory_swap(text: str) -> Edit:
    """`memory.swap`: memory and swap together, in bytes; -1 for no limit."""
    return _set("memory", swap=size_bytes(text, option="--memory-swap"))


def memory_reservation(text: str) -> Edit:
    """`memory.reservation` in bytes, a soft limit."""
    return _set("memory", reservation=size_bytes(text, option="--memory-reservation"))


def pids_limit(text: str) -> Edit:
    """`pids.limit`: tasks, threads included; -1 for no limit."""
    return _set("pids", limit=-1 if text in ("max", "unlimited") else number(text, option="--pids-limit", least=-1))


def cpus(text: str) -> Edit:
    """`cpu.quota` and `cpu.period`, microseconds, for a number of CPUs such as 1.5."""
    try:
        count = float(text)
    except ValueError:
        count = 0.0
    if not 0.01 <= count < 10_000:
        raise Usage(f"read --cpus {text!r}", because="not a number of CPUs", hint="for example 0.5 or 2")
    return _set("cpu", quota=round(count * _CPU_PERIOD_US), period=_CPU_PERIOD_US)


def cpu_shares(text: str) -> Edit:
    """`cpu.shares`, a weight. The default of every group is 1024."""
    return _set("cpu", shares=number(text, option="--cpu-shares", least=2))


def cpuset(text: str) -> Edit:
    """`cpu.cpus`: a list such as 0-3,7."""
    if not all(part.isdigit() for word in text.split(",") for part in word.split("-")):
        raise Usage(f"read --cpuset-cpus {text!r}", because="not a list of CPUs", hint="for example 0-3,7")
    return _set("cpu", cpus=text)


def cpuset_mems(text: str) -> Edit:
    """`cpu.mems`: memory nodes, a list such as 0-1."""
    if not all(part.isdigit() for word in text.split(",") for part in word.split("-")):
        raise Usage(f"read --cpuset-mems {text!r}", because="not a list of memory nodes", hint="for example 0-1")
    return _set("cpu", mems=text)


_THROTTLES = {
    "read-bps": "throttleReadBpsDevice",
    "write-bps": "throttleWriteBpsDevice",
    "read-iops": "throttleReadIOPSDevice",
    "write-iops": "throttleWriteIOPSDevice",
}


def device_limit(kind: str, text: str) -> Edit:
    """`blockIO.throttle…Device` from DEVICE:RATE; `kind` is read-bps, write-bps, read-iops or write-iops.

    Raises Usage if DEVICE is not a block device of this host.
    """
    path, _, rate = text.rpartition(":")
    doing = f"read --device-{kind} {text!r}"
    try:
        status = os.stat(path)
    except OSError as error:
        because = reason(error)
        raise Usage(doing, because=because, hint="for example /dev/sda:10M") from None
    if not stat.S_ISBLK(status.st_mode):
        raise Usage(doing, because=f"{path!r} is not a block device", hint="for example /dev/sda:10M")
    value = (
        size_bytes(rate, option="--device-" + kind) if kind.endswith("bps") else number(rate, option=f"--device-{kind}")
    )
    entry = {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev), "rate": value}

    def edit(spec: Spec) -> Spec:
        section = spec.setdefault("linux", {}).setdefault("resources", {}).setdefault("blockIO", {})
        known = [each for each in section.get(_THROTTLES[kind], []) if {**each, "rate": 0} != {**entry, "rate": 0}]
        section[_THROTTLES[kind]] = [*known, entry]
        return spec

    return edit


def blkio_weight(text: str) -> Edit:
    """`blockIO.weight`, 10 to 1000."""
    return _set("blockIO", weight=number(text, option="--blkio-weight", least=10))
