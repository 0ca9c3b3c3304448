"""`ctk image diff`: what the topmost layer of an image changes, or in what paths two images differ.

Read from the layers' blobs, which the store always has, and never from the laid-out trees: these lack device nodes, and
an ordinary user's may have other owners. So the answer is the same for root, for a user, and before the first run.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from toolkit.image.document import config as configs
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.platform import Platform
from toolkit.image.layer.contents import Contents, Root
from toolkit.image.store import tars
from toolkit.image.store.store import Image, Store

if TYPE_CHECKING:
    from toolkit.events import Emit

STAGE = "read"

Layers = list[tuple[Descriptor, str]]


def of_topmost(
    store: Store, name: str, wanted: Platform | None = None, emit: "Emit | None" = None
) -> Iterator[tuple[str, str]]:
    """(A, C or D, path) of what the image's last layer changes, by path.

    What the layer carries over from below, except folders, counts as changed, as `podman image diff` has it. Raises as
    `between`.
    """
    put = _Reading(store, emit)
    with contextlib.closing(Contents()) as contents, _held(store, name, wanted) as layers:
        for layer in layers[:-1]:
            put(contents.old, layer, times=True)
        contents.copy()
        for layer in layers[-1:]:
            put(contents.new, layer, times=True, rewritten=True)
        yield from contents.changes()


def between(
    store: Store, name: str, other: str, wanted: Platform | None = None, emit: "Emit | None" = None
) -> Iterator[tuple[str, str]]:
    """(A, C or D, path) of what is different in `other`, by path. Times are not compared.

    Raises NotFound, Usage, Untrusted, Malformed (layers that can't be laid out, either), CtkError. All layers are
    read before the first of them is told; `emit` gets the progress of that.
    """
    put = _Reading(store, emit)
    with (
        contextlib.closing(Contents()) as contents,
        _held(store, name, wanted) as before,
        _held(store, other, wanted) as after,
    ):
        same = 0
        while same < min(len(before), len(after)) and before[same][1] == after[same][1]:
            same += 1
        if same == len(before) == len(after):
            return
        for layer in before[:same]:
            put(contents.old, layer)
        contents.copy()
        for root, own in ((contents.old, before[same:]), (contents.new, after[same:])):
            for layer in own:
                put(root, layer)
        yield from contents.changes()


@contextlib.contextmanager
def _held(store: Store, name: str, wanted: Platform | None) -> Iterator[Layers]:
    """The layers of an image, each with its diff id, the lowest first. Nobody removes them meanwhile."""
    source = store.source(name)
    try:
        yield _layers(store.image(name, wanted))
    finally:
        source.close()


def _layers(image: Image) -> Layers:
    configs.check_layers(image.config, len(image.manifest.layers), image.manifest.config.digest)
    return list(zip(image.manifest.layers, image.config.diff_ids, strict=True))


class _Reading:
    """Puts layers onto roots, and says how many members it has read."""

    def __init__(self, store: Store, emit: "Emit | None") -> None:
        self._store = store
        self._emit = emit
        self._members = 0
        self._said_s = 0.0

    def __call__(
        self, root: Root, layer: tuple[Descriptor, str], *, times: bool = False, rewritten: bool = False
    ) -> None:
        doing = f"read the layer {layer[0].digest}"
        with tars.opened(self._store, *layer, doing) as tar:
            root.layer(tar, doing, times=times, rewritten=rewritten, seen=self._seen)

    def _seen(self) -> None:
        self._members += 1
        if self._emit and self._members % 256 == 0 and time.monotonic() - self._said_s > 0.1:
            self._said_s = time.monotonic()
            from toolkit.events import Progressed

            self._emit(Progressed(STAGE, self._members, 0, "files"))
