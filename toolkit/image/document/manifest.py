"""Manifests and indexes (image-spec 1.1, manifest.md and image-index.md; Docker's schema 2, which means the same).

A document keeps its bytes: they are what its digest is of, and they are passed on as they came.
"""

from typing import Any, NamedTuple

from toolkit.errors import Invalid, NotFound
from toolkit.image import digest as digests
from toolkit.image.document import descriptor, fields, media_types, platform
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.platform import Platform
from toolkit.oci import json_text

_MANIFEST = ("schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations", "manifests")
_MOST_LAYERS = 1000
_MOST_MANIFESTS = 10_000


class Manifest(NamedTuple):
    """One image, or an artifact: then `artifact_type` or the config's type says of what kind."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str]
    subject: Descriptor | None
    artifact_type: str

    @property
    def is_image(self) -> bool:
        """Whether its configuration is an image's, so that its layers are root file systems."""
        return self.config.media_type in media_types.CONFIGS

    @property
    def is_root(self) -> bool:
        """Whether it is a root file system: artifacts may have an image's configuration, and layers of other kinds."""
        return self.is_image and all(layer.media_type in media_types.CODECS for layer in self.layers)

    @property
    def size_bytes(self) -> int:
        """What all of it takes, compressed as it is."""
        return len(self.raw) + self.config.size_bytes + sum(layer.size_bytes for layer in self.layers)


class Index(NamedTuple):
    """Several manifests, each for a platform."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str]
    subject: Descriptor | None
    artifact_type: str


def read(data: bytes, media_type: str, document: str) -> Manifest | Index:
    """The manifest or index in `data`. Raises Invalid.

    `media_type` is what a registry or descriptor calls it; "" if nobody said. What the document says of itself must
    be the same, and it must not be both at once (CVE-2021-41190).
    """
    part = fields.read(data, document, _MANIFEST)
    said = part.text("mediaType")
    media_type = media_types.bare(media_type)
    if media_type in ("", "application/json", "text/plain", "application/octet-stream"):
        media_type = said or (media_types.OCI_INDEX if "manifests" in part else media_types.OCI_MANIFEST)
    if said and said != media_type:
        raise part.invalid("mediaType", f"is {said!r}, and the document came as {media_type!r}")
    if media_type.startswith("application/vnd.docker.distribution.manifest.v1"):
        because = "it is of Docker's schema 1, which registries gave up in 2019; its layers can't be verified"
        raise Invalid("", because, document=document, hint="push the image again with a newer docker, or pull another")
    if part.natural("schemaVersion") != 2:
        raise part.invalid("schemaVersion", "must be 2")
    kind = part.text("artifactType")
    if kind and not media_types.is_media_type(kind):
        raise part.invalid("artifactType", f"{kind!r} is not a media type")
    if media_type in media_types.INDEXES:
        return _index(part, data, media_type)
    if media_type in media_types.MANIFESTS:
        return _manifest(part, data, media_type)
    raise Invalid("mediaType", f"{media_type!r} is neither a manifest nor an index", document=document)


def _index(part: fields.Fields, data: bytes, media_type: str) -> Index:
    for name in ("layers", "config"):
        if name in part:
            raise part.invalid(name, "is a manifest's, and the document is an index")
    if "manifests" not in part:
        raise part.invalid("manifests", "is missing")
    listed = part.objects("manifests", descriptor.KNOWN, most=_MOST_MANIFESTS)
    return Index(
        data,
        media_type,
        tuple(descriptor.read(one) for one in listed),
        part.pairs("annotations"),
        _subject(part),
        part.text("artifactType"),
    )


def _manifest(part: fields.Fields, data: bytes, media_type: str) -> Manifest:
    if "manifests" in part:
        raise part.invalid("manifests", "is an index's, and the document is a manifest")
    config = part.object("config", descriptor.KNOWN)
    if config is None:
        raise part.invalid("config", "is missing")
    if "layers" not in part:
        raise part.invalid("layers", "is missing")
    layers = part.objects("layers", descriptor.KNOWN, most=_MOST_LAYERS)
    return Manifest(
        data,
        media_type,
        descriptor.read(config),
        tuple(descriptor.read(one) for one in layers),
        part.pairs("annotations"),
        _subject(part),
        part.text("artifactType"),
    )


def _subject(part: fields.Fields) -> Descriptor | None:
    found = part.object("subject", descriptor.KNOWN)
    return None if found is None else descriptor.read(found)


def layer_codecs(manifest: Manifest, document: str) -> list[str]:
    """How each layer is compressed. Raises Invalid for a media type that is not a layer's."""
    codecs = []
    for at, layer in enumerate(manifest.layers):
        codec = media_types.CODECS.get(layer.media_type)
        if codec is None:
            because = f"{layer.media_type!r} is not a layer of a root file system"
            hint = "it is an artifact: `ctk copy` passes it on as it is" if not manifest.is_image else ""
            raise Invalid(f"layers[{at}].mediaType", because, document=document, hint=hint)
        codecs.append(codec)
    return codecs


def choose(index: Index, wanted: Platform, document: str) -> Descriptor:
    """The entry of an index that serves `wanted` best. Raises NotFound, which lists what there is.

    An entry without a platform serves anybody, if it is the only manifest there is.
    """
    fitting = [one for one in index.manifests if one.media_type in (*media_types.MANIFESTS, *media_types.INDEXES)]
    stated = [(one, one.platform) for one in fitting if one.platform is not None]
    at = platform.best(wanted, [found for _, found in stated])
    if at is not None:
        return stated[at][0]
    if len(fitting) == 1 and not stated:
        return fitting[0]
    if nested := [one for one in fitting if one.platform is None and one.media_type in media_types.INDEXES]:
        return nested[0]
    there = sorted({str(found) for _, found in stated if found.architecture != "unknown"})
    raise NotFound(
        f"choose from {document}",
        because=f"there is none for {wanted}; there are: {', '.join(there) or 'none that says its platform'}",
        hint=f"--platform {there[0]} takes that one" if there else "",
    )


def write(
    config: Descriptor,
    layers: tuple[Descriptor, ...] | list[Descriptor],
    *,
    annotations: dict[str, str] | None = None,
    subject: Descriptor | None = None,
    artifact_type: str = "",
    media_type: str = media_types.OCI_MANIFEST,
) -> bytes:
    """The bytes of a manifest."""
    whole: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type:
        whole["artifactType"] = artifact_type
    whole |= {"config": config.as_json(), "layers": [one.as_json() for one in layers]}
    if subject is not None:
        whole["subject"] = subject.as_json()
    if annotations:
        whole["annotations"] = annotations
    return json_text.dumps(whole).encode()


def write_index(
    manifests: tuple[Descriptor, ...] | list[Descriptor],
    *,
    annotations: dict[str, str] | None = None,
    media_type: str = media_types.OCI_INDEX,
) -> bytes:
    """The bytes of an index."""
    whole: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    whole["manifests"] = [one.as_json() for one in manifests]
    if annotations:
        whole["annotations"] = annotations
    return json_text.dumps(whole).encode()


def described(data: bytes, media_type: str, **more: Any) -> Descriptor:
    """The descriptor of a document's bytes; `more` are further fields of it."""
    return Descriptor(media_type, digests.of(data), len(data), **more)
