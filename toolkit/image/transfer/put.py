"""What a new image consists of is put into a destination: its own layer, and its two documents."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

from toolkit.archive.entries import Entry
from toolkit.errors import CtkError, reason
from toolkit.image import digest as digests
from toolkit.image.document import manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Destination, Raw
from toolkit.image.layer import write
from toolkit.image.layer.write import Written
from toolkit.image.store.store import StoreDestination
from toolkit.kernel import reading


def layer(
    into: Destination,
    rootfd: int,
    entries: Iterable[Entry],
    doing: str,
    codec: str = media_types.GZIP,
    content: Callable[[Entry], Iterable[bytes]] | None = None,
    folder: str | None = None,
) -> Written | None:
    """Put a layer with these members (layer/write.py); None if there are none.

    `folder` is where it may lie meanwhile; one for the store is written where it stays. Raises CtkError, which begins
    with `doing`, and what the destination raises.
    """
    each = iter(entries)
    first = next(each, None)
    if first is None:
        return None
    with _file(into, folder) as fd:
        try:
            made = write.write(rootfd, chain((first,), each), fd, doing, codec, content)
            if isinstance(into, StoreDestination):
                os.fsync(fd)
        except OSError as error:
            raise CtkError(doing, because=reason(error)) from None
        if isinstance(into, StoreDestination):
            into.adopt(made.descriptor, fd)
        elif not into.has(made.descriptor):
            os.lseek(fd, 0, os.SEEK_SET)
            into.put_blob(made.descriptor, reading.pieces(fd))
    return made


@contextmanager
def _file(into: Destination, folder: str | None) -> Iterator[int]:
    """A file without a name; for the store in its own folder, so that it becomes a blob without a copy."""
    if isinstance(into, StoreDestination):
        folder = into.folder
        try:
            # Not tempfile's: its O_EXCL means that the file never gets a name (open(2), O_TMPFILE).
            fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
        else:
            try:
                yield fd
            finally:
                os.close(fd)
            return
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        yield file.fileno()


def documents(into: Destination, config: bytes, layers: Sequence[Descriptor], names: Sequence[str]) -> str:
    """Put the configuration and a manifest of it and these layers, and commit. The digest of the manifest.

    `names` are what the image is called there; without any it has no name. Raises what the destination raises.
    """
    described = manifest.described(config, media_types.OCI_CONFIG)
    into.put_blob(described, iter([config]))
    data = manifest.write(described, [one.in_oci() for one in layers])
    raw = Raw(data, media_types.OCI_MANIFEST, digests.of(data))
    for name in names or ("",):
        into.put_manifest(raw, name)
    into.commit()
    return raw.digest
