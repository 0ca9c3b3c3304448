"""What an image consists of: all that its manifest or index names, as far as it is in the store.

Of an index the manifests of other platforms may be missing, and layers that have URLs. All else must be there.
"""

from collections.abc import Iterable, Iterator

from toolkit.errors import CtkError, Invalid, NotFound
from toolkit.image import digest as digests
from toolkit.image.document import config as configs
from toolkit.image.document import fields, manifest, media_types
from toolkit.image.document.config import ImageConfig
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.store.blobs import Blobs

_DEPTH = 4  # an index may name indexes (image-index.md)
_DOCUMENTS = (*media_types.MANIFESTS, *media_types.INDEXES)


class Reached:
    """All of some images. `problems`, by digest, are damaged or missing documents: what they name is not known."""

    def __init__(self) -> None:
        self.digests: set[str] = set()
        self.diff_ids: set[str] = set()
        self.problems: dict[str, CtkError] = {}
        self.read: set[str] = set()  # documents


def read(blobs: Blobs, digest: str, media_type: str = "") -> Manifest | Index:
    """The manifest or index of this digest. Raises NotFound, Untrusted, Invalid."""
    return manifest.read(blobs.document(digest), media_type, digest)


def config_of(blobs: Blobs, found: Manifest) -> ImageConfig | None:
    """The configuration of an image, which fits its layers; None for an artifact.

    Raises NotFound, Untrusted, Invalid.
    """
    config = _config_of(blobs, found)
    if config is not None and found.is_root:
        configs.check_layers(config, len(found.layers), found.config.digest)
    return config


def _config_of(blobs: Blobs, found: Manifest) -> ImageConfig | None:
    if not found.is_image:
        return None
    return configs.read(blobs.document(found.config.digest), found.config.digest)


def manifests(blobs: Blobs, top: Descriptor) -> Iterator[tuple[Descriptor, Manifest]]:
    """The manifests of an image that are in the store, the descriptor of each as its index has it.

    Raises NotFound, Untrusted, Invalid.
    """
    yield from _manifests(blobs, top, 0)


def _manifests(blobs: Blobs, one: Descriptor, depth: int) -> Iterator[tuple[Descriptor, Manifest]]:
    found = read(blobs, one.digest, one.media_type)
    if isinstance(found, Manifest):
        yield one, found
        return
    if depth == _DEPTH:
        raise Invalid("manifests", f"indexes are nested more than {_DEPTH} deep", document=one.digest)
    for below in found.manifests:
        if below.media_type in _DOCUMENTS and blobs.has(below):
            yield from _manifests(blobs, below, depth + 1)


def reach(blobs: Blobs, tops: Iterable[Descriptor], held: Iterable[str] = ()) -> Reached:
    """All of the images `tops`, and of what the digests `held` name: manifests, blobs or diff ids."""
    found = Reached()
    for top in tops:
        _reach(blobs, top, found, 0, must=True)
    for digest in held:
        found.digests.add(digest)
        found.diff_ids.add(digest)
        if (document := _as_document(blobs, digest)) is not None:
            _reach(blobs, document, found, 0, must=False)
    return found


def _as_document(blobs: Blobs, digest: str) -> Descriptor | None:
    """A held digest as a document, if it is one."""
    size_bytes = blobs.size(digest)
    if not 0 < size_bytes <= fields.LIMIT_BYTES:
        return None
    try:
        data = blobs.document(digest)
        document = manifest.read(data, "", digest) if data[:1] == b"{" else None
    except CtkError:
        return None
    return Descriptor(document.media_type, digest, size_bytes) if document is not None else None


def _reach(blobs: Blobs, one: Descriptor, found: Reached, depth: int, *, must: bool) -> None:
    found.digests.add(one.digest)
    if one.media_type not in _DOCUMENTS or one.digest in found.read:
        return
    found.read.add(one.digest)
    try:
        document = read(blobs, one.digest, one.media_type)
        if isinstance(document, Manifest):
            _reach_manifest(blobs, document, found)
        elif depth == _DEPTH:
            raise Invalid("manifests", f"indexes are nested more than {_DEPTH} deep", document=one.digest)
    except NotFound as error:
        if must:
            found.problems[one.digest] = error
        return
    except CtkError as error:
        found.problems[one.digest] = error
        return
    if not isinstance(document, Manifest):
        for below in document.manifests:
            _reach(blobs, below, found, depth + 1, must=False)


def _reach_manifest(blobs: Blobs, document: Manifest, found: Reached) -> None:
    found.digests.update(layer.digest for layer in document.layers)
    found.digests.add(document.config.digest)
    try:
        config = _config_of(blobs, document)
    except CtkError as error:  # its layers are known all the same, but not as what they are laid out
        found.problems[document.config.digest] = error
        return
    if config is not None and config.diff_ids:
        found.diff_ids.update((*config.diff_ids, configs.chain_ids(config.diff_ids)[-1]))  # implicit.py


def absent(blobs: Blobs, document: Manifest) -> list[Descriptor]:
    """Which blobs of a manifest are not there and should be."""
    return [one for one in (document.config, *document.layers) if not one.urls and not blobs.has(one)]


def short(digest: str) -> str:
    """A digest's first digits, as lists of images show it."""
    return digests.split(digest)[1][:12]
