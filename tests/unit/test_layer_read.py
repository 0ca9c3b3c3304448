"""A layer's blob as plain bytes: every sum and size that it is held to, by toolkit.image.layer.read."""

import gzip
import hashlib
from collections.abc import Iterator

import pytest
import zstandard

from toolkit.errors import CtkError, Malformed, Untrusted
from toolkit.image import digest
from toolkit.image.document import media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer.read import Layer

PLAIN = bytes(range(256)) * 5000
BLOBS = {
    media_types.OCI_LAYER: PLAIN,
    media_types.OCI_LAYER_GZIP: gzip.compress(PLAIN[:1000]) + gzip.compress(PLAIN[1000:]),
    media_types.OCI_LAYER_ZSTD: zstandard.compress(PLAIN[:1000]) + zstandard.compress(PLAIN[1000:]),
    media_types.DOCKER_LAYER: PLAIN,
    media_types.DOCKER_LAYER_GZIP: gzip.compress(PLAIN),
    media_types.DOCKER_LAYER_ZSTD: zstandard.compress(PLAIN),
}
every_type = pytest.mark.parametrize("media_type", list(BLOBS))


def read(
    media_type: str,
    blob: bytes,
    *,
    expected: bytes | None = None,
    size: int | None = None,
    diff_id: str = "",
    limit_bytes: int = 1 << 30,
) -> bytes:
    """What is read of `blob`, with a descriptor that is that of `expected`."""
    expected = blob if expected is None else expected
    descriptor = Descriptor(media_type, digest.of(expected), len(expected) if size is None else size)
    layer = Layer(pieces(blob), descriptor, diff_id or digest.of(PLAIN), "read it", limit_bytes)
    found = b""
    try:
        for piece in layer:
            assert not layer.verified
            found += piece
    except CtkError:
        assert not layer.verified
        raise
    assert layer.verified and layer.plain_bytes == len(found)
    return found


def pieces(blob: bytes) -> Iterator[bytes]:
    return iter([blob[at : at + 4000] for at in range(0, len(blob), 4000)])


@every_type
def test_it_is_what_was_packed(media_type: str) -> None:
    assert read(media_type, BLOBS[media_type]) == PLAIN


def test_sha512_is_a_digest_as_well() -> None:
    blob = BLOBS[media_types.OCI_LAYER_GZIP]
    long = "sha512:" + hashlib.sha512(blob).hexdigest()
    diff = "sha512:" + hashlib.sha512(PLAIN).hexdigest()
    for one in (digest.of(blob), long):
        for other in (digest.of(PLAIN), diff):
            descriptor = Descriptor(media_types.OCI_LAYER_GZIP, one, len(blob))
            assert b"".join(Layer(pieces(blob), descriptor, other, "read it")) == PLAIN
    descriptor = Descriptor(media_types.OCI_LAYER_GZIP, long[:-1] + ("1" if long.endswith("0") else "0"), len(blob))
    with pytest.raises(Untrusted, match="its digest is sha512:"):
        list(Layer(pieces(blob), descriptor, diff, "read it"))


@every_type
def test_another_blob_of_that_size(media_type: str) -> None:
    """Damage breaks the compression before the end is reached; what is said is that the blob is another."""
    blob = bytearray(BLOBS[media_type])
    blob[len(blob) // 2] ^= 1
    with pytest.raises(Untrusted, match=r"its digest is sha256:\w+, not sha256:"):
        read(media_type, bytes(blob), expected=BLOBS[media_type])


@every_type
def test_another_content(media_type: str) -> None:
    other = digest.of(b"other")
    with pytest.raises(Untrusted, match=f"has the diff id {digest.of(PLAIN)}, and .* {other}$"):
        read(media_type, BLOBS[media_type], diff_id=other)


@every_type
@pytest.mark.parametrize("by", [-1, 1, -100, 100])
def test_another_size(media_type: str, by: int) -> None:
    blob = BLOBS[media_type]
    with pytest.raises(Untrusted, match=f"{len(blob) + by}"):
        read(media_type, blob, size=len(blob) + by)


def test_no_byte_beyond_its_size_is_asked_for() -> None:
    def endless() -> Iterator[bytes]:
        yield PLAIN
        yield b"x"
        raise AssertionError("more was asked for")

    descriptor = Descriptor(media_types.OCI_LAYER, digest.of(PLAIN), len(PLAIN))
    with pytest.raises(Untrusted, match="longer than the 1280000 bytes"):
        list(Layer(endless(), descriptor, digest.of(PLAIN), "read it"))


@pytest.mark.parametrize("media_type", [media_types.OCI_LAYER_GZIP, media_types.OCI_LAYER_ZSTD])
@pytest.mark.parametrize("tail", [b"\0", b"tail of the blob"])
def test_bytes_after_the_compressed_ones(media_type: str, tail: bytes) -> None:
    with pytest.raises(Malformed, match=r"followed by something else|unknown frame"):
        read(media_type, BLOBS[media_type] + tail)


@pytest.mark.parametrize(
    ("media_type", "blob"),
    [
        (media_types.OCI_LAYER_GZIP, PLAIN),
        (media_types.OCI_LAYER_GZIP, BLOBS[media_types.OCI_LAYER_ZSTD]),
        (media_types.OCI_LAYER_ZSTD, PLAIN),
        (media_types.OCI_LAYER_ZSTD, BLOBS[media_types.OCI_LAYER_GZIP]),
    ],
)
def test_it_is_compressed_as_its_type_says(media_type: str, blob: bytes) -> None:
    with pytest.raises(Malformed):
        read(media_type, blob)


@pytest.mark.parametrize("media_type", ["application/x-tar+gzip", media_types.OCI_CONFIG, ""])
def test_a_type_that_is_no_layer_is_named(media_type: str) -> None:
    with pytest.raises(Malformed, match=f"'{media_type}' is not the type of a layer".replace("+", r"\+")):
        read(media_type, BLOBS[media_types.OCI_LAYER_GZIP])


@every_type
def test_it_grows_no_further_than_it_may(media_type: str) -> None:
    assert read(media_type, BLOBS[media_type], limit_bytes=len(PLAIN)) == PLAIN
    with pytest.raises(CtkError, match=f"beyond the {len(PLAIN) - 1} bytes"):
        read(media_type, BLOBS[media_type], limit_bytes=len(PLAIN) - 1)


@every_type
def test_a_blob_that_its_giver_hashes(media_type: str) -> None:
    """It is not hashed twice; who does it is asked at the end, also where the content is damaged."""
    blob = BLOBS[media_type]
    asked = []
    descriptor = Descriptor(media_type, digest.of(b"another"), len(blob))
    layer = Layer(pieces(blob), descriptor, digest.of(PLAIN), "read it", check_blob=lambda: asked.append(1))
    assert b"".join(layer) == PLAIN and layer.verified and asked == [1]

    def refuse() -> None:
        raise Untrusted("read it", because="it is another")

    for data in (blob, bytes(len(blob))):
        layer = Layer(pieces(data), descriptor, digest.of(PLAIN), "read it", check_blob=refuse)
        with pytest.raises(Untrusted, match="it is another"):
            list(layer)
        assert not layer.verified
