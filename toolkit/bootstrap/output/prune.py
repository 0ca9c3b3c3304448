"""The size of the cache: its contents, and the removal of the least recently used when it exceeds its limit.

No lock is needed: a reader keeps a removed file open, and treats a missing one as not cached.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.fetch import limits

DEFAULT_LIMIT_BYTES = 10 << 30
VARIABLE = "CTK_CACHE_LIMIT"
KINDS = {"files": "packages and indexes", "trees": "cached trees", "locks": "what requests came to"}
_DERIVED = re.compile(r"(?<=/files/../[0-9a-f]{64})\.[a-z0-9]+$")  # from the file without that suffix (fetch/cache.py)


@dataclass(frozen=True, slots=True)
class Item:
    """One file of the cache, with those derived from it. `used_s` is the time of its last use."""

    kind: str
    path: str
    size_bytes: int
    used_s: float
    beside: tuple[str, ...] = ()


def limit() -> int:
    """The limit of the cache in bytes: CTK_CACHE_LIMIT, or 10 GiB. Raises Usage."""
    return limits.of(VARIABLE, DEFAULT_LIMIT_BYTES)


def items(folder: str) -> list[Item]:
    """The contents of the cache below `folder`, the least recently used first."""
    found = [item for kind in KINDS for item in _below(os.path.join(folder, kind), kind)]
    return sorted(found, key=lambda item: (item.used_s, item.path))


def prune(folder: str, limit_bytes: int) -> list[Item]:
    """Remove the least recently used until at most `limit_bytes` are left. Returns what was removed."""
    known = items(folder)
    total = sum(item.size_bytes for item in known)
    removed = []
    for item in known:
        if total <= limit_bytes:
            break
        total -= item.size_bytes
        for path in (item.path, *item.beside):
            with contextlib.suppress(OSError):
                os.unlink(path)
        removed.append(item)
    return removed


def _below(folder: str, kind: str) -> Iterator[Item]:
    groups: dict[str, list[os.DirEntry[str]]] = {}
    for entry in _files(folder):
        if not entry.name.startswith("tmp."):  # being written
            groups.setdefault(_DERIVED.sub("", entry.path), []).append(entry)
    for path, entries in groups.items():
        with contextlib.suppress(FileNotFoundError):
            about = [entry.stat(follow_symlinks=False) for entry in entries]
            beside = tuple(entry.path for entry in entries if entry.path != path)
            # What the image store has, too, is counted there, and its room is not free before it is gone there.
            size = sum(one.st_blocks * 512 for one in about if one.st_nlink == 1)
            yield Item(kind, path, size, max(s.st_mtime for s in about), beside)


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(entry.path)
                else:
                    yield entry
    except OSError:
        return
