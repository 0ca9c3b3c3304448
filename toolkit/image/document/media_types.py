"""Media types: image-spec's and Docker's older ones, which mean the same (image-spec 1.1, media-types.md)."""

import re

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)

PLAIN, GZIP, ZSTD = "", "gzip", "zstd"
CODECS = {
    OCI_LAYER: PLAIN,
    OCI_LAYER_GZIP: GZIP,
    OCI_LAYER_ZSTD: ZSTD,
    DOCKER_LAYER: PLAIN,
    DOCKER_LAYER_GZIP: GZIP,
    DOCKER_LAYER_ZSTD: ZSTD,
    _NONDISTRIBUTABLE: PLAIN,
    _NONDISTRIBUTABLE + "+gzip": GZIP,
    _NONDISTRIBUTABLE + "+zstd": ZSTD,
    DOCKER_FOREIGN: PLAIN,
    DOCKER_FOREIGN + ".gzip": GZIP,
}
"""How the tar of a layer of that media type is compressed; a type that is not in here is not a layer."""

IN_OCI = {
    DOCKER_MANIFEST: OCI_MANIFEST,
    DOCKER_LIST: OCI_INDEX,
    DOCKER_CONFIG: OCI_CONFIG,
    DOCKER_LAYER: OCI_LAYER,
    DOCKER_LAYER_GZIP: OCI_LAYER_GZIP,
    DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD,
    DOCKER_FOREIGN: _NONDISTRIBUTABLE,
    DOCKER_FOREIGN + ".gzip": _NONDISTRIBUTABLE + "+gzip",
}
"""Docker's types and what image-spec calls the same."""

_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_GRAMMAR = re.compile(rf"{_NAME}/{_NAME}")


def is_media_type(text: str) -> bool:
    """Whether it is TYPE/SUBTYPE as they may be registered (RFC 6838 4.2), without parameters."""
    return _GRAMMAR.fullmatch(text) is not None


def layer_type(codec: str) -> str:
    """The type of a layer that is compressed so."""
    return {PLAIN: OCI_LAYER, GZIP: OCI_LAYER_GZIP, ZSTD: OCI_LAYER_ZSTD}[codec]


def bare(content_type: str) -> str:
    """A Content-Type header without its parameters, in lower case (RFC 9110 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()
