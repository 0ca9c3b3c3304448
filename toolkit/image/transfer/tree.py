"""What belongs to an image: its manifests, from an index down, and the blobs that they name.

Every document is read and checked before the first blob is fetched, so that what is wrong is found, and how much will
come is known, while nothing has been moved.
"""

from collections.abc import Iterator
from typing import NamedTuple

from toolkit.errors import Invalid, NotFound, Untrusted
from toolkit.image import digest as digests
from toolkit.image.document import config as configs
from toolkit.image.document import fields
from toolkit.image.document import manifest as manifests
from toolkit.image.document import platform as platforms
from toolkit.image.document.config import ImageConfig
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.document.media_types import INDEXES, MANIFESTS
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Raw, Source

_DEEPEST = 4  # an index may name indexes (image-index.md)
_MOST = 10_000  # manifests of one image


class Tree(NamedTuple):
    """An image, or all that an index holds. `documents` are in the order in which they can be written: leaves first.

    The last of them is what was asked for.
    """

    documents: tuple[tuple[Raw, Manifest | Index], ...]

    @property
    def top(self) -> Raw:
        """The manifest or index that was asked for."""
        return self.documents[-1][0]

    @property
    def images(self) -> list[str]:
        """The digests of its manifests, without those of indexes."""
        return [raw.digest for raw, document in self.documents if isinstance(document, Manifest)]

    @property
    def blobs(self) -> list[Descriptor]:
        """Configurations and layers, each once, in the order of the manifests."""
        found: dict[str, Descriptor] = {}
        for _, document in self.documents:
            if isinstance(document, Manifest):
                for blob in (document.config, *document.layers):
                    known = found.setdefault(blob.digest, blob)
                    if known.size_bytes != blob.size_bytes:
                        because = f"it has {known.size_bytes} bytes in one place and {blob.size_bytes} in another"
                        raise Invalid("size", because, document=blob.digest)
        return list(found.values())


def whole(source: Source, wanted: str = "") -> Tree:
    """All of what `wanted` names, for every platform. Raises what the source raises, Invalid and Untrusted."""
    documents: list[tuple[Raw, Manifest | Index]] = []
    seen: set[str] = set()
    _collect(source, source.manifest(wanted), documents, seen, 0)
    return Tree(tuple(documents))


def _collect(
    source: Source, raw: Raw, documents: list[tuple[Raw, Manifest | Index]], seen: set[str], depth: int
) -> None:
    document = manifests.read(raw.data, raw.media_type, f"{source} {raw.digest}")
    seen.add(raw.digest)
    if isinstance(document, Index):
        if depth == _DEEPEST:
            raise Invalid("manifests", f"indexes are nested more than {_DEEPEST} deep", document=str(source))
        for child in document.manifests:
            if child.digest in seen or child.media_type not in (*MANIFESTS, *INDEXES):
                continue
            if len(seen) > _MOST:
                raise Invalid("manifests", f"there are more than {_MOST}", document=str(source))
            _collect(source, _child(source, child), documents, seen, depth + 1)
    documents.append((raw, document))


def _child(source: Source, child: Descriptor) -> Raw:
    """A manifest that an index names, with the digest and size that the index states."""
    raw = source.manifest(child.digest)
    doing = f"read {child.digest} of {source}"
    digests.verify(raw.data, child.digest, doing)
    if len(raw.data) != child.size_bytes:
        because = f"it has {len(raw.data)} bytes, and the index states {child.size_bytes}"
        raise Untrusted(doing, because=because)
    if raw.media_type not in ("", child.media_type):
        because = f"it came as {raw.media_type!r}, and the index states {child.media_type!r}"
        raise Untrusted(doing, because=because)
    return Raw(raw.data, child.media_type, child.digest)


def one(source: Source, wanted: str, platform: Platform, *, with_index: bool = False) -> Tree:
    """The image for this platform alone. Raises as `whole`, and NotFound.

    `with_index`: the indexes that led to it belong to it, so that it keeps the digest that was asked for, though the
    manifests of other platforms are missing.
    """
    raw = source.manifest(wanted)
    above: list[tuple[Raw, Manifest | Index]] = []
    for _ in range(_DEEPEST + 1):
        document = manifests.read(raw.data, raw.media_type, f"{source} {raw.digest}")
        if isinstance(document, Manifest):
            return Tree(((raw, document), *(reversed(above) if with_index else ())))
        above.append((raw, document))
        raw = _child(source, manifests.choose(document, platform, str(source)))
    raise Invalid("manifests", f"indexes are nested more than {_DEEPEST} deep", document=str(source))


def check_platform(source: Source, tree: Tree, wanted: Platform) -> None:
    """Raise NotFound if it is an image for another platform than `wanted`: no index lists it, which would say so."""
    document = tree.documents[-1][1]
    if not isinstance(document, Manifest) or not document.is_image:
        return
    found = configuration(source, document).platform
    if platforms.best(wanted, [found]) is None:
        because = f"it is one image, for {found}, and {wanted} was asked for"
        raise NotFound(f"choose from {source}", because=because, hint=f"--platform {found} takes it")


def check(source: Source, tree: Tree) -> None:
    """Raise Invalid if an image has no configuration that fits its layers: nobody could unpack it.

    Raises as the source, too.
    """
    for _, document in tree.documents:
        if isinstance(document, Manifest) and document.is_root:
            configuration(source, document)


def configuration(source: Source, image: Manifest) -> ImageConfig:
    """The configuration of an image, verified, with one diff id for each layer. Raises as the source, and Invalid."""
    wanted = image.config
    document = f"{source} {wanted.digest}"
    if not image.is_image:
        because = f"is {wanted.media_type!r}: it is an artifact, not an image"
        raise Invalid("config.mediaType", because, document=document)
    if wanted.size_bytes > fields.LIMIT_BYTES:
        because = f"it has {wanted.size_bytes} bytes, and {fields.LIMIT_BYTES} is the limit"
        raise Invalid("", because, document=document)
    with source.blob(wanted) as pieces:
        data = b"".join(digests.verified(pieces, wanted.digest, wanted.size_bytes, f"read {document}"))
    found = configs.read(data, document)
    configs.check_layers(found, len(image.layers), document)
    return found


def missing(blobs: list[Descriptor], has: Iterator[bool]) -> list[Descriptor]:
    """Those that are not there yet, the largest first: the last one to be moved is then a small one."""
    return sorted((blob for blob, there in zip(blobs, has, strict=True) if not there), key=lambda one: -one.size_bytes)
