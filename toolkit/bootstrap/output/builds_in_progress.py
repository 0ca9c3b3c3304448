"""Which targets are being filled: a note for each in the cache, so that `ctk gc` finds what a killed build left.

    CACHE/building/HASH     holds the target's path; made when the target is taken, gone when it is whole or removed

A note says only where to look: whether a tree is half made is told by its marker and its lock (target.py).
"""

import hashlib
import os

from toolkit import places
from toolkit.kernel import atomic, ours, reading


def _folder() -> str:
    return os.path.join(places.cache_dir(), "building")


def path(target: str) -> str:
    """Where the note about `target` is, or would be."""
    return os.path.join(_folder(), hashlib.sha256(os.fsencode(target)).hexdigest()[:32])


def note(target: str) -> None:
    """Note that the folder `target` (absolute) is being filled. A cache that can't be written is no error."""
    try:
        ours.make_private(_folder())
        atomic.replace(path(target), os.fsencode(target))
    except OSError:
        pass


def forget(target: str) -> None:
    """Take the note back."""
    try:
        os.unlink(path(target))
    except OSError:
        pass


def targets() -> list[str]:
    """The paths that are noted, sorted."""
    found: list[str] = []
    try:
        names = os.listdir(_folder())
    except OSError:
        return []
    for name in names:
        try:
            found.append(os.fsdecode(reading.read(os.path.join(_folder(), name), limit_bytes=4096)))
        except OSError:
            continue
    return sorted(each for each in found if each.startswith("/"))
