"""Remove a tree that no container uses."""

import os

from toolkit import places
from toolkit.bootstrap.output import removal, work_folder
from toolkit.errors import CtkError, InUse
from toolkit.events import Emit
from toolkit.runtime import lifecycle
from toolkit.runtime import record as records
from toolkit.text import quote


def remove(path: str, emit: Emit) -> None:
    """Remove the tree at `path`. Raises InUse while a container of this user runs in it, and like `removal.remove`."""
    living = tenants(path)
    if living:
        because = f"the container {living[0]!r} runs in it"
        raise InUse(f"remove the tree {path!r}", because=because, hint=f"ctk delete --force {quote(living[0])}")
    removal.remove(path, emit)


def remove_work_folder(path: str, emit: Emit) -> None:
    """Remove one of work_folder.py's. Raises InUse, CtkError, OSError."""
    removal.with_ids(work_folder.remove, path, emit)


def tenants(path: str) -> list[str]:
    """The ids of the live containers of the runtime's root whose rootfs is the tree at `path`, or below it."""
    tree, root = os.path.realpath(path), places.runtime_root()
    try:
        names = records.ids(root)
    except (CtkError, OSError):
        return []
    found = []
    for name in names:
        try:
            container = records.load(root, name)
        except (CtkError, OSError):
            continue
        if (container.rootfs + "/").startswith(tree + "/") and lifecycle.alive(container):
            found.append(name)
    return found
