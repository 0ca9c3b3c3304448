"""`ctk pull`: an image of a registry into the store.

What the store has is not asked for again: of an image that is there whole, one HEAD tells that it is still the one.
"""

import threading
import time
from functools import partial
from typing import NamedTuple

from toolkit.children import rootless
from toolkit.errors import CtkError, NotFound
from toolkit.events import Done, Emit, Finished, Note, Planned, Started, Traced, silent
from toolkit.image import name
from toolkit.image.document import manifest as manifests
from toolkit.image.document import platform
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Manifest
from toolkit.image.document.platform import Platform
from toolkit.image.layer.apply import Policy
from toolkit.image.layer.forms import form_here
from toolkit.image.name import Location, Reference
from toolkit.image.registry.client import Registry
from toolkit.image.store import limit, reach
from toolkit.image.store.layers import Layers
from toolkit.image.store.store import Store, StoreDestination
from toolkit.image.transfer import copy as copying
from toolkit.image.transfer import tree as trees
from toolkit.image.transfer.copy import Progress, into_store
from toolkit.image.transfer.lay_out import Layout, traced
from toolkit.image.transfer.places import Access
from toolkit.image.transfer.pull_options import PullOptions
from toolkit.image.transfer.tree import Tree
from toolkit.image.trust import gate, lock
from toolkit.image.trust.lock import Lock
from toolkit.text import quote


class PullRequest(NamedTuple):
    """What `ctk pull` was asked for. `platform` "" is this machine's; `every` takes all that the index lists.

    Its layers are laid out for `ctk up`, unless `every`: `squash_ids` and `devices` are layer/policy.py's. `lock` is a
    lock file (trust/lock.py), "" the one of the current folder, which is obeyed or, with `update_lock`, changed.
    `explain`: what is asked and verified is emitted, too (Traced).
    `policy` is the file of a policy (trust/policy.py), "" for ctk's own, if there is one.
    """

    reference: str
    platform: str = ""
    every: bool = False
    plain_http: tuple[str, ...] = ()
    lay_out: bool = True
    squash_ids: bool = False
    devices: bool = False
    jobs: int = copying.JOBS
    lock: str = ""
    update_lock: bool = False
    explain: bool = False
    policy: str = ""


def for_use(reference: str, platform: str, how: PullOptions) -> PullRequest:
    """The pull of an image that a container or a build lies on."""
    return PullRequest(
        reference,
        platform,
        plain_http=how.plain_http,
        squash_ids=how.squash_ids,
        devices=how.devices,
        lock=how.lock,
        update_lock=how.update_lock,
        policy=how.policy,
    )


class _Pull(NamedTuple):
    """What all steps of a pull need. `wanted` None is this machine's platform; `pin` is the lock file's digest."""

    request: PullRequest
    reference: Reference
    wanted: Platform | None
    store: Store
    source: Registry
    access: Access
    pin: str
    emit: Emit

    @property
    def location(self) -> Location:
        """The image's place, for the gate."""
        return Location(name.DOCKER, reference=self.reference)


STAGES = (("manifest", "Read the manifest"), (copying.STAGE, "Fetch what is missing"))


def fetched(request: PullRequest, emit: Emit) -> str:
    """As `pull`; without root as root of a user namespace, so that the layers get their owners. Raises CtkError."""
    return rootless.as_root(pull, request, emit)


def pull(request: PullRequest, emit: Emit, *, access: Access | None = None) -> str:
    """Bring the image into the store; its digest. Raises CtkError; what has come of a blob then waits for the next."""
    began = time.monotonic()
    reference = name.parse(request.reference).tagged()
    wanted = platform.parse(request.platform) if request.platform else None
    emit(Planned(STAGES))
    trace = emit if request.explain else None
    access = access or Access(frozenset(request.plain_http), cancelled=threading.Event(), emit=emit, trace=trace)
    store = Store()
    pins = lock.Lock() if request.update_lock else lock.find(request.lock)
    pin = pins.digest(str(reference))
    source = access.registry(reference)
    try:
        one = _Pull(request, reference, wanted, store, source, access, pin, emit)
        digest, moved = _there(one), 0
        if not digest:
            digest, moved = _fetch(one)
        _tell_lock(reference, pins, source, emit)
    finally:
        source.close()
    if request.update_lock:
        _update_lock(request, reference, digest, emit)
    short = reference.familiar
    what = f"pulled {short}" if moved else f"{short} is {'as ' + repr(pins.path) + ' says' if pin else 'up to date'}"
    emit(
        Done(
            f"{what}: {digest}",
            time.monotonic() - began,
            {"reference": str(reference), "digest": digest, "bytes": moved},
            (f"ctk up {quote(short)} NAME", f"ctk image inspect {quote(short)}"),
        )
    )
    return digest


def _tell_lock(reference: Reference, pins: Lock, source: Registry, emit: Emit) -> None:
    """Say what a lock file that is there does not say, or says otherwise than the registry."""
    short = reference.familiar
    pin = pins.digest(str(reference))
    if reference.digest or not pins.path:
        return
    if not pin:
        emit(Note(f"{pins.path!r} does not hold {short} to a digest; --update-lock adds it"))
        return
    try:
        now = source.head()
    except CtkError:
        return  # the image is here, and the registry is not needed for it
    if now is None:
        emit(Note(f"the registry no longer has {short}; {pins.path!r} holds it to {pin}", warning=True))
    elif now.digest != pin:
        told = f"{short} is {now.digest} in the registry now; {pins.path!r} holds it to {pin}"
        emit(Note(f"{told}; --update-lock follows the registry", warning=True))


def _update_lock(request: PullRequest, reference: Reference, digest: str, emit: Emit) -> None:
    before = lock.update(request.lock, reference, digest)
    if before != digest:
        was = f", and no longer to {before}" if before else ""
        emit(Note(f"{request.lock or lock.FILE!r} holds {reference.familiar} to {digest} from now on{was}"))


def _there(one: _Pull) -> str:
    """The digest of the image if the store has it whole, and the registry (or a lock) still calls it so; else ""."""
    request, reference, store, source, emit = one.request, one.reference, one.store, one.source, one.emit
    if request.every:
        return ""
    began = time.monotonic()
    emit(Started("manifest"))
    try:
        image = store.image(str(reference), one.wanted or platform.host())
    except NotFound:
        return ""
    if not all(map(store.blobs.has, (image.manifest.config, *image.manifest.layers))):
        return ""
    if request.lay_out and not all(map(partial(Layers(store.place).has, form=form_here()), image.config.diff_ids)):
        return ""
    # Content that is named by its digest can't have changed.
    claimed = image.top if reference.digest or one.pin else source.head()
    if claimed is None or (one.pin or claimed.digest) != image.top.digest:
        return ""
    gate.check(one.location, source, request.policy, image.top.digest, [image.digest], emit)
    if request.explain:
        emit(Traced("there", {"digest": image.top.digest}))
    emit(Finished("manifest", time.monotonic() - began, claimed.digest, skipped=True))
    emit(Started(copying.STAGE))
    emit(Finished(copying.STAGE, 0.0, "all there already", skipped=True))
    return image.top.digest


def _fetch(one: _Pull) -> tuple[str, int]:
    """What is missing comes; the digest, and how many bytes came."""
    request, reference, store, source, emit = one.request, one.reference, one.store, one.source, one.emit
    began = time.monotonic()
    emit(Started("manifest"))
    machine = one.wanted or platform.host()
    tree = trees.whole(source, one.pin) if request.every else trees.one(source, one.pin, machine, with_index=True)
    if one.wanted and not request.every:
        trees.check_platform(source, tree, one.wanted)
    gate.check(one.location, source, request.policy, tree.top.digest, tree.images, emit)
    if request.every or not request.lay_out:
        trees.check(source, tree)  # `_layout` does the same
    emit(Finished("manifest", time.monotonic() - began, tree.top.digest))
    store.place.check_room(tree.blobs)
    into = store.destination(f"ctk pull {quote(reference.familiar)}")
    trace = one.access.trace or silent
    try:
        layout = _layout(one, into, tree, trace)
        moved = copying.copy(
            source,
            into,
            tree,
            str(reference),
            emit,
            jobs=request.jobs,
            cancelled=one.access.cancelled,
            has=partial(_has, layout, into, trace),
            take=partial(layout.take if layout else partial(_take, into, trace), source),
        )
        if layout:
            layout.finish()
        limit.keep(store, emit)  # what has just come is still held
    finally:
        into.close()
    return tree.top.digest, moved


def _has(layout: Layout | None, into: StoreDestination, trace: Emit, blob: Descriptor) -> bool:
    there = (layout or into).has(blob)
    if there and not (layout and layout.diff_id(blob) is None):  # _layout has told of the configuration
        trace(traced("kept", blob))
    return there


def _take(into: StoreDestination, trace: Emit, source: Registry, blob: Descriptor, progress: Progress) -> None:
    into_store(source, into, blob, progress)
    trace(traced("blob", blob))


def _layout(one: _Pull, into: StoreDestination, tree: Tree, trace: Emit) -> Layout | None:
    """What lays the layers out; None if that was not asked for. Fetches the configuration, which has the diff ids."""
    request, store, source = one.request, one.store, one.source
    image = tree.documents[0][1]
    if request.every or not request.lay_out or not isinstance(image, Manifest) or not image.is_image:
        return None
    manifests.layer_codecs(image, str(source))
    if into.has(image.config):
        trace(traced("kept", image.config))
    else:
        _take(into, trace, source, image.config, Progress("", 0, silent))
    config = reach.config_of(store.blobs, image)
    assert config is not None  # it is an image
    pairs = zip((layer.digest for layer in image.layers), config.diff_ids, strict=True)
    return Layout(store, into, list(pairs), Policy(request.squash_ids, request.devices), one.emit, trace)
