"""The tar of a layer of the store, member by member, with nothing made of it."""

import contextlib
from collections.abc import Iterator

from toolkit.archive.streams import ahead
from toolkit.archive.tar_read_any import AnyTar
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer.read import Layer
from toolkit.image.store.store import Store


@contextlib.contextmanager
def opened(store: Store, blob: Descriptor, diff_id: str, doing: str) -> Iterator[AnyTar]:
    """The layer, to be read to its end: what was read counts only when the block is left without an exception.

    The caller has a lease on its image. `doing` begins messages. Raises NotFound, Untrusted, Malformed, CtkError.
    """
    with store.blobs.pieces(blob) as pieces:
        plain = Layer(pieces, blob, diff_id, doing, check_blob=_hashed_when_opened)
        with contextlib.closing(ahead(plain)) as stream:
            yield AnyTar(stream, f"the layer {blob.digest}", global_headers=False)
        if not plain.verified:
            raise AssertionError("the tar ended before its layer did")


def _hashed_when_opened() -> None:
    """Blobs.open has hashed what it opens; the diff id is looked at all the same."""
