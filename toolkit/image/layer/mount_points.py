"""Empty files and folders that a runtime makes to mount something on: no program made them, and no layer has them."""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from toolkit.archive.entries import DIRECTORY, FILE, Entry


def of(spec: dict[str, Any]) -> frozenset[bytes]:
    """The mount points that a config.json names, as paths without a slash before them."""
    found = [one.get("destination") for one in spec.get("mounts") or () if isinstance(one, dict)]
    return frozenset(os.fsencode(one).strip(b"/") for one in found if isinstance(one, str))


def without(entries: Iterable[Entry], points: Iterable[bytes], lowers: Sequence[str]) -> Iterator[Entry]:
    """The members of a layer (differ.py) without those of `points` that no folder of `lowers` has.

    A folder that only came because of one goes with it. If there is nothing else, nothing has changed.
    """
    made = {point for point in points if _below(lowers, point) is None}
    above = {os.path.dirname(point) for point in made}  # copied up for that alone
    held: list[Entry] = []  # the root and such folders, until something in them comes
    for entry in entries:
        while held and held[-1].name and not entry.name.startswith(held[-1].name + b"/"):
            held.pop()
        point = entry.name in made or (entry.name in above and _as_below(entry, lowers))
        if not entry.name or (point and entry.kind == DIRECTORY):
            held.append(entry)
        elif not (point and entry.kind == FILE and not entry.size_bytes):
            yield from held
            held.clear()
            yield entry


def _below(lowers: Sequence[str], name: bytes) -> os.stat_result | None:
    for lower in lowers:
        with contextlib.suppress(OSError):
            return os.lstat(os.path.join(os.fsencode(lower), name))
    return None


def _as_below(entry: Entry, lowers: Sequence[str]) -> bool:
    """Whether only the time of a folder is another than in the layers below."""
    was = _below(lowers, entry.name)
    if was is None or not stat.S_ISDIR(was.st_mode) or entry.xattrs:
        return False
    return (stat.S_IMODE(was.st_mode), was.st_uid, was.st_gid) == (entry.mode, entry.uid, entry.gid)
