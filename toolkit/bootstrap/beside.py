"""A text that a reader never sees half of, written where others may write, too (a tree in /tmp)."""

import hashlib
import os

from toolkit.kernel import atomic

_LONGEST_BYTES = 255  # NAME_MAX of every file system that holds a root (limits.h)


def path(target: str, suffix: str) -> str:
    """Where a file about `target` stands: `.NAMEsuffix` beside it, its name cut and hashed where that is too long."""
    folder, name = os.path.split(os.path.abspath(target))
    raw = os.fsencode(name)
    if len(raw) + len(suffix) >= _LONGEST_BYTES:
        name = os.fsdecode(raw[:64]) + "-" + hashlib.sha256(raw).hexdigest()
    return os.path.join(folder, f".{name}{suffix}")


def write(path: str, text: str) -> None:
    """Replace the file at `path` with `text` (UTF-8). Raises OSError; then what was there is as it was."""
    atomic.replace(path, text.encode(), mode=0o666)
