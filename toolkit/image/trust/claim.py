"""What a container signature says: that the image of this digest is what this name stands for.

The format is containers-signature(5)'s; cosign's has another type in it. Anything that is not known in its critical
part makes it void, because a later version of the format may mean something by it.
"""

import json
import time
from typing import NamedTuple

from toolkit import __version__
from toolkit.image import digest as digests
from toolkit.image import name as names
from toolkit.image.document.fields import Fields
from toolkit.image.trust import strict

_TYPE = "atomic container signature"


class Claim(NamedTuple):
    """A signed statement. `reference` is a name as the signer wrote it."""

    digest: str
    reference: str


def read(data: bytes, document: str, kind: str = _TYPE) -> Claim:
    """The claim of a text of this type whose signature was verified. Raises Invalid, which names it as `document`."""
    whole = strict.read(data, document, ("critical", "optional"))
    critical = _object(whole, "critical", ("type", "image", "identity"))
    if "optional" not in whole or whole.value["optional"] is not None:  # cosign writes null for nothing
        _object(whole, "optional", None)
    if critical.text("type") != kind:
        raise critical.invalid("type", f"must be {kind!r}")
    image = _object(critical, "image", ("docker-manifest-digest",))
    identity = _object(critical, "identity", ("docker-reference",))
    digest = digests.check(image.text("docker-manifest-digest"), document, "critical.image.docker-manifest-digest")
    reference = identity.text("docker-reference")
    if not reference:
        raise identity.invalid("docker-reference", "is missing")
    return Claim(digest, reference)


def _object(parent: Fields, name: str, known: tuple[str, ...] | None) -> Fields:
    found = parent.object(name, known or ())
    if found is None:
        raise parent.invalid(name, "is missing")
    if known is not None:
        strict.only(found, known)
    return found


def write(digest: str, reference: names.Reference, kind: str = _TYPE) -> bytes:
    """The text of this type to be signed for an image of this digest and name (with a tag)."""
    critical = {
        "identity": {"docker-reference": str(reference._replace(digest=""))},
        "image": {"docker-manifest-digest": digest},
        "type": kind,
    }
    optional = {"creator": "ctk " + __version__, "timestamp": int(time.time())}
    return json.dumps({"critical": critical, "optional": optional}).encode()
