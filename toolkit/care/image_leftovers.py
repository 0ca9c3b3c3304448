"""What killed or broken commands have left in the store of images, for `ctk gc`."""

import os
from collections.abc import Callable, Iterator

from toolkit.care.leftover import Found, Kept, Leftover
from toolkit.errors import CtkError
from toolkit.events import Emit
from toolkit.image.store import collect
from toolkit.image.store.store import Store


def find() -> Iterator[Found]:
    """Half-made layers, half-written files, leases of dead processes, and parts of blobs that are a week old.

    Images stay, and blobs that no image has, too: they are `ctk image prune`'s.
    """
    store = Store()
    if not store.place.exists:
        return
    try:
        with store.place.changing():
            files = list(collect.left_files(store, older_s=collect.PART_S))
            count = len(store.entries())
    except (CtkError, OSError) as error:
        yield Kept("images", store.place.folder, str(error), error.hint if isinstance(error, CtkError) else "")
        return
    for path, why in files:
        yield Leftover("image", path, why, _removing(store, path))
    what = f"its {count} images are used again" if count != 1 else "its image is used again"
    yield Kept("images", store.place.folder, what, "ctk images lists them, ctk image prune makes room")


def _removing(store: Store, path: str) -> Callable[[Emit], None]:
    def remove(_: Emit) -> None:
        if os.path.isdir(path):
            store.layers.remove_set_aside(path)  # it may be large: the lock is not held meanwhile
            return
        with store.place.changing():
            collect.remove_file(store, path)

    return remove
