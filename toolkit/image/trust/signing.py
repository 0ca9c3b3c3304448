"""Signatures of ours: for the digests of an image, under the name that it has in a registry."""

from collections.abc import Callable, Sequence
from typing import cast

from toolkit.errors import Usage
from toolkit.fetch import signed_message
from toolkit.image.endpoint import Destination
from toolkit.image.name import DOCKER, Location, Reference
from toolkit.image.trust import claim, cosign, cosign_write, lookaside
from toolkit.kernel import reading

Keep = Callable[[Destination], str]
"""Puts a signature where it belongs, when the image is at its destination; says where that is. Raises CtkError."""


def signed(destination: Location, digests: Sequence[str], key: str, passphrase: str = "") -> list[tuple[str, Keep]]:
    """A signature for each digest, as (digest, what keeps it). Nothing is written yet.

    `key` is signed_message.signer's, or a file with a private key in PEM: then it signs as cosign does. Raises Usage,
    and what the signers raise.
    """
    reference = _reference(destination)
    pem = _pem(key)
    if pem:
        sign = cosign_write.signer(pem, key, passphrase)
        texts = [(digest, claim.write(digest, reference, cosign.TYPE)) for digest in digests]
        return [(digest, _attach(digest, text, sign(text))) for digest, text in texts]
    lookaside.check_writable(reference)
    sign = signed_message.signer(key, passphrase)
    return [(digest, _keep(reference, digest, sign(claim.write(digest, reference)))) for digest in digests]


def _pem(key: str) -> bytes:
    """The key in this file, if there is one in PEM."""
    try:
        data = reading.named(key, limit_bytes=cosign.LIMIT_BYTES)
    except OSError:
        return b""  # a name of GnuPG's, or that signer says what is wrong
    return data if cosign_write.is_key(data) else b""


def _attach(digest: str, text: bytes, signature: bytes) -> Keep:
    # _reference has seen to it that the destination is a registry.
    return lambda into: cosign_write.attach(cast(cosign_write.Repository, into), digest, text, signature)


def _keep(reference: Reference, digest: str, signature: bytes) -> Keep:
    return lambda _: lookaside.write(reference, digest, signature)


def _reference(destination: Location) -> Reference:
    if destination.transport != DOCKER or destination.reference is None or not destination.reference.tagged().tag:
        because = "a signature is for a name with a tag in a registry"
        raise Usage(f"sign {destination}", because=because, hint="docker://REGISTRY/REPOSITORY:TAG")
    return destination.reference.tagged()._replace(digest="")
