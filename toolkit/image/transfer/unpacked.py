"""What `ctk unpack` writes into a bundle about its image, so that `ctk pack` adds a layer to that image's.

umoci has a file for the same, umoci.json.
"""

import os
from typing import Any, NamedTuple

from toolkit.errors import CtkError, Malformed, reason
from toolkit.image import digest as digests
from toolkit.image import name
from toolkit.image.name import Location
from toolkit.kernel import reading
from toolkit.oci import json_text

FILE = "image.json"
SQUASH = "--squash makes one layer of the whole root"
"""The way out where the image is not to be had: a hint of `ctk pack`."""


class Unpacked(NamedTuple):
    """The image of a bundle. `devices`: its device nodes were unpacked. `plain_http`: hosts that are asked by http."""

    image: Location
    digest: str
    platform: str
    devices: bool
    plain_http: tuple[str, ...] = ()


def text(about: Unpacked) -> str:
    """The content of the file."""
    image = about.image
    if image.path:
        image = image._replace(path=os.path.abspath(image.path))
    return json_text.dumps(
        {
            "image": str(image),
            "digest": about.digest,
            "platform": about.platform,
            "devices": about.devices,
            "plainHTTP": list(about.plain_http),
        },
        "  ",
    )


def read(bundle: str) -> Unpacked | None:
    """What a bundle's file says; None if it has none. Raises CtkError."""
    path = os.path.join(bundle, FILE)
    try:
        return _understood(json_text.loads(reading.read(path), path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error), hint=SQUASH) from None
    except (KeyError, TypeError, CtkError):
        because = "it is not what ctk unpack writes"
        raise Malformed(f"read {path!r}", because=because, hint=f"remove it, or {SQUASH}") from None


def _understood(found: Any) -> Unpacked:
    texts = [found[key] for key in ("image", "digest", "platform")]
    hosts = found["plainHTTP"]
    if not all(isinstance(one, str) for one in [*texts, *hosts]) or not digests.is_digest(texts[1]):
        raise TypeError
    return Unpacked(name.locate(texts[0]), texts[1], texts[2], found["devices"] is True, tuple(hosts))
