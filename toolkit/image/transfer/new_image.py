"""A new image is written to any place: a layer of its own on the layers of another image, or on nothing.

The layers below are taken as they are from where they are, and only if the place does not have them.
"""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from toolkit.archive.entries import Entry
from toolkit.errors import Usage
from toolkit.events import Done, Emit, Finished, Progressed, Started
from toolkit.image import name
from toolkit.image.document import config_write, media_types
from toolkit.image.document.config_write import Step
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Destination, Source
from toolkit.image.name import Location
from toolkit.image.transfer import places, put
from toolkit.image.transfer.places import Access
from toolkit.text import counted

COMPRESSIONS = {"gzip": media_types.GZIP, "zstd": media_types.ZSTD, "none": media_types.PLAIN}
STAGE = "layer"


class NewImage(NamedTuple):
    """What is the same for every command that makes an image.

    `changes` are those of config_write.py, `compression` is one of COMPRESSIONS.
    """

    to: Location
    changes: tuple[str, ...] = ()
    author: str = ""
    message: str = ""
    compression: str = "gzip"


class Below(NamedTuple):
    """What it is made on: the layers of another image, which `source` has, and its configuration; by default nothing.

    `platform` None is that of the configuration.
    """

    config: bytes = b""
    layers: tuple[Descriptor, ...] = ()
    source: Source | None = None
    platform: Platform | None = None


class _Made(NamedTuple):
    digest: str
    members: int
    size_bytes: int


def check(new: NewImage, below: Below) -> None:
    """Raise Usage for what can't be, before anything is read."""
    if new.compression not in COMPRESSIONS:
        because = f"{new.compression!r} is not one of {', '.join(COMPRESSIONS)}"
        raise Usage("choose a compression (--compression)", because=because)
    if new.to.reference is not None and new.to.reference.digest:
        raise Usage(f"name an image {str(new.to.reference)!r}", because="its digest is not known before")
    config_write.written(below.config, below.platform, new.changes, Step("", ""))


def make(
    new: NewImage, below: Below, rootfd: int, entries: Iterator[Entry], command: str, what: str, emit: Emit
) -> str:
    """Write the image whose own layer has these members; without any it has no layer of its own. Its digest.

    `command` is what the image's history says, `what` is packed, for messages. Raises CtkError and OSError; then the
    place has no new image.
    """
    began = time.monotonic()
    doing = f"pack {what}"
    with places.destination(new.to, Access(emit=emit)) as into:
        emit(Started(STAGE))
        layer = put.layer(into, rootfd, _told(entries, emit), doing, COMPRESSIONS[new.compression])
        if below.source is not None:
            _lower(below.source, into, below.layers)
        step = Step(command, layer.diff_id if layer else "", new.author, new.message)
        config = config_write.written(below.config, below.platform, new.changes, step)
        layers = [*below.layers, *([layer.descriptor] if layer else ())]
        digest = put.documents(into, config, layers, [places.name_there(new.to)])
        members, size_bytes = (layer.members, layer.descriptor.size_bytes) if layer else (0, 0)
        emit(Finished(STAGE, time.monotonic() - began, counted(members, "file") if layer else "nothing has changed"))
    result = {"image": str(new.to), "digest": digest, "layer": layer.descriptor.digest if layer else ""}
    text = f"packed {what} as {str(new.to).removeprefix('store:')}: {digest}"
    emit(Done(text, time.monotonic() - began, result | {"bytes": size_bytes}, _next(new.to)))
    return digest


def _next(to: Location) -> tuple[str, ...]:
    if to.transport != name.STORE or to.reference is None:
        return ()
    return name.next_steps(to.reference)


def _told(entries: Iterator[Entry], emit: Emit) -> Iterator[Entry]:
    """The same, counted on the screen."""
    said = 0.0
    for done, entry in enumerate(entries):
        if done % 64 == 0 and time.monotonic() - said > 0.1:
            said = time.monotonic()
            emit(Progressed(STAGE, done, 0, "files"))
        yield entry


def _lower(source: Source, into: Destination, layers: Iterable[Descriptor]) -> None:
    for blob in layers:
        if not into.has(blob):
            with source.blob(blob) as pieces:
                into.put_blob(blob, pieces)
