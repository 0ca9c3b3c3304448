"""What nobody refers to any more is removed: blobs, laid-out layers, parts, leases of dead processes.

Referred to is what an entry of index.json reaches, and what a lease holds. It is worked out anew each time, while the
store's lock is held exclusively: so nothing can be named or leased in between. If a document is damaged or missing,
nobody knows what it refers to, and nothing is removed until it was pulled again or its name is gone.
"""

import os
import time
from collections.abc import Callable, Iterator

from toolkit.errors import CtkError, InUse, reason
from toolkit.image.layout.index_json import Entry
from toolkit.image.store import builds, leases, names, reach
from toolkit.image.store.place import BUILDS, LEASES, PARTS, lock_file
from toolkit.image.store.store import Store
from toolkit.text import counted, quote

PART_S = 7 * 24 * 3600  # a broken transfer that nobody has taken up for a week
_TEMPORARY = ".new"


class Removed:
    """What is gone: names (an image without one by its digest), digests of blobs, diff ids; and its size in bytes."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self.blobs: list[str] = []
        self.layers: list[str] = []
        self.files: list[str] = []
        self.size_bytes = 0

    @property
    def counted(self) -> str:
        """What has gone beside images, in words; "" for nothing."""
        found = ((self.blobs, "blob"), (self.layers, "laid-out layer"), (self.files, "left-over"))
        return ", ".join(counted(len(each), noun) for each, noun in found if each)


def remove(store: Store, texts: list[str], *, force: bool = False) -> Removed:
    """Remove these names, and what nobody else refers to then. A digest removes all names of its image.

    An image that has several names is not removed by its digest without `force`. Raises NotFound, Usage; InUse if it
    is the last name of an image that a lease holds. Then nothing is removed.
    """
    removed, aside = Removed(), []
    with store.place.changing():
        entries = store.entries()
        live, _ = leases.survey(store.place)
        going: list[Entry] = []
        for text in texts:
            going += [one for one in _meant(store, entries, text, force=force) if one not in going]
        staying = [one for one in entries if one not in going]
        for one in going:
            last = all(each.descriptor.digest != one.descriptor.digest for each in staying)
            if last and (holder := _holder(store, one, live)):
                name = one.name or one.descriptor.digest
                container = holder.removeprefix("the container ")
                hint = f"ctk rm {quote(container)}" if container != holder else "try again when that has ended"
                raise InUse(f"remove the image {name!r}", because=f"it is in use by {holder}", hint=hint)
        known = _knowing(store, staying, live)
        before = reach.reach(store.blobs, [one.descriptor for one in going])
        names.write(store.place, staying)
        removed.images += [one.name or one.descriptor.digest for one in going]
        aside = _sweep(store, removed, known, only=before)
    _remove_set_aside(store, aside)
    return removed


def _meant(store: Store, entries: list[Entry], text: str, *, force: bool) -> list[Entry]:
    one = names.resolve(entries, text, lambda: store.ids(entries))
    if names.is_name_of(one, text):
        return [one]
    same = [each for each in entries if each.descriptor.digest == one.descriptor.digest]
    if len(same) > 1 and not force:
        told = ", ".join(each.name for each in same)
        because = f"the image has several names: {told}"
        raise InUse(f"remove the image {text!r}", because=because, hint="remove each name, or add --force")
    return same


def _holder(store: Store, one: Entry, live: list[leases.Held]) -> str:
    """Who uses an image, by a lease on it or on one of its manifests; "" if nobody does."""
    if not live:
        return ""
    reached = reach.reach(store.blobs, [one.descriptor])
    return next(filter(None, (leases.holder_of(live, digest) for digest in sorted(reached.read))), "")


def prune(
    store: Store, *, everything: bool = False, dry_run: bool = False, keep: Callable[[Entry], bool] | None = None
) -> Removed:
    """Remove the images without a name, and all that nobody refers to; with `everything` each image that is not in use.

    Parts of broken transfers go, too. `keep` says which images stay all the same. Raises CtkError if a damaged
    document keeps us from knowing what is referred to.
    """
    removed, aside = Removed(), []
    with store.place.changing():
        live, _ = leases.survey(store.place)
        entries = store.entries()
        staying = []
        for one in entries:
            candidate = (everything or not one.name) and not (keep is not None and keep(one))
            if candidate and not _holder(store, one, live):
                removed.images.append(one.name or one.descriptor.digest)
            else:
                staying.append(one)
        known = _knowing(store, staying, live)  # before the names go
        if not dry_run and len(staying) < len(entries):
            names.write(store.place, staying)
        aside = _sweep(store, removed, known, dry_run=dry_run)
        _sweep_files(store, removed, older_s=0.0, dry_run=dry_run)
    _remove_set_aside(store, aside)
    return removed


def _knowing(store: Store, staying: list[Entry], live: list[leases.Held]) -> reach.Reached:
    """All that is referred to. Raises CtkError if that can't be known."""
    found = reach.reach(
        store.blobs, [one.descriptor for one in staying], {digest for one in live for digest in one.digests}
    )
    for digest, problem in found.problems.items():
        named = [one for one in staying if digest in reach.reach(store.blobs, [one.descriptor]).problems]
        name = (named[0].name or named[0].descriptor.digest) if named else digest
        raise CtkError(
            f"look for what {store} needs no more",
            because=f"the image {name!r} is damaged, so what belongs to it is not known ({problem})",
            hint=f"pull it again, or remove it: ctk image rm {quote(name)}",
        )
    return found


def _sweep(
    store: Store,
    removed: Removed,
    known: reach.Reached,
    *,
    only: reach.Reached | None = None,
    dry_run: bool = False,
) -> list[str]:
    """Remove blobs and layers that nobody refers to, with `only` no others than these; layers are only set aside."""
    aside = []
    for digest, status in store.blobs.all():
        if digest in known.digests or (only is not None and digest not in only.digests):
            continue
        if not dry_run:
            _unlink(store.place.blob(digest))
        removed.blobs.append(digest)
        removed.size_bytes += status.st_blocks * 512
    for layer in store.layers.all():
        if layer.diff_id in known.diff_ids or (only is not None and layer.diff_id not in only.diff_ids):
            continue
        if not dry_run:
            aside.append(store.layers.set_aside(layer.diff_id, layer.form))
        removed.layers.append(layer.diff_id)
        removed.size_bytes += layer.size_bytes
    return aside


def _remove_set_aside(store: Store, aside: list[str]) -> None:
    for path in filter(None, aside):
        store.layers.remove_set_aside(path)


def left_files(store: Store, *, older_s: float) -> Iterator[tuple[str, str]]:
    """Files that killed or broken commands have left, and why each is not needed: parts untouched for `older_s`."""
    now = time.time()
    for name in _names(store.place.path(PARTS)):
        path = store.place.path(PARTS, name)
        try:
            if now - os.lstat(path).st_mtime >= older_s:
                yield path, "the beginning of a blob, whose transfer was broken off"
        except FileNotFoundError:
            continue
    for name in _names(store.place.folder):
        # Written while the lock is held, which the caller has.
        if name.startswith(".") and name.endswith(_TEMPORARY):
            yield store.place.path(name), "half-written"
    for path in leases.survey(store.place)[1]:
        yield path, "a lease of a process that is gone"
    for path in builds.dead(store.place):
        yield path, "a note of a build's step, whose layer is gone"
    for path in store.layers.abandoned():
        yield path, "a layer that was not laid out, or not removed, to the end"


def remove_file(store: Store, path: str) -> bool:
    """Remove one of `left_files`, unless somebody has taken it up meanwhile. Raises CtkError."""
    folder = os.path.basename(os.path.dirname(path))
    if folder == PARTS:
        try:
            fd = lock_file(path, wait=False)
        except OSError as error:
            raise store.place.failed(error) from None
        if fd is None:
            return False
        try:
            _unlink(path)
        finally:
            os.close(fd)
    elif folder in (LEASES, BUILDS) or os.path.dirname(path) == store.place.folder:
        _unlink(path)
    else:
        store.layers.remove_set_aside(path)
    return True


def _sweep_files(store: Store, removed: Removed, *, older_s: float, dry_run: bool) -> None:
    for path, _ in list(left_files(store, older_s=older_s)):
        try:
            size_bytes = os.lstat(path).st_blocks * 512
        except FileNotFoundError:
            continue
        if dry_run or remove_file(store, path):
            removed.files.append(path)
            removed.size_bytes += size_bytes


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CtkError(f"remove {path!r}", because=reason(error)) from None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
