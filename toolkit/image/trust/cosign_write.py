"""Signatures as cosign's, made with a key in a file and put beside the image in its registry (cosign.py reads them)."""

import base64
import json
from collections.abc import Callable
from typing import Protocol

from toolkit.errors import HostLacks, Invalid, Untrusted
from toolkit.image import digest as digests
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Manifest
from toolkit.image.endpoint import Destination, Raw
from toolkit.image.trust import cosign


class Repository(cosign.Attached, Destination, Protocol):
    """A repository that is read and written: registry/client.py's."""


def is_key(data: bytes) -> bool:
    """Whether this is a private key in PEM, and not OpenPGP's."""
    first = data.lstrip().partition(b"\n")[0]
    return first.startswith(b"-----BEGIN ") and b"PRIVATE KEY-----" in first and b"PGP" not in first


def signer(data: bytes, what: str, passphrase: str = "") -> Callable[[bytes], bytes]:
    """What signs a text with the key `data`; `what` names its file. Raises Untrusted, HostLacks."""
    doing = f"sign with the key in {what!r}"
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise HostLacks(doing, because=cosign.NO_LIBRARY, hint=cosign.EXTRA) from None
    hint = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 makes one; --sign-passphrase-file unlocks it"
    try:
        key = serialization.load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Untrusted(doing, because=str(error).splitlines()[0], hint=hint) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Untrusted(doing, because="it is not an ECDSA key, and others are not supported", hint=hint)
    return lambda text: key.sign(text, ec.ECDSA(hashes.SHA256()))


def attach(repository: Repository, digest: str, payload: bytes, signature: bytes) -> str:
    """Add a signature to those of the image with this digest; the tag that it has. Raises CtkError.

    Of two that sign at once one is lost: a registry has no lock.
    """
    tag = cosign.tag_of(digest)
    annotations = {cosign.ANNOTATION: base64.b64encode(signature).decode()}
    layer = manifest.described(payload, cosign.PAYLOAD, annotations=annotations)
    layers = [*_there(repository, tag), layer]
    rootfs = {"type": "layers", "diff_ids": [one.digest for one in layers]}
    config = json.dumps({"architecture": "", "os": "", "config": {}, "rootfs": rootfs}).encode()
    described = manifest.described(config, media_types.OCI_CONFIG)
    for blob, data in ((described, config), (layer, payload)):
        if not repository.has(blob):
            repository.put_blob(blob, iter([data]))
    document = manifest.write(described, layers)
    repository.put_manifest(Raw(document, media_types.OCI_MANIFEST, digests.of(document)), tag)
    return tag


def _there(repository: Repository, tag: str) -> tuple[Descriptor, ...]:
    if repository.head(tag) is None:
        return ()
    raw = repository.manifest(tag)
    found = manifest.read(raw.data, raw.media_type, tag)
    if not isinstance(found, Manifest):
        raise Invalid("", "must be a manifest, and is an index", document=tag)
    return found.layers
