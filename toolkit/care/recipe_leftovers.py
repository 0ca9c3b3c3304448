"""What killed recipe players have left: containers with their records and cgroups, and the folder of a launcher.

A folder is ours by its owner and mode. Its player is alive if it holds the lock on it.
"""

import os
import tempfile
from collections.abc import Callable, Iterator

from toolkit.care.leftover import Found, Kept, Leftover
from toolkit.care.recipe_group import RecipeGroup
from toolkit.errors import CtkError, InUse
from toolkit.events import Emit
from toolkit.kernel import ours
from toolkit.recipe import room
from toolkit.runtime import lifecycle, removal
from toolkit.runtime import record as records
from toolkit.text import quote


def find(root: str) -> Iterator[Found]:
    """Yield what is left of recipes, for a reader whose container records are in `root`. Removes nothing."""
    yield from _rooms(room.folder_of_rooms(root))
    yield from _launchers(tempfile.gettempdir())


def _rooms(folder: str) -> Iterator[Found]:
    try:
        os.close(ours.open_folder(folder, f"believe the recipes' records in {folder!r}"))
        names = sorted(os.listdir(folder))
    except OSError:
        return
    except CtkError as error:
        yield Kept("records", folder, str(error), error.hint)
        return
    for name in names:
        found = _room(f"{folder}/{name}")
        if found:
            yield found


def _room(path: str) -> Found | None:
    try:
        fd = room.hold(path)
    except BlockingIOError:
        return Kept("recipe", path, "it is being played now")
    except OSError:
        return None  # not a folder, or gone
    try:
        ours.check(os.fstat(fd), "its folder", f"believe the recipe in {path!r}")
        return _judged(path)
    except CtkError as error:
        return Kept("recipe", path, str(error), error.hint)
    finally:
        os.close(fd)


def _judged(path: str) -> Found:
    note = room.note(path)
    recipe, work = note.get("recipe"), note.get("work")
    where = f"; it worked in {work}" if isinstance(work, str) and os.path.isdir(work) else ""
    if not note.get("stopped"):
        return Leftover("recipe", path, f"its player is gone{where}", _clearing(path))
    if where:
        again = f"ctk recipe run {quote(str(recipe))} --clean-up"
        return Kept("recipe", path, "its reader stopped it, and can go on", again)
    return Leftover("recipe", path, "its reader stopped it, and its work folder is gone", _clearing(path))


def _clearing(path: str) -> Callable[[Emit], None]:
    def remove(_: Emit) -> None:
        fd = _hold(path)
        try:
            for name in room.containers(path):
                _delete(path, name)
            RecipeGroup(room.CGROUP + os.path.basename(path), room.note(path).get("cgroup") or {}).end()
            room.remove(path)
        finally:
            os.close(fd)

    return remove


def _delete(root: str, name: str) -> None:
    container = records.load(root, name)
    if lifecycle.of_this_boot(container):
        removal.delete(container, force=True)
    else:
        removal.lock(container)
        container.remove()
        container.unlock()


def _launchers(folder: str) -> Iterator[Found]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(room.LAUNCHER))
    except OSError:
        return
    for name in names:
        path = f"{folder}/{name}"
        if _is_dead_launcher(path):
            yield Leftover("folder", path, "it belongs to a recipe whose player is gone", _removing(path))


def _is_dead_launcher(path: str) -> bool:
    try:
        fd = room.hold(path)
    except OSError:
        return False  # locked by a live player, another user's, or not a folder
    try:
        status = os.fstat(fd)
        return status.st_uid == os.geteuid() and not status.st_mode & 0o022 and os.listdir(fd) == ["ctk"]
    finally:
        os.close(fd)


def _removing(path: str) -> Callable[[Emit], None]:
    def remove(_: Emit) -> None:
        fd = _hold(path)
        try:
            os.unlink("ctk", dir_fd=fd)
            os.rmdir(path)
        finally:
            os.close(fd)

    return remove


def _hold(path: str) -> int:
    try:
        return room.hold(path)
    except BlockingIOError:
        raise InUse(f"remove {path!r}", because="the recipe is being played again") from None
