"""Layers of an image in the store: each laid out once, for overlayfs, in a folder of its own.

What comes from a registry is laid out while it comes: the bytes are hashed, written to the store as the blob,
decompressed, hashed again and made into files in one stream. What was copied here earlier is read from its blob.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.children import rootless
from toolkit.errors import Malformed
from toolkit.events import Emit, Finished, Note, Started, Traced, silent
from toolkit.image.document import platform
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Source
from toolkit.image.layer import apply
from toolkit.image.layer.forms import form_here
from toolkit.image.store import limit, tars, use
from toolkit.image.store.layers import Layers
from toolkit.image.store.store import Store, StoreDestination
from toolkit.image.transfer.copy import JOBS, STAGE, Progress, into_store, short, side_by_side
from toolkit.text import counted


def traced(kind: str, blob: Descriptor, **more: object) -> Traced:
    """What was done with a blob: "blob" (it came, and was verified), "layer" (and laid out), "kept" (it was there)."""
    facts = {"digest": blob.digest, "size": blob.size_bytes, "mediaType": blob.media_type}
    return Traced(kind, facts | more)


class Layout:
    """Lays layers out as they come. `layers`, from the lowest: the digest of each one's blob, and its diff id.

    `trace` gets what was verified and laid out (Traced).
    """

    def __init__(
        self,
        store: Store,
        into: StoreDestination,
        layers: Sequence[tuple[str, str]],
        policy: apply.Policy,
        emit: Emit,
        trace: Emit = silent,
    ) -> None:
        self.form = form_here()
        self._layers = Layers(store.place)
        self._blobs = store.blobs
        self._store = store
        self._into = into
        self._diff_ids = dict(layers)
        self._order = tuple(diff_id for _, diff_id in layers)
        self._policy = policy
        self._emit = emit
        self._trace = trace
        self._lock = threading.Lock()
        self._skipped_devices = 0

    def diff_id(self, blob: Descriptor) -> str | None:
        """The diff id of a blob that is a layer."""
        return self._diff_ids.get(blob.digest)

    def has(self, blob: Descriptor) -> bool:
        """Whether the store has the blob and, if it is a layer, has it laid out. Both stay while `into` is open."""
        diff_id = self._diff_ids.get(blob.digest)
        if diff_id is not None:
            self._into.hold(diff_id)
        return self._into.has(blob) and (diff_id is None or bool(self._layers.use(diff_id, self.form)))

    def take(self, source: Source, blob: Descriptor, progress: Progress) -> None:
        """Bring a blob into the store; a layer is laid out on the way. Raises CtkError."""
        diff_id = self._diff_ids.get(blob.digest)
        if diff_id is None:
            into_store(source, self._into, blob, progress)
            self._trace(traced("blob", blob))
            return
        self._into.hold(diff_id)
        with self._layers.laying_out(diff_id, self.form, emit=self._emit) as making:
            if making.there:
                into_store(source, self._into, blob, progress)
                self._trace(traced("blob", blob))
                return
            with self._into.receiving(blob, emit=self._emit) as part, contextlib.ExitStack() as stack:
                if part.there:
                    pieces, check = stack.enter_context(self._blobs.pieces(blob)), tars.hashed_when_opened
                else:
                    pieces, check = part.passing(stack.enter_context(source.blob(blob, part.offset))), part.check
                counted = progress.counted(pieces, short(blob.digest))
                try:
                    facts = apply.one(making.rootfd, counted, blob, diff_id, self.form, self._policy, check)
                except Malformed:
                    # Damage on the way here is likelier than an image that was made so, and what is damaged must not
                    # be kept for the next pull to go on behind. The rest of the blob tells.
                    for _ in pieces:
                        pass
                    check()
                    raise
                making.implicit = facts.implicit
        self._note(blob, facts)
        number = self._order.index(diff_id) + 1
        made = {"number": number, "members": facts.members, "whiteouts": facts.whiteouts}
        self._trace(traced("layer", blob, diffId=diff_id, form=self.form, **made))

    def _note(self, blob: Descriptor, facts: apply.Facts) -> None:
        for text in facts.warnings:
            self._emit(Note(f"layer {short(blob.digest)}: {text}", warning=True))
        with self._lock:
            self._skipped_devices += facts.skipped_devices

    def finish(self) -> None:
        """Make what the layers need beside them, when all are laid out, and say what was left out. Raises CtkError."""
        use.make_folders(self._store, self._order, self.form, self._into.hold, self._emit)
        if self._skipped_devices:
            told = f"{self._skipped_devices} device nodes of the image were left out"
            if self.form == apply.OVERLAY:  # only root can make them
                told += "; --devices makes them"
            self._emit(Note(told))


class LayOutRequest(NamedTuple):
    """An image of the store whose layers are to be laid out."""

    name: str
    platform: str = ""
    squash_ids: bool = False
    devices: bool = False


def laid_out(request: LayOutRequest, emit: Emit) -> None:
    """As `lay_out`; without root as root of a user namespace. Raises CtkError."""
    rootless.as_root(lay_out, request, emit)


def lay_out(request: LayOutRequest, emit: Emit) -> None:
    """Lay out what is missing of an image's layers, from their blobs. Raises CtkError."""
    began = time.monotonic()
    store = Store()
    image = store.image(request.name, platform.parse(request.platform) if request.platform else None)
    into = store.destination(f"ctk, which lays out {request.name}")
    try:
        layers = list(zip((one.digest for one in image.manifest.layers), image.config.diff_ids, strict=True))
        layout = Layout(store, into, layers, apply.Policy(request.squash_ids, request.devices), emit)
        blobs = {one.digest: one for one in image.manifest.layers}
        wanted = sorted((one for one in blobs.values() if not layout.has(one)), key=lambda one: -one.size_bytes)
        total = sum(one.size_bytes for one in wanted)
        emit(Started(STAGE, total, "bytes"))
        progress = Progress(STAGE, total, emit)
        source = store.source(image.top.name or image.top.digest)
        try:
            side_by_side(lambda one: layout.take(source, one, progress), wanted, JOBS, threading.Event())
        finally:
            source.close()
        layout.finish()
        limit.keep(store, emit)
        emit(Finished(STAGE, time.monotonic() - began, counted(len(wanted), "layer")))
    finally:
        into.close()
