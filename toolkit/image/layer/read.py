"""The blob of a layer becomes the plain bytes of its tar, and is verified on the way.

Blob and tar are each under a hash of their own: the descriptor's digest names the compressed bytes, the diff id of the
image's configuration the plain ones (image-spec 1.1, config.md, "Layer DiffID"). Who compressed it may have been
somebody else, so neither stands for the other.
"""

from collections.abc import Callable, Iterable, Iterator

from toolkit.archive.inflate import gunzip, unzstd
from toolkit.errors import CtkError, Malformed, Untrusted, reason_and_path
from toolkit.image import digest as digests
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.media_types import CODECS, GZIP, PLAIN, ZSTD

LIMIT_BYTES = 256 << 30  # of a layer's tar: ten times the largest that people publish
"""The default for how long the tar of a layer may be."""

_CODECS = {GZIP: gunzip, ZSTD: unzstd}


class Layer:
    """The tar of one layer: iterate once, to the end. `doing` begins each message.

    `check_blob` is for `pieces` that are hashed where they come from, so that they are not hashed twice: it is called
    at their end, and raises Untrusted if they are not the blob.

    Nothing that was made of it counts before `verified` is true, which it is from the end of the iteration on. Raises
    Untrusted (another size, digest or diff id), Malformed (not compressed as its media type says), CtkError (longer
    than `limit_bytes`, or `pieces` raises an OSError), and what else `pieces` raises.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        descriptor: Descriptor,
        diff_id: str,
        doing: str,
        limit_bytes: int = LIMIT_BYTES,
        check_blob: Callable[[], None] | None = None,
    ) -> None:
        codec = CODECS.get(descriptor.media_type)
        if codec is None:
            raise Malformed(doing, because=f"{descriptor.media_type!r} is not the type of a layer that is known here")
        self.verified = False
        self.plain_bytes = 0
        self._codec = codec
        self._pieces = pieces
        self._descriptor = descriptor
        self._diff_id = diff_id
        self._doing = doing
        self._limit_bytes = limit_bytes
        self._check_blob = check_blob

    def __iter__(self) -> Iterator[bytes]:
        packed = self._packed()
        if self._codec == PLAIN and self._diff_id == self._descriptor.digest:
            for piece in packed:  # one hash is both
                self._count(piece)
                yield piece
        else:
            yield from self._unpacked(packed)
        self.verified = True

    def _unpacked(self, packed: Iterator[bytes]) -> Iterator[bytes]:
        found = digests.hasher(self._diff_id)
        try:
            for piece in packed if self._codec == PLAIN else _CODECS[self._codec](packed, self._doing):
                self._count(piece)
                found.update(piece)
                yield piece
        except Malformed:
            # Damage on the way here is likelier than an image that was made so. The rest of the blob tells.
            for _ in packed:
                pass
            raise
        if digests.text_of(self._diff_id, found) != self._diff_id:
            because = f"its content has the diff id {digests.text_of(self._diff_id, found)}"
            raise Untrusted(self._doing, because=f"{because}, and the image's configuration says {self._diff_id}")

    def _packed(self) -> Iterator[bytes]:
        """The blob's bytes, of which there are as many as the descriptor says, with the digest that it says."""
        digest, size = self._descriptor.digest, self._descriptor.size_bytes
        found = digests.hasher(digest) if self._check_blob is None else None
        length = 0
        for piece in self._read():
            length += len(piece)
            if length > size:
                raise Untrusted(self._doing, because=f"its blob is longer than the {size} bytes that its manifest says")
            if found is not None:
                found.update(piece)
            yield piece
        if length < size:
            raise Untrusted(self._doing, because=f"its blob ends after {length} of {size} bytes")
        if self._check_blob is not None:
            self._check_blob()
        if found is not None and digests.text_of(digest, found) != digest:
            raise Untrusted(self._doing, because=f"its digest is {digests.text_of(digest, found)}, not {digest}")

    def _read(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except OSError as error:  # not to be taken for one of the file that is being made
            raise CtkError(self._doing, because=f"read its blob: {reason_and_path(error)}") from error

    def _count(self, piece: bytes) -> None:
        self.plain_bytes += len(piece)
        if self.plain_bytes > self._limit_bytes:
            raise CtkError(self._doing, because=f"it grows beyond the {self._limit_bytes} bytes that a layer may have")
