"""Files beside a target, replaced atomically, in a folder that others may write to as well (a tree in /tmp)."""

import hashlib
import os

from toolkit.kernel import atomic

_LONGEST_BYTES = 255  # NAME_MAX (limits.h), the same on every file system that can hold a root


def path(target: str, suffix: str) -> str:
    """The path of a file about `target`: `.NAMEsuffix` beside it. A name that would be too long is cut and hashed."""
    folder, name = os.path.split(os.path.abspath(target))
    raw = os.fsencode(name)
    if len(raw) + len(suffix) >= _LONGEST_BYTES:
        name = os.fsdecode(raw[:64]) + "-" + hashlib.sha256(raw).hexdigest()
    return os.path.join(folder, f".{name}{suffix}")


def write(path: str, text: str) -> None:
    """Replace the file at `path` with `text` (UTF-8), atomically. Raises OSError; the old file is then unchanged."""
    atomic.replace(path, text.encode(), mode=0o666)
