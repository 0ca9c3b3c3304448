"""Signatures of ours: for the digests of an image, under the name that it has in a registry."""

from collections.abc import Sequence

from toolkit.errors import Usage
from toolkit.fetch import signed_message
from toolkit.image.name import Location, Reference
from toolkit.image.trust import claim, lookaside


def signed(destination: Location, digests: Sequence[str], key: str, passphrase: str = "") -> list[tuple[str, bytes]]:
    """A signature for each digest, as (digest, signature). Nothing is written yet, but there is a folder for it.

    `key` is signed_message.signer's. Raises Usage, and what that raises.
    """
    reference = _reference(destination)
    lookaside.check_writable(reference)
    sign = signed_message.signer(key, passphrase)
    return [(digest, sign(claim.write(digest, reference))) for digest in digests]


def keep(destination: Location, digest: str, signature: bytes) -> str:
    """Put a signature where registries.d says; its path. Raises Usage, CtkError."""
    return lookaside.write(_reference(destination), digest, signature)


def _reference(destination: Location) -> Reference:
    if destination.reference is None or not destination.reference.tagged().tag:
        because = "a signature is for a name with a tag in a registry"
        raise Usage(f"sign {destination}", because=because, hint="docker://REGISTRY/REPOSITORY:TAG")
    return destination.reference.tagged()._replace(digest="")
