"""The tar of a layer of the store."""

import contextlib
from collections.abc import Iterator

from toolkit.archive.tar_read_any import AnyTar
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer import tars
from toolkit.image.store.store import Store


@contextlib.contextmanager
def opened(store: Store, blob: Descriptor, diff_id: str, doing: str) -> Iterator[AnyTar]:
    """As layer/tars.py opens it. The caller has a lease on its image. Raises NotFound, too."""
    with store.blobs.pieces(blob) as pieces, tars.opened(pieces, blob, diff_id, doing, hashed_when_opened) as tar:
        yield tar


def hashed_when_opened() -> None:
    """What checks a blob of the store (read.Layer): nothing, as Blobs.open has hashed it. Its diff id is looked at."""
