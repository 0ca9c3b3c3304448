"""`ctk gc`: what dead containers and killed builds have left, and what looks similar but stays.

| kind   | left over if                                                          | removed by                    |
|--------|-----------------------------------------------------------------------|-------------------------------|
| record | its `create` was killed; of an earlier boot; stopped, on request      | `delete`, or the folder alone |
| tree   | its bootstrap, which we noted, did not finish; no process has its lock | `ctk bootstrap --remove`      |
| tree   | it was to be a file or an image, and no process has its folder's lock | work_folder.py                |
| cgroup | empty, with a name as ctk gives them, and not in any record           | rmdir(2)                      |
| file   | a temporary file of a process that is gone; a build log, a month old  | unlink(2)                     |
| image  | half-made, half-written, of a dead process; a blob's part, a week old | image_leftovers.py            |
| recipe | its player is gone                                                    | recipe_leftovers.py           |

Of a record from an earlier boot only the record is removed: its cgroup paths may belong to others by now.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from functools import partial

from toolkit import places
from toolkit.bootstrap.output import builds_in_progress, target, work_folder
from toolkit.care import image_leftovers, recipe_leftovers, trees
from toolkit.care.leftover import Found, Kept, Leftover
from toolkit.errors import CtkError, InUse, NotFound
from toolkit.events import Emit
from toolkit.kernel import atomic
from toolkit.runtime import lifecycle, removal
from toolkit.runtime import record as records
from toolkit.runtime.cgroups import files, layout
from toolkit.runtime.record import Record
from toolkit.text import quote

_LOG_S = 30 * 24 * 3600
_DEEPEST = 64  # containers are never deeper, but a container may nest cgroups too deep for os.walk


def find(root: str, folders: tuple[str, ...] = (), *, stopped: bool = False) -> Iterator[Found]:
    """Yield all that is left over, and what looks similar but stays: below the records' `root`, in ctk's folders, and
    in `folders`. With `stopped`, containers that have ended are left over too. Removes nothing.
    """
    yield from records_below(root, stopped=stopped)
    yield from _half_made(folders)
    yield from _cgroups(root)
    yield from _files()
    yield from _bundles(root)
    yield from image_leftovers.find()
    yield from recipe_leftovers.find(root)


def records_below(root: str, *, stopped: bool = False) -> Iterator[Found]:
    """The containers' records, as `find` yields them."""
    try:
        names = records.ids(root)
    except OSError:
        return
    except CtkError as error:  # the folder is another user's: nothing that it names is removed or run
        yield Kept("records", root, str(error), error.hint)
        return
    for name in names:
        try:
            container = records.load(root, name)
        except NotFound:
            continue
        except (CtkError, OSError) as error:
            yield Kept("record", name, str(error), error.hint if isinstance(error, CtkError) else "")
            continue
        yield _judged(container, stopped)


def _judged(container: Record, stopped: bool) -> Found:
    name = container.id

    def delete(_: Emit) -> None:
        removal.lock(container)
        try:
            if lifecycle.alive(container):  # another command has made or restarted it since
                because, hint = f"it runs, as process {container.pid}", f"ctk delete --force {quote(name)}"
                raise InUse(f"remove the record of {name!r}", because=because, hint=hint)
            removal.destroy(container)
        finally:
            container.unlock()

    def forget(_: Emit) -> None:
        removal.lock(container)
        container.remove()
        container.unlock()

    if container.locked_by_other():
        return Kept("record", name, "another command is working on it")
    if lifecycle.alive(container):
        return Kept("record", name, f"it runs, as process {container.pid}", f"ctk delete --force {quote(name)}")
    if container.torn:
        return Leftover("record", name, "its create was killed", delete)
    if not lifecycle.of_this_boot(container):
        return Leftover("record", name, "it ran before this boot", forget)
    if stopped:
        return Leftover("record", name, "it has stopped", delete)
    return Kept(
        "record", name, "it has stopped; its owner decides when to delete its record", f"ctk delete {quote(name)}"
    )


def _half_made(folders: tuple[str, ...]) -> Iterator[Found]:
    bundles = os.path.join(places.data_dir(), "bundles")
    noted = builds_in_progress.targets()
    ours = dict.fromkeys([*noted, *(os.path.join(bundles, name, "rootfs") for name in _names(bundles))])
    named = dict.fromkeys(map(os.path.abspath, folders))
    working = list(work_folder.left())
    for path in working:
        yield Leftover("tree", path, "its bootstrap was killed", partial(trees.remove_work_folder, path))
    for path in named | ours:
        if os.path.dirname(path) in working:
            continue
        remove = f"ctk bootstrap --remove {quote(path)}"
        if target.half_made(path):
            if _locked(os.path.join(path, target.MARKER)):
                yield Kept("tree", path, "it is being made now")
            elif path in ours:
                yield Leftover("tree", path, "its bootstrap was killed", _removing(path))
            else:
                # Programs in a tree that was never ours can make a file of that name.
                yield Kept("tree", path, "only a file in it says that a bootstrap started it", remove)
        elif path in noted:
            yield Leftover(
                "file",
                builds_in_progress.path(path),
                "a note about a tree that is complete or gone",
                _forgetting(path),
            )
        elif path in named:
            if os.path.isdir(path):
                yield Kept("tree", path, "it is not a half-made tree", remove)
            else:
                yield Kept("tree", path, "there is no such folder")


def _removing(path: str) -> Callable[[Emit], None]:
    return lambda emit: trees.remove(path, emit)


def _forgetting(path: str) -> Callable[[Emit], None]:
    return lambda _: builds_in_progress.forget(path)


def _locked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True  # we can't tell
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _cgroups(root: str) -> Iterator[Found]:
    """Scopes that systemd made for us, and cgroups with the name of a `ctk up` bundle, if there is no record.

    A record is there before its cgroup and after it, so it is looked for once the cgroup was seen.
    """
    ours = {f"ctk-{name}.scope": name for name in _names(os.path.join(places.data_dir(), "bundles"))}
    ours |= {name: name for name in ours.values()}
    for _, mountpoint, _ in layout.hierarchies():
        for folder, below, _ in os.walk(mountpoint):
            if folder.count("/") > _DEEPEST:
                below.clear()
            name = os.path.basename(folder)
            if name not in ours or os.path.lexists(record := os.path.join(root, ours[name])):
                continue
            below.clear()
            if _populated(folder):
                yield Kept("cgroup", folder, "it has processes, and none of our records names it")
            else:
                yield Leftover(
                    "cgroup", folder, "it is empty, and its container is gone", _without_cgroup(folder, record)
                )


def _populated(folder: str) -> bool:
    try:
        return bool(files.pids(folder))
    except OSError:
        return True


def _without_cgroup(folder: str, record: str) -> Callable[[Emit], None]:
    def remove(_: Emit) -> None:
        if os.path.lexists(record):
            because, hint = "a container of its name was made meanwhile", "`ctk gc` looks again"
            raise InUse(f"remove {folder!r}", because=because, hint=hint)
        for path in files.tree(folder, inner_first=True):
            os.rmdir(path)

    return remove


def _files() -> Iterator[Found]:
    cache = places.cache_dir()
    for name in _names(os.path.join(cache, "files")):
        path = os.path.join(cache, "files", name)
        words = name.split(".")
        if words[0] == "tmp" and len(words) > 1 and words[1].isdigit() and not os.path.isdir(f"/proc/{words[1]}"):
            yield Leftover("file", path, "its download was killed", _unlinking(path))
    for name in _names(os.path.join(cache, "building")):
        path = os.path.join(cache, "building", name)
        if atomic.abandoned(path):
            yield Leftover("file", path, "half-written, its bootstrap was killed", _unlinking(path))
    for name in _names(os.path.join(cache, "logs")):
        path = os.path.join(cache, "logs", name)
        try:
            age_s = time.time() - os.lstat(path).st_mtime
        except OSError:
            continue
        if age_s > _LOG_S:
            yield Leftover("file", path, f"a build's log, {age_s / 86400:.0f} days old", _unlinking(path))
    if os.path.isdir(cache):
        yield Kept("cache", cache, "its contents are reused", "ctk cache list shows it, ctk cache prune makes room")


def _unlinking(path: str) -> Callable[[Emit], None]:
    return lambda _: os.unlink(path)


def _bundles(root: str) -> Iterator[Found]:
    bundles = os.path.join(places.data_dir(), "bundles")
    known = set(_names(root))
    for name in _names(bundles):
        rootfs = os.path.join(bundles, name, "rootfs")
        if name not in known and os.path.isdir(rootfs) and not target.half_made(rootfs):
            bundle = os.path.dirname(rootfs)
            hint = f"ctk bootstrap --remove {quote(rootfs)} && rm -r {quote(bundle)}"
            if not _names(rootfs):  # its root lies in the store of images (toolkit/up/from_image.py)
                hint = f"ctk rm -f {quote(name)}"
            yield Kept("bundle", bundle, "`ctk up` uses it again", hint)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
