"""The manifest.json of docker's archives: what `docker save` writes and `docker load` reads. Pure.

It is a list of images; each has a configuration, layers in their order, and names. The configuration and the layers are
names of members of the archive, which differ between versions of docker and podman.

Source: moby's image/spec v1.2, "Combined Image JSON + Filesystem Changeset Format"; image/tarexport in moby.
"""

from typing import Any, NamedTuple

from toolkit.errors import CtkError, Invalid, NotFound, Usage
from toolkit.image import name as names
from toolkit.image.document import fields
from toolkit.oci import json_text

FILE = "manifest.json"
_KNOWN = ("Config", "RepoTags", "Layers", "Parent", "LayerSources")
_MOST_IMAGES, _MOST_LAYERS = 1000, 1000
_TAGS_SHOWN = 20


class Image(NamedTuple):
    """An image of the archive: names of members, and names such as `debian:bookworm`."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...]


def read(data: bytes, document: str) -> list[Image]:
    """The images. Raises Invalid."""
    if len(data) > fields.LIMIT_BYTES:
        raise Invalid("", f"it has {len(data)} bytes, and {fields.LIMIT_BYTES} is the limit", document=document)
    listed = json_text.loads(data, document, once=True)
    if not isinstance(listed, list):
        raise Invalid("", "must be a list of images", document=document)
    if len(listed) > _MOST_IMAGES:
        raise Invalid("", f"has {len(listed)} images, and {_MOST_IMAGES} is the limit", document=document)
    images = []
    for at, value in enumerate(listed):
        part = fields.Fields(value, document, f"[{at}]", _KNOWN)
        found = Image(part.text("Config"), part.texts("Layers"), part.texts("RepoTags"))
        if not found.config:
            raise part.invalid("Config", "is missing")
        if len(found.layers) > _MOST_LAYERS:
            raise part.invalid("Layers", f"has {len(found.layers)} entries, and {_MOST_LAYERS} is the limit")
        images.append(found)
    return images


def write(images: list[Image]) -> bytes:
    """The bytes of a manifest.json, as docker 25 writes it."""
    listed: list[dict[str, Any]] = [
        {"Config": one.config, "RepoTags": list(one.names) or None, "Layers": list(one.layers)} for one in images
    ]
    return json_text.dumps(listed).encode()


def choose(images: list[Image], name: str, place: str) -> Image:
    """The image with this name, "" for the only one. Raises NotFound and Usage, which list the names."""
    found = images
    if name:
        wanted = _reference(name)
        found = [one for one in images if name in one.names or (wanted and wanted in map(_reference, one.names))]
    if len(found) == 1:
        return found[0]
    known = sorted({name for one in images for name in one.names})
    more = f" and {len(known) - _TAGS_SHOWN} more" if len(known) > _TAGS_SHOWN else ""
    hint = f"name one as PATH:NAME:TAG; its names: {', '.join(known[:_TAGS_SHOWN])}{more}" if known else ""
    if found:
        raise Usage(f"read the image {place!r}", because="there are several", hint=hint)
    because = f"no image in it is called {name!r}" if images else "there is no image in it"
    if len(images) == 1 and not known:
        hint = "the only image in it has no name: leave the name out"
    raise NotFound(f"read the image {place!r}", because=because, hint=hint)


def _reference(text: str) -> "names.Reference | None":
    try:
        return names.parse(text).tagged()
    except CtkError:
        return None
