"""The tar of a layer, member by member, with nothing made of it."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from toolkit.archive.streams import ahead
from toolkit.archive.tar_read_any import AnyTar
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer.read import Layer


@contextlib.contextmanager
def opened(
    pieces: Iterable[bytes],
    blob: Descriptor,
    diff_id: str,
    doing: str,
    check_blob: Callable[[], None] | None = None,
) -> Iterator[AnyTar]:
    """The layer, to be read to its end: what was read counts only when the block is left without an exception.

    `pieces` and `check_blob` are read.Layer's, `doing` begins messages. Raises Untrusted, Malformed, CtkError.
    """
    plain = Layer(pieces, blob, diff_id, doing, check_blob=check_blob)
    with contextlib.closing(ahead(plain)) as stream:
        yield AnyTar(stream, f"the layer {blob.digest}", global_headers=False)
    if not plain.verified:
        raise AssertionError("the tar ended before its layer did")
