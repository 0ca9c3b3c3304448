"""The layers of a build: what a step lies on, what it has written, and those that earlier builds have written.

The key of a step (store/builds.py) is a hash of all that it depends on, with the chain id of the layers below.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from toolkit.archive.entries import Entry
from toolkit.errors import CtkError, NotFound
from toolkit.events import Emit, silent
from toolkit.image.document import config as configs
from toolkit.image.document import manifest, media_types
from toolkit.image.layer.forms import form_here
from toolkit.image.layer.policy import Policy
from toolkit.image.store import builds, leases, use
from toolkit.image.store.builds import Layer
from toolkit.image.store.store import Store, StoreDestination, StoreSource
from toolkit.image.transfer import put as parts
from toolkit.image.transfer.copy import Progress
from toolkit.image.transfer.lay_out import Layout
from toolkit.oci import json_text

_VERSION = 1


Layers = tuple[Layer, ...]


class Work(NamedTuple):
    """What every step needs to know: the store's folder, the build's lease, its own folder, and how layers are made.

    `lease` is a path: a step may be a process of its own, and what it holds is held until the build ends. Times of
    files later than `latest_s` (SOURCE_DATE_EPOCH) become that. `policy` is for layers that were never laid out.
    """

    store: str
    lease: str
    folder: str
    use_cache: bool
    latest_s: int | None
    policy: Policy
    codec: str = media_types.GZIP

    def opened(self) -> tuple[Store, StoreDestination]:
        """The store, and a way to write to it with the build's lease, which is never closed."""
        store = Store(self.store)
        return store, StoreDestination(store, leases.Lease(store.place, self.lease, ()))


def chain_id(layers: Layers) -> str:
    """What stands for all layers below a step in its key; "" for none."""
    return configs.chain_ids(tuple(layer.diff_id for layer in layers))[-1] if layers else ""


def key(work: Work, below: Layers, *facts: object) -> str:
    """The key of a step: hex digits. `facts` can be written as JSON."""
    whole = [_VERSION, chain_id(below), work.codec, work.latest_s, *facts]
    return hashlib.sha256(json_text.dumps(whole).encode("utf-8", "surrogateescape")).hexdigest()


def find(work: Work, wanted: str) -> tuple[bool, Layer | None]:
    """Whether an earlier build has carried out this step, and its layer, which is held now; None if it changed nothing.

    Raises CtkError.
    """
    if not work.use_cache:
        return False, None
    store, into = work.opened()
    try:
        layer = builds.read(store.place, wanted)
    except NotFound:
        return False, None
    if layer is not None:
        into.hold(layer.diff_id)
        if not into.has(layer.descriptor):
            return False, None
    return True, layer


def keep(work: Work, wanted: str, layer: Layer | None) -> None:
    """Let later builds find the layer of a step. Raises CtkError."""
    builds.write(Store(work.store).place, wanted, layer)


def config(work: Work, undated: bytes, make: Callable[[], bytes]) -> bytes:
    """The configuration that an earlier build has made of `undated`, else what `make` gives, for later ones to find.

    So what is built of the same is the same image, as for other builders, and not one more with another time.
    """
    wanted = key(work, (), "CONFIG", undated.decode())
    store, into = work.opened()
    known, one = find(work, wanted)
    if known and one is not None:
        return store.blobs.document(one.descriptor.digest)
    made = make()
    described = manifest.described(made, media_types.OCI_CONFIG)
    into.put_blob(described, iter([made]))
    keep(work, wanted, Layer(described, described.digest))
    return made


def lowers(work: Work, below: Layers) -> list[str] | None:
    """The folders of the layers, the topmost first; None if some of them have to be laid out. Raises CtkError."""
    store = Store(work.store)
    return use.lowers(store, tuple(layer.diff_id for layer in below), form_here()) if below else []


def laid_out(work: Work, below: Layers, emit: Emit) -> list[str]:
    """The same, and what is missing is laid out. An ordinary user is root of a user namespace here. Raises CtkError."""
    found = lowers(work, below)
    if found is not None:
        return found
    store, into = work.opened()
    layout = Layout(store, into, [(one.descriptor.digest, one.diff_id) for one in below], work.policy, emit)
    source = StoreSource(store, below[0].descriptor, leases.Lease(store.place, work.lease, ()))
    for layer in below:
        if not layout.has(layer.descriptor):
            layout.take(source, layer.descriptor, Progress("", 0, silent))
    layout.finish()
    found = lowers(work, below)
    if found is None:
        raise CtkError("lay out the layers of the build", because="they were changed just now", hint="try again")
    return found


def put(
    work: Work,
    rootfd: int,
    entries: Iterable[Entry],
    doing: str,
    content: Callable[[Entry], Iterable[bytes]] | None = None,
) -> Layer | None:
    """Write a layer with these members into the store; None if there are none. Raises CtkError."""
    _, into = work.opened()
    made = parts.layer(into, rootfd, entries, doing, work.codec, content)
    if made is None:
        return None
    into.hold(made.diff_id)
    return Layer(made.descriptor, made.diff_id)
