"""cosign's signatures made with a key: an artifact in the image's own repository, whose layers are the signed texts.

It is found under the tag sha256-HEX.sig, or by its `subject` (distribution-spec 1.1). The signature itself, ECDSA over
the SHA-256 of the layer, is an annotation of the layer. Source: cosign's specs/SIGNATURE_SPEC.md.
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from toolkit.errors import HostLacks, Invalid, Untrusted, reason
from toolkit.image import digest as digests
from toolkit.image.document import manifest
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Manifest
from toolkit.image.endpoint import Raw
from toolkit.kernel import reading

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

TYPE = "cosign container image signature"
ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
ANNOTATION = "dev.cosignproject.cosign/signature"
LIMIT_BYTES = 1 << 16  # of a signed text; one has 250
NO_LIBRARY = "the library `cryptography` is missing"
EXTRA = "pip install 'ctk-oci[cosign]', in the environment that ctk runs in"
_MOST = 128  # signatures of an image, as of a lookaside's
_MOST_ARTIFACTS = 16
_LIMIT_SIGNATURE = 1 << 10  # characters of base64; the longest curve's has 190


class Signed(NamedTuple):
    """A text and its signature as they came. `payload` is what its digest says; nothing else of it is verified."""

    place: str
    payload: bytes
    signature: bytes


@runtime_checkable
class Attached(Protocol):
    """A repository that artifacts are attached in: registry/client.py's."""

    def head(self, wanted: str = "") -> Descriptor | None:
        """What a tag or digest is; None for nothing."""
        ...

    def manifest(self, wanted: str = "") -> Raw:
        """As endpoint.Source."""
        ...

    def blob(self, descriptor: Descriptor, start: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """As endpoint.Source."""
        ...

    def referrers(self, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """What has this digest as its subject."""
        ...


def tag_of(digest: str) -> str:
    """The tag of an image's signatures."""
    return digest.replace(":", "-", 1) + ".sig"


def read(source: Attached, digest: str) -> Iterator[Signed]:
    """The signatures of an image. Raises Untrusted (too many, too long, not what their digest says), CtkError."""
    found = 0
    for wanted in _artifacts(source, digest):
        raw = source.manifest(wanted)
        document = manifest.read(raw.data, raw.media_type, wanted)
        if not isinstance(document, Manifest):
            raise Invalid("", "must be a manifest, and is an index", document=wanted)
        for layer in document.layers:
            if layer.media_type != PAYLOAD:
                continue
            found += 1
            if found > _MOST:
                raise Untrusted(f"read the signatures of {digest}", because=f"there are more than {_MOST}")
            yield _signed(source, layer)


def _artifacts(source: Attached, digest: str) -> Iterator[str]:
    tag = tag_of(digest)
    if source.head(tag) is not None:
        yield tag
    for one in source.referrers(digest, ARTIFACT)[:_MOST_ARTIFACTS]:
        yield one.digest


def _signed(source: Attached, layer: Descriptor) -> Signed:
    doing = f"read the signature {layer.digest}"
    if layer.size_bytes > LIMIT_BYTES:
        raise Untrusted(doing, because=f"it has {layer.size_bytes} bytes, and {LIMIT_BYTES} is the limit")
    with source.blob(layer) as pieces:
        payload = b"".join(pieces)
    digests.verify(payload, layer.digest, doing)
    text = layer.annotations.get(ANNOTATION, "")
    try:
        signature = base64.b64decode(text, validate=True) if len(text) <= _LIMIT_SIGNATURE else b""
    except (binascii.Error, ValueError):
        signature = b""
    return Signed(layer.digest, payload, signature)


class Keys:
    """Public keys; `verify` wants the signature of one of them."""

    def __init__(self, keys: "Sequence[EllipticCurvePublicKey]") -> None:
        self._keys = keys

    def verify(self, signed: Signed) -> None:
        """Raise Untrusted if none of the keys has signed this text."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        for key in self._keys:
            try:
                key.verify(signed.signature, signed.payload, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                continue
            return
        raise Untrusted(f"verify {signed.place}", because="no key of the policy has signed it")


def load(paths: Sequence[str], texts: Sequence[bytes]) -> Keys:
    """The keys in these files, and these PEM texts. Raises Untrusted, HostLacks (no library for it)."""
    named = [(text, "the policy's keyData") for text in texts]
    for path in paths:
        try:
            named.append((reading.named(path, limit_bytes=LIMIT_BYTES), repr(path)))
        except OSError as error:
            raise Untrusted(f"read the key {path!r}", because=reason(error)) from None
    return Keys([_key(text, what) for text, what in named])


def _key(text: bytes, what: str) -> "EllipticCurvePublicKey":
    doing = f"read the key {what}"
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise HostLacks(doing, because=NO_LIBRARY, hint=EXTRA) from None
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        hint = "cosign.pub begins with -----BEGIN PUBLIC KEY-----"
        raise Untrusted(doing, because="it is not a public key in PEM", hint=hint) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        hint = "`cosign generate-key-pair` makes ECDSA keys"
        raise Untrusted(doing, because="it is not an ECDSA key, and others are not supported", hint=hint)
    return key
