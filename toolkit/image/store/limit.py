"""The store within its size. Only what can be had again without a network goes, and never an image with a name.

In this order: parts of broken transfers, what nobody refers to, images without a name, and then the laid-out layers
that are not in use, the longest unused first: they are laid out again from their blobs.
"""

import os

from toolkit.errors import CtkError
from toolkit.events import Emit, Note
from toolkit.fetch import limits
from toolkit.image.store import collect, leases, reach
from toolkit.image.store.collect import Removed
from toolkit.image.store.place import PARTS
from toolkit.image.store.store import Store
from toolkit.text import counted

DEFAULT_LIMIT_BYTES = 20 << 30
VARIABLE = "CTK_IMAGES_LIMIT"


def limit() -> int:
    """How large the store may become, in bytes: CTK_IMAGES_LIMIT, else 20 GiB. Raises Usage."""
    return limits.of(VARIABLE, DEFAULT_LIMIT_BYTES)


def size(store: Store) -> int:
    """What the store takes on its disk, in bytes: blobs, parts and laid-out layers. Raises CtkError."""
    total = sum(status.st_blocks * 512 for _, status in store.blobs.all())
    total += sum(layer.size_bytes for layer in store.layers.all())
    folder = store.place.path(PARTS)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            total += os.lstat(os.path.join(folder, name)).st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def keep_within(store: Store, limit_bytes: int) -> Removed:
    """Remove until no more than `limit_bytes` are left, or nothing more can go. Raises CtkError."""
    if not store.place.exists or size(store) <= limit_bytes:
        return Removed()
    removed = collect.prune(store)
    aside = []
    with store.place.changing():
        left = size(store) - limit_bytes
        live, _ = leases.survey(store.place)
        held = reach.reach(store.blobs, [], {digest for one in live for digest in one.digests})
        for layer in store.layers.all():
            if left <= 0:
                break
            if layer.diff_id in held.diff_ids:
                continue
            aside.append(store.layers.set_aside(layer.diff_id, layer.form))
            removed.layers.append(layer.diff_id)
            removed.size_bytes += layer.size_bytes
            left -= layer.size_bytes
    for path in filter(None, aside):
        store.layers.remove_set_aside(path)
    return removed


def keep(store: Store, emit: Emit) -> None:
    """`keep_within` the `limit`, at the end of whatever has made the store larger: a failure is a warning only.

    What is held (leases.py) stays, so call it while what has just come is.
    """
    try:
        removed = keep_within(store, limit())
    except CtkError as error:  # the image is there all the same
        emit(Note(str(error), warning=True))
        return
    images = counted(len(removed.images), "image") if removed.images else ""
    if what := ", ".join(filter(None, (images, removed.counted))):
        emit(Note(f"{what} that nobody uses made room ({VARIABLE})"))
