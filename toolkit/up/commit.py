"""`ctk commit`: what a container on an image has changed becomes one more layer."""

import os
from typing import Any, NamedTuple

from toolkit.archive.epoch import epoch_s
from toolkit.children import rootless
from toolkit.errors import CtkError, NotFound, Usage, reason
from toolkit.events import Emit, Planned
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Manifest
from toolkit.image.layer import differ, mount_points
from toolkit.image.layer.forms import form_here
from toolkit.image.store import leases, reach, use
from toolkit.image.store.store import Store, StoreSource
from toolkit.image.transfer import new_image
from toolkit.image.transfer.new_image import Below, NewImage
from toolkit.kernel import reading
from toolkit.oci import json_text
from toolkit.text import quote
from toolkit.up.bundle import read_marker

_STAGES = ((new_image.STAGE, "Pack what has changed"),)


class CommitRequest(NamedTuple):
    """`name` is what the user calls the container; `layer` the folder of its writable layer, which is at rest."""

    name: str
    bundle: str
    layer: str
    new: NewImage


def committed(request: CommitRequest, emit: Emit) -> str:
    """Make the image; its digest. Without root as root of a user namespace, which has the owners of the files.

    Raises CtkError; then there is no new image.
    """
    doing = f"commit {request.name!r}"
    if not read_marker(request.bundle).get("image"):
        there = os.path.isdir(request.bundle)
        because = "it was not made from an image" if there else "there is no such container or bundle"
        hint = f"ctk pack {quote(request.name)} IMAGE makes an image of a whole root" if there else "ctk list"
        if not there and os.path.isdir(request.name):
            hint = f"ctk pack {quote(request.name)} IMAGE makes one of a folder, or of what changed in an unpacked one"
        raise NotFound(doing, because=because, hint=hint)
    if not os.path.isdir(request.layer):
        raise CtkError(doing, because="it has no writable layer on a disk: it has not run yet, or with --ephemeral")
    if os.geteuid() == 0 and _is_mapped(_spec(request.bundle)):
        raise Usage(doing, because="it has a user namespace: the owners of its files are not the image's")
    return rootless.as_root(commit, request, emit)


def _spec(bundle: str) -> dict[str, Any]:
    path = os.path.join(bundle, "config.json")
    try:
        spec = json_text.loads(reading.read(path), path)
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None
    return spec if isinstance(spec, dict) else {}


def _is_mapped(spec: dict[str, Any]) -> bool:
    """Whether its ids are others than those outside."""
    return any(one.get("type") == "user" for one in (spec.get("linux") or {}).get("namespaces") or ())


def commit(request: CommitRequest, emit: Emit) -> str:
    """As `committed`, with the rights of this process. Raises CtkError."""
    emit(Planned(_STAGES))
    store = Store()
    doing = f"commit {request.name!r}"
    base = str(read_marker(request.bundle)["image"])
    with leases.take(store.place, f"ctk commit {quote(request.name)}", [base]) as lease:
        image = reach.read(store.blobs, base)
        config = reach.config_of(store.blobs, image) if isinstance(image, Manifest) else None
        if not isinstance(image, Manifest) or config is None:
            raise CtkError(doing, because=f"{base}, its image, is none any more", hint="ctk image check")
        source = StoreSource(store, Descriptor(image.media_type, base, len(image.raw)), lease)
        below = Below(config.raw, image.layers, source)
        new_image.check(request.new, below)
        lowers = use.lowers(store, config.diff_ids, form_here())
        if lowers is None:
            hint = "the next start of the container lays them out again"
            raise CtkError(doing, because="the layers of its image have changed in the store", hint=hint)
        try:
            upperfd = os.open(os.path.join(request.layer, "upper"), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CtkError(doing, because=reason(error)) from None
        try:
            found = differ.changes(upperfd, lowers, form_here(), doing, latest_s=epoch_s())
            entries = mount_points.without(found, mount_points.of(_spec(request.bundle)), lowers)
            return new_image.make(request.new, below, upperfd, entries, "ctk commit", repr(request.name), emit)
        finally:
            os.close(upperfd)
