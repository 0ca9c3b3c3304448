"""What earlier builds have made: `builds/KEY`, a small file that names the layer of a step of a Containerfile.

It keeps no layer alive: one that is in no image goes with `ctk image prune`, then its file goes, too, and the next
build carries the step out again.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from toolkit.errors import Invalid, NotFound
from toolkit.image import digest as digests
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.store.place import BUILDS, Place
from toolkit.kernel import atomic, reading
from toolkit.oci import json_text

_LIMIT_BYTES = 4096


class Layer(NamedTuple):
    """A layer whose blob is, or was, in the store."""

    descriptor: Descriptor
    diff_id: str


def read(place: Place, key: str) -> Layer | None:
    """The layer of a step, which may be gone; None if the step has changed nothing. Raises NotFound, CtkError."""
    path = place.path(BUILDS, key)
    try:
        data = reading.read(path, limit_bytes=_LIMIT_BYTES)
        os.utime(path)
        return _layer(json_text.loads(data, path))
    except (FileNotFoundError, Invalid, ValueError):
        raise NotFound(f"find the step {key}", because="no build has made it") from None
    except OSError as error:
        raise place.failed(error) from None


def write(place: Place, key: str, layer: Layer | None) -> None:
    """Note what a step has made; None if it has changed nothing. Raises CtkError."""
    about: dict[str, object] = {}
    if layer is not None:
        one = layer.descriptor
        about = {"mediaType": one.media_type, "digest": one.digest, "size": one.size_bytes, "diffID": layer.diff_id}
    place.prepare()
    try:
        atomic.replace(place.path(BUILDS, key), json_text.dumps(about).encode())
    except OSError as error:
        raise place.failed(error) from None


def dead(place: Place) -> Iterator[str]:
    """The paths of notes whose layer is gone, and of what is none. Raises OSError."""
    folder = place.path(BUILDS)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if name.startswith("."):
            if atomic.abandoned(path):
                yield path
            continue
        try:
            layer = _layer(json_text.loads(reading.read(path, limit_bytes=_LIMIT_BYTES), path))
        except FileNotFoundError:
            continue
        except (Invalid, ValueError):
            yield path
            continue
        if layer is not None and not os.path.lexists(place.blob(layer.descriptor.digest)):
            yield path


def _layer(found: object) -> Layer | None:
    """Raises ValueError."""
    if not isinstance(found, dict):
        raise ValueError
    if not found:
        return None
    kind, digest, size_bytes, diff_id = (found.get(one) for one in ("mediaType", "digest", "size", "diffID"))
    if not isinstance(kind, str) or not isinstance(digest, str) or not isinstance(size_bytes, int):
        raise ValueError
    if not isinstance(diff_id, str) or not digests.is_digest(digest) or not digests.is_digest(diff_id):
        raise ValueError
    return Layer(Descriptor(kind, digest, size_bytes), diff_id)
