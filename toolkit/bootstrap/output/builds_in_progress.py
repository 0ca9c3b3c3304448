"""Notes in the cache about targets that are being filled, so that `ctk gc` finds what a killed build left.

    CACHE/building/HASH     the path of a target; written when it is taken, removed when it is complete or removed

A note only says where to look. Whether a tree is half made is decided by its marker and its lock (target.py).
"""

import hashlib
import os

from toolkit import places
from toolkit.kernel import atomic, ours, reading


def _folder() -> str:
    return os.path.join(places.cache_dir(), "building")


def path(target: str) -> str:
    """The path of the note about `target`, whether it exists or not."""
    return os.path.join(_folder(), hashlib.sha256(os.fsencode(target)).hexdigest()[:32])


def note(target: str) -> None:
    """Note that the folder `target` (absolute) is being filled. Failing to write the cache is not an error."""
    try:
        ours.make_private(_folder())
        atomic.replace(path(target), os.fsencode(target))
    except OSError:
        pass


def forget(target: str) -> None:
    """Remove the note about `target`."""
    try:
        os.unlink(path(target))
    except OSError:
        pass


def targets() -> list[str]:
    """The noted paths, sorted."""
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
