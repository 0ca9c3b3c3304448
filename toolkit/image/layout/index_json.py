"""A layout's index.json: the images in it and their names (image-spec 1.1, image-layout.md). Pure.

A name is the annotation org.opencontainers.image.ref.name, as skopeo and umoci read and write it. docker and buildkit
put only the tag there and the whole reference into an annotation of containerd's, so both are looked at.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from toolkit.errors import CtkError, Invalid, NotFound, Usage
from toolkit.image import digest as digests
from toolkit.image import name as names
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import REF_NAME, Descriptor
from toolkit.image.endpoint import Raw
from toolkit.oci import json_text

FILE = "index.json"
MARKER = "oci-layout"
MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
CONTAINERD_NAME = "io.containerd.image.name"
_TAGS_SHOWN = 20


class Entry(NamedTuple):
    """An entry of index.json. `value` is the object itself, with unknown fields."""

    descriptor: Descriptor
    value: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name, "" for none."""
        return self.descriptor.name or self.descriptor.annotations.get(CONTAINERD_NAME, "")


def check_marker(data: bytes, document: str) -> None:
    """Check the content of the file oci-layout. Raises Invalid; NotFound for an unknown version."""
    whole = json_text.loads(data, document)
    version = whole.get("imageLayoutVersion") if isinstance(whole, dict) else None
    if not isinstance(version, str) or not version.startswith("1."):
        because = f"imageLayoutVersion is {version!r}; ctk knows 1.0.0"
        raise NotFound(f"read {document}", because=because, hint="a newer ctk may know it")


def read(data: bytes, document: str) -> list[Entry]:
    """The entries. Raises Invalid."""
    found = manifest.read(data, media_types.OCI_INDEX, document)
    assert isinstance(found, manifest.Index)
    values = json_text.loads(data, document)["manifests"]
    return [Entry(one, value) for one, value in zip(found.manifests, values, strict=True)]


def write(entries: Sequence[Entry], before: bytes = b"") -> bytes:
    """The bytes of an index.json with these entries, and the other fields of `before`, which `read` has accepted.

    Raises Invalid.
    """
    whole: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX}
    if before:
        whole |= json_text.loads(before, FILE)
    whole["manifests"] = [entry.value for entry in entries]
    return _dumped(whole)


def _dumped(whole: dict[str, Any]) -> bytes:
    try:
        return json_text.dumps(whole).encode()
    except (ValueError, RecursionError):  # 1e999 is read as infinity, which JSON can't represent
        raise Invalid("manifests", "a field in it can't be written again", document=FILE) from None


def entry_of(descriptor: Descriptor, name: str = "") -> Entry:
    """A new entry. A whole reference is also stored in the annotation that containerd and docker read."""
    return renamed(Entry(descriptor, descriptor.as_json()), name)


def renamed(entry: Entry, name: str) -> Entry:
    """The entry with another name ("" for none); all its other fields are kept."""
    found = entry.descriptor.annotations
    annotations = {key: text for key, text in found.items() if key not in (REF_NAME, CONTAINERD_NAME)}
    if name:
        annotations[REF_NAME] = name
        if reference := whole_reference(name):
            annotations[CONTAINERD_NAME] = str(reference)
    value = {key: value for key, value in entry.value.items() if key != "annotations"}
    if annotations:
        value["annotations"] = annotations
    return Entry(entry.descriptor._replace(annotations=annotations), value)


def added(entries: Sequence[Entry], new: Entry) -> list[Entry]:
    """`entries` with `new`, which replaces the entry with its name, or, without a name, the same manifest unnamed."""

    def replaced(entry: Entry) -> bool:
        if new.name:
            return entry.descriptor.name == new.descriptor.name
        return not entry.name and entry.descriptor.digest == new.descriptor.digest

    return [*(entry for entry in entries if not replaced(entry)), new]


def whole_reference(text: str) -> "names.Reference | None":
    """`text` as a reference, if it is more than a tag."""
    if ":" not in text and "/" not in text:
        return None
    try:
        return names.parse(text).tagged()
    except CtkError:
        return None


def choose(entries: Sequence[Entry], name: str, place: str) -> list[Entry]:
    """The entry for `name`: a tag, a reference, `@` and a digest, or "" for the only image.

    Several entries are one image for several platforms. Raises NotFound and Usage, which list the names.
    """
    fitting = [
        entry for entry in entries if entry.descriptor.media_type in (*media_types.MANIFESTS, *media_types.INDEXES)
    ]
    found = _named(fitting, name) if name else _images(fitting)
    different = list({entry.descriptor.digest: entry for entry in reversed(found)}.values())[::-1]
    if len(different) == 1:
        return different
    hint = _hint(fitting)
    if not different:
        because = f"no image in it is called {name!r}"
        if not fitting:
            others = sorted({entry.descriptor.media_type for entry in entries})
            because = "there is no image in it" + (f", but {', '.join(others[:3])}" if others else "")
        raise NotFound(f"read the image {place!r}", because=because, hint=hint)
    if all(entry.descriptor.platform for entry in different):
        return different
    raise Usage(f"read the image {place!r}", because="there are several", hint=hint)


def _images(entries: Sequence[Entry]) -> list[Entry]:
    """What an empty name can mean: all entries, but artifacts (signatures, bills of materials) only if alone."""
    return [entry for entry in entries if not entry.descriptor.artifact_type] or list(entries)


def _named(entries: Sequence[Entry], name: str) -> list[Entry]:
    digest = name.removeprefix("@")
    if digests.is_digest(digest):
        return [entry for entry in entries if entry.descriptor.digest == digest]
    if found := [entry for entry in entries if entry.descriptor.name == name]:
        return found
    try:
        wanted = names.parse(name).tagged()
    except CtkError:
        return []
    return [
        entry
        for entry in entries
        if wanted
        in (
            whole_reference(entry.descriptor.annotations.get(CONTAINERD_NAME, "")),
            whole_reference(entry.descriptor.name),
        )
    ]


def _hint(entries: Sequence[Entry]) -> str:
    tags = sorted({entry.name for entry in entries if entry.name})
    more = f" and {len(tags) - _TAGS_SHOWN} more" if len(tags) > _TAGS_SHOWN else ""
    if tags:
        return f"name one as PATH:TAG; its tags: {', '.join(tags[:_TAGS_SHOWN])}{more}"
    if len(entries) == 1:
        return "the only image in it has no name: leave the tag out"
    return f"they have no names: choose by digest, as PATH@{entries[0].descriptor.digest}" if entries else ""


def one_image(entries: Sequence[Entry]) -> Raw:
    """An index made of several entries, which are one image for several platforms."""
    values = [renamed(entry, "").value for entry in entries]
    whole = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": values}
    data = _dumped(whole)
    return Raw(data, media_types.OCI_INDEX, digests.of(data))
