"""The layers of an image, laid out, for who mounts them."""

from toolkit.events import Emit, Note, silent
from toolkit.image.document import config as configs
from toolkit.image.document import manifest
from toolkit.image.layer import apply
from toolkit.image.layer.policy import Policy
from toolkit.image.store import implicit
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

    There may be one more, of what implicit.py says. `lease` holds the image and all of them from now on. They are for
    overlayfs's `lowerdir`, which wants the topmost first. Raises Invalid for an image whose layers can't be told from
    its configuration, Untrusted, CtkError.
    """
    layers, diff_ids = image.manifest.layers, image.config.diff_ids
    manifest.layer_codecs(image.manifest, image.digest)
    configs.check_layers(image.config, len(layers), image.manifest.config.digest)
    for digest in (image.top.digest, image.digest, *diff_ids):
        lease.add(digest)
    if not diff_ids:
        return []
    paths = []
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        path = store.layers.use(diff_id, form)
        if not path:
            with store.layers.laying_out(diff_id, form, emit=emit) as making:
                if not making.there:
                    with store.blobs.pieces(layer) as pieces:
                        facts = apply.one(making.rootfd, pieces, layer, diff_id, form, policy)
                    making.implicit = facts.implicit
                    for warning in facts.warnings:
                        emit(Note(f"layer {layer.digest}: {warning}", warning=True))
            path = store.layers.path(diff_id, form)
        paths.append(path)
    return paths + _folders(store, lease, paths, diff_ids, form, emit)


def _folders(
    store: Store, lease: Lease, paths: list[str], diff_ids: tuple[str, ...], form: str, emit: Emit
) -> list[str]:
    """The layer with the folders that are not as the layers below have them; none if there are no such folders."""
    layers = [
        implicit.Layer(path, store.layers.implicit(diff_id, form))
        for path, diff_id in zip(paths, diff_ids, strict=True)
    ]
    if not any(layer.implicit for layer in layers[1:]):
        return []
    chain, kind = configs.chain_ids(diff_ids)[-1], f"{form}-folders"
    lease.add(chain)
    if path := store.layers.use(chain, kind):
        return [path]
    try:
        wanted = implicit.needed(layers)
        if not wanted:
            return []
        with store.layers.laying_out(chain, kind, emit=emit) as making:
            if not making.there:
                implicit.make(making.rootfd, layers, wanted)
    except OSError as error:
        raise store.place.failed(error) from None
    return [store.layers.path(chain, kind)]
