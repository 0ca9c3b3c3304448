"""The layers of an image as overlayfs takes them, one on top of the other."""

from collections.abc import Callable

from toolkit.events import Emit, silent
from toolkit.image.document.config import chain_ids
from toolkit.image.store import implicit
from toolkit.image.store.store import Store


def lowers(store: Store, diff_ids: tuple[str, ...], form: str) -> list[str] | None:
    """The folders for `lowerdir`, the topmost first; None if something has to be laid out (transfer/lay_out.py).

    `diff_ids` are from the lowest. The caller has a lease on the image. A folder is named once: overlayfs refuses one
    that is named twice, and the lower of two has nothing to add. Raises CtkError.
    """
    found = [store.layers.use(diff_id, form) for diff_id in diff_ids]
    if _needs_folders(store, diff_ids, form):
        found.append(store.layers.use(*_key(diff_ids, form)))
    return list(dict.fromkeys(reversed(found))) if all(found) else None


def make_folders(
    store: Store, diff_ids: tuple[str, ...], form: str, hold: Callable[[str], None], emit: Emit = silent
) -> None:
    """Make the one more layer of implicit.py where there are such folders; `hold` keeps it. Raises CtkError.

    The layers are laid out. An ordinary user is root of a user namespace here.
    """
    if not _needs_folders(store, diff_ids, form):
        return
    chain, kind = _key(diff_ids, form)
    hold(chain)
    if store.layers.use(chain, kind):
        return
    try:
        with store.layers.laying_out(chain, kind, emit=emit) as making:
            if not making.there:
                layers = [
                    implicit.Layer(store.layers.path(diff_id, form), store.layers.implicit(diff_id, form))
                    for diff_id in diff_ids
                ]
                implicit.make(making.rootfd, layers, implicit.needed(layers))
    except OSError as error:
        raise store.place.failed(error) from None


def _needs_folders(store: Store, diff_ids: tuple[str, ...], form: str) -> bool:
    """Whether a layer that lies on others has such folders. Which others have them, too, is not looked at."""
    return any(store.layers.implicit(diff_id, form) for diff_id in diff_ids[1:])


def _key(diff_ids: tuple[str, ...], form: str) -> tuple[str, str]:
    return chain_ids(diff_ids)[-1], f"{form}-folders"
