"""Names of the images in the store: the entries of index.json (image-spec 1.1, image-index.md and annotations.md).

The annotation org.opencontainers.image.ref.name holds the whole reference, and io.containerd.image.name the same, for
`ctr image import`. An entry without a name is an image that has lost it to another: `prune` takes it.

skopeo and umoci may have put further fields there, and names that are mere tags; both are kept.
"""

import os
import re
from collections.abc import Callable, Sequence

from toolkit.errors import CtkError, NotFound, Usage, reason
from toolkit.image import digest as digests
from toolkit.image.document import fields
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layout import index_json
from toolkit.image.layout.index_json import Entry
from toolkit.image.name import Reference, parse
from toolkit.image.store.place import Place
from toolkit.kernel import atomic, reading
from toolkit.text import quote

_SHORT = re.compile(r"[0-9a-f]{4,128}")


def whole(text: str) -> str:
    """The whole name that `text` stands for: `debian` is docker.io/library/debian:latest. Raises Usage.

    A digest decides, so a tag beside it is dropped, as docker does.
    """
    found = parse(text)
    return str(found._replace(tag="") if found.digest else found.tagged())


def read(place: Place) -> list[Entry]:
    """The entries of index.json; none if there is no store. Raises Invalid, CtkError."""
    data = _data(place)
    return index_json.read(data, place.path(index_json.FILE)) if data else []


def _data(place: Place) -> bytes:
    path = place.path(index_json.FILE)
    try:
        return reading.read(path, limit_bytes=fields.LIMIT_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None


def set_name(place: Place, name: str, image: Descriptor) -> None:
    """Let `name` (whole; "" for none) name this image. The caller holds `place.changing()`. Raises Invalid, CtkError.

    An image that had the name, and no other, stays without one.
    """
    before = read(place)
    if not name and any(one.descriptor.digest == image.digest for one in before):
        return
    named = {one.descriptor.digest for one in before if one.name not in ("", name)} | {image.digest}
    kept = []
    for one in before:
        digest = one.descriptor.digest
        if one.name == name:
            if digest not in named:
                kept.append(index_json.renamed(one, ""))
                named.add(digest)
        elif one.name or digest != image.digest:
            kept.append(one)
    write(place, [*kept, index_json.entry_of(image, name)])


def write(place: Place, entries: list[Entry]) -> None:
    """Replace the entries. The caller holds `place.changing()`. Raises CtkError."""
    data = index_json.write(entries, _data(place))
    if len(data) > fields.LIMIT_BYTES:
        because = f"{index_json.FILE} would be larger than {fields.LIMIT_BYTES} bytes"
        raise CtkError(f"write to the image store {place.folder!r}", because=because, hint="ctk image prune --all")
    try:
        atomic.replace(place.path(index_json.FILE), data)
    except OSError as error:
        raise place.failed(error) from None


def resolve(entries: Sequence[Entry], text: str, ids: Callable[[], dict[str, str]]) -> Entry:
    """The entry that `text` means: a name, a digest, or the first digits of a digest.

    `ids` gives further digests (of configurations: docker's image ids), and the digest of the entry that each stands
    for. Raises NotFound, and Usage for digits that several images begin with.
    """
    doing = f"find the image {text!r}"
    by_digest: dict[str, Entry] = {one.descriptor.digest: one for one in reversed(entries)}
    wanted = text if digests.is_digest(text) else f"sha256:{text}"
    if digests.is_digest(wanted):
        digest = wanted if wanted in by_digest else ids().get(wanted, "")
        if digest in by_digest:
            return by_digest[digest]
        raise NotFound(doing, because="no image of the store has this digest", hint="`ctk images` lists them")
    if (named := _by_name(entries, text)) is not None:
        return named
    if _SHORT.fullmatch(text):
        found = {one for one in by_digest if digests.split(one)[1].startswith(text)}
        found |= {of for one, of in ids().items() if digests.split(one)[1].startswith(text) and of in by_digest}
        if len(found) > 1:
            told = ", ".join(sorted(found))
            raise Usage(doing, because=f"several images begin with it: {told}", hint="type more of its digits")
        if found:
            return by_digest[found.pop()]
    near = _near(entries, text)
    bring = f"`ctk images` lists the store, `ctk pull {quote(text)}` brings it here"
    hint = f"there is {', '.join(near)}" if near else bring
    raise NotFound(doing, because="the store has no such image", hint=hint)


def is_name_of(one: Entry, text: str) -> bool:
    """Whether `text` is the name of this entry, and not its digest."""
    try:
        return bool(one.name) and one.name in (text, whole(text))
    except Usage:
        return False


def _by_name(entries: Sequence[Entry], text: str) -> Entry | None:
    for name in (whole(text), text):  # the second is a tag that another program has set
        for one in entries:
            if one.name == name:
                return one
    reference = parse(text)
    if reference.digest:
        for one in entries:
            if one.descriptor.digest == reference.digest and one.name and _reference(one.name).name == reference.name:
                return one
    return None


def _near(entries: Sequence[Entry], text: str) -> list[str]:
    """Names of the same repository, in short; also of one of another registry."""
    wanted = os.path.basename(parse(text).name)
    found = [_reference(one.name) for one in entries if one.name]
    return [one.familiar for one in found if os.path.basename(one.name) == wanted][:5]


def _reference(name: str) -> Reference:
    try:
        return parse(name)
    except Usage:  # another program's tag
        return Reference("", name)
