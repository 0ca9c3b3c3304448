"""A new image is written to any place: a layer of its own on the layers of another image, or on nothing.

The layers below are taken as they are from where they are, and only if the place does not have them.
"""

import errno
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

from toolkit.archive.entries import Entry
from toolkit.errors import CtkError, Usage, reason
from toolkit.events import Done, Emit, Finished, Progressed, Started
from toolkit.image import name
from toolkit.image.document import config_write, manifest, media_types
from toolkit.image.document.config_write import Step
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Destination, Raw, Source
from toolkit.image.layer import write
from toolkit.image.layer.write import Written
from toolkit.image.name import Location
from toolkit.image.store.store import StoreDestination
from toolkit.image.transfer import places
from toolkit.image.transfer.places import Access
from toolkit.text import counted, quote

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
        layer = _layer(into, rootfd, _told(entries, emit), doing, COMPRESSIONS[new.compression])
        if below.source is not None:
            _lower(below.source, into, below.layers)
        step = Step(command, layer.diff_id if layer else "", new.author, new.message)
        config = config_write.written(below.config, below.platform, new.changes, step)
        layers = [*map(_in_oci, below.layers), *([layer.descriptor] if layer else ())]
        digest = _documents(into, config, layers, places.name_there(new.to))
        members, size_bytes = (layer.members, layer.descriptor.size_bytes) if layer else (0, 0)
        emit(Finished(STAGE, time.monotonic() - began, counted(members, "file") if layer else "nothing has changed"))
    result = {"image": str(new.to), "digest": digest, "layer": layer.descriptor.digest if layer else ""}
    text = f"packed {what} as {str(new.to).removeprefix('store:')}: {digest}"
    emit(Done(text, time.monotonic() - began, result | {"bytes": size_bytes}, _next(new.to)))
    return digest


def _next(to: Location) -> tuple[str, ...]:
    if to.transport != name.STORE or to.reference is None:
        return ()
    called = to.reference.familiar
    return (f"ctk up {quote(called)} NAME", f"ctk push {quote(called)} REGISTRY/REPOSITORY")


def _told(entries: Iterator[Entry], emit: Emit) -> Iterator[Entry]:
    """The same, counted on the screen."""
    said = 0.0
    for done, entry in enumerate(entries):
        if done % 64 == 0 and time.monotonic() - said > 0.1:
            said = time.monotonic()
            emit(Progressed(STAGE, done, 0, "files"))
        yield entry


def _layer(into: Destination, rootfd: int, entries: Iterator[Entry], doing: str, codec: str) -> Written | None:
    first = next(entries, None)
    if first is None:
        return None
    with _file(into) as fd:
        try:
            made = write.write(rootfd, chain((first,), entries), fd, doing, codec)
        except OSError as error:
            raise CtkError(doing, because=reason(error)) from None
        if isinstance(into, StoreDestination):
            os.fsync(fd)
            into.adopt(made.descriptor, fd)
        elif not into.has(made.descriptor):
            into.put_blob(made.descriptor, _pieces(fd))
    return made


@contextmanager
def _file(into: Destination) -> Iterator[int]:
    """A file without a name; for the store in its own folder, so that it need not be copied."""
    if not isinstance(into, StoreDestination):
        with tempfile.TemporaryFile(buffering=0) as file:
            yield file.fileno()
        return
    try:
        # Not tempfile's: its O_EXCL means that the file never gets a name (open(2), O_TMPFILE).
        fd = os.open(into.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        with tempfile.TemporaryFile(dir=into.folder, buffering=0) as file:
            yield file.fileno()
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _pieces(fd: int) -> Iterator[bytes]:
    os.lseek(fd, 0, os.SEEK_SET)
    while piece := os.read(fd, 1 << 20):
        yield piece


def _lower(source: Source, into: Destination, layers: Iterable[Descriptor]) -> None:
    for blob in layers:
        if not into.has(blob):
            with source.blob(blob) as pieces:
                into.put_blob(blob, pieces)


def _in_oci(layer: Descriptor) -> Descriptor:
    """A layer of docker's as a manifest of OCI names it: the bytes are the same."""
    return layer._replace(media_type=media_types.IN_OCI.get(layer.media_type, layer.media_type))


def _documents(into: Destination, config: bytes, layers: list[Descriptor], called: str) -> str:
    """Put configuration and manifest; the digest of the manifest."""
    described = manifest.described(config, media_types.OCI_CONFIG)
    into.put_blob(described, iter([config]))
    data = manifest.write(described, layers)
    digest = manifest.described(data, media_types.OCI_MANIFEST).digest
    into.put_manifest(Raw(data, media_types.OCI_MANIFEST, digest), called)
    into.commit()
    return digest
