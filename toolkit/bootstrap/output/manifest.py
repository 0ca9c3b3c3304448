"""What a tree held when it was finished, and what has changed in it since.

Recorded are the names of all paths and the moment: the time of the last change that the kernel had noted by then. A
path changed later has a later change time (inode(7), ctime), which no program can set back; a path that is not among
the names was added; a name without a path was deleted. Reading 10 000 names takes 35 ms, looking at each file 150.

Its price: a file that only got another link, or the same mode again, counts as changed; and a copy of a tree has no
history. The record belongs to one directory (target.py sees to that), so a copy is never compared with it.
"""

import base64
import os
import zlib
from collections.abc import Iterator
from typing import Any

from toolkit.errors import CtkError, reason

_MOST_BYTES = 256 << 20  # a million paths have 60 MB; a record may be somebody else's
ADDED, CHANGED, DELETED = "A", "C", "D"


def take(root: str, *, without: str = "") -> dict[str, Any]:
    """The record of the finished tree at `root`, for a JSON document; a file of that name in it goes yet.

    Raises CtkError.
    """
    names = "\0".join(sorted(path for path, _ in _walk(root) if path != f"/{without}"))
    packed = base64.b64encode(zlib.compress(os.fsencode(names), 1)).decode()
    # The moment by the kernel's own clock, which is coarser than ours: setting a time sets the change time to now.
    info = os.stat(root)
    os.utime(root, ns=(info.st_atime_ns, info.st_mtime_ns))
    return {"finished_ns": os.stat(root).st_ctime_ns, "names": packed}


def changes(record: dict[str, Any], root: str, mounted: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:
    """(A, C or D, path from `/`) of each path that differs, sorted; a folder that is gone stands for all in it.

    What is mounted at the paths `mounted` is left out. Raises ValueError for what is no record, CtkError for a folder
    that can't be read.
    """
    try:
        finished_ns = int(record["finished_ns"])
        packed = base64.b64decode(record["names"])
        names = zlib.decompressobj().decompress(packed, _MOST_BYTES)
        if len(names) == _MOST_BYTES:
            raise ValueError("the names of more paths than a tree has")
        before = set(os.fsdecode(names).split("\0"))
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError(str(error)) from None
    now = dict(_walk(root, mounted))
    for path in sorted(before | now.keys()):
        if path not in now:
            if (os.path.dirname(path) or "/") in now or os.path.dirname(path) == "/":
                yield DELETED, path
        elif path not in before:
            yield ADDED, path
        elif path in mounted:
            continue
        else:
            try:
                if now[path].stat(follow_symlinks=False).st_ctime_ns > finished_ns:
                    yield CHANGED, path
            except FileNotFoundError:  # a container is at work in there
                yield DELETED, path


def _walk(root: str, mounted: frozenset[str] = frozenset()) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    todo = [("", root)]
    while todo:
        inside, folder = todo.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = f"{inside}/{entry.name}"
                    yield path, entry
                    if path not in mounted and entry.is_dir(follow_symlinks=False):
                        todo.append((path, entry.path))
        except FileNotFoundError:
            continue
        except OSError as error:
            hint = "run it as root, or as the user that made the tree"
            raise CtkError(f"look at {folder!r}", because=reason(error), hint=hint) from None
