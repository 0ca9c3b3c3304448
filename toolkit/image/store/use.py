"""The layers of an image, laid out, for who mounts them."""

from toolkit.errors import Invalid
from toolkit.events import Emit, Note, silent
from toolkit.image.document import manifest
from toolkit.image.layer import apply
from toolkit.image.layer.policy import Policy
from toolkit.image.store.leases import Lease
from toolkit.image.store.store import Image, Store

_POLICY = Policy()


def lay_out(
    store: Store,
    image: Image,
    lease: Lease,
    *,
    form: str = apply.OVERLAY,
    policy: Policy = _POLICY,
    emit: Emit = silent,
) -> list[str]:
    """The folders of the image's layers, from the lowest to the topmost; what is not laid out is made of its blob.

    `lease` holds the image and all of them from now on. They are for overlayfs's `lowerdir`, which wants the topmost
    first. Raises Invalid for an image whose layers can't be told from its configuration, Untrusted, CtkError.
    """
    layers, diff_ids = image.manifest.layers, image.config.diff_ids
    manifest.layer_codecs(image.manifest, image.digest)
    if len(diff_ids) != len(layers):
        because = f"it has {len(diff_ids)} entries, and the manifest has {len(layers)} layers"
        raise Invalid("rootfs.diff_ids", because, document=image.manifest.config.digest)
    for digest in (image.top.digest, image.digest, *diff_ids):
        lease.add(digest)
    paths = []
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        path = store.layers.use(diff_id, form)
        if not path:
            with store.layers.laying_out(diff_id, form, emit=emit) as making:
                if not making.there:
                    with store.blobs.pieces(layer) as pieces:
                        facts = apply.one(making.rootfd, pieces, layer, diff_id, form, policy)
                    for warning in facts.warnings:
                        emit(Note(f"layer {layer.digest}: {warning}", warning=True))
            path = store.layers.path(diff_id, form)
        paths.append(path)
    return paths
