"""Compressed streams, with all that may be wrong with their ends: toolkit.archive.inflate."""

import functools
import gzip
import io
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.archive import compressed_tar, inflate
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import Malformed

RANDOM = random.Random(1)
DATA = RANDOM.randbytes(600) + b"a" * 700_000 + RANDOM.randbytes(100)
SKIPPED = b"\x50\x2a\x4d\x18\5\0\0\0hello"


def squeezed(data: bytes, *, level: int = 3) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(data)


# The time in the header would give the tests other names in each of pytest-xdist's processes.
GZIP = gzip.compress(DATA, mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(DATA[:5000], mtime=0)
ZSTD = SKIPPED + squeezed(DATA) + SKIPPED + squeezed(b"") + squeezed(DATA[:5000]) + squeezed(b"") + SKIPPED
WHOLE = DATA + DATA[:5000]


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return iter([data[at : at + size] for at in range(0, len(data), size)])


@pytest.fixture(params=["isal", "zlib"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With isal and without it."""
    if request.param == "zlib":
        monkeypatch.setitem(__import__("sys").modules, "isal", None)
    name = type(inflate._gzip_decompressor()[0]()).__name__
    assert name == ("IgzipDecompressor" if request.param == "isal" else "_Zlib")
    return str(request.param)


SIZES = [1, 2, 3, 7, 4096, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_members_one_after_another(both: str, size: int) -> None:
    assert b"".join(inflate.gunzip(cut(GZIP, size), "it")) == WHOLE
    assert b"".join(inflate.gunzip(iter([b"", GZIP, b""]), "it")) == WHOLE
    assert list(inflate.gunzip(iter([]), "it")) == []


@pytest.mark.parametrize("size", SIZES)
def test_what_follows_a_member_is_refused(both: str, size: int) -> None:
    for tail in (b"x", b"\0", GZIP[:1], GZIP[:2], GZIP[:5], GZIP[:100], b"\x1f\x8c"):
        with pytest.raises(Malformed, match=r"^it: "):
            list(inflate.gunzip(cut(GZIP + tail, size), "it"))


@pytest.mark.parametrize("size", SIZES)
def test_zeros_after_a_member_where_they_may_be(both: str, size: int) -> None:
    padded = GZIP + bytes(700) + GZIP + bytes(20)
    assert b"".join(inflate.gunzip(cut(padded, size), "it", padded=True)) == WHOLE * 2
    with pytest.raises(Malformed, match="followed by something else"):
        list(inflate.gunzip(cut(padded + b"x", size), "it", padded=True))


@pytest.mark.parametrize("size", SIZES)
def test_a_member_that_is_cut_off_is_not_whole(both: str, size: int) -> None:
    for end in (-1, -4, -8, -9, -20, 50, 11, 3, 1):
        with pytest.raises(Malformed, match="ends in the middle"):
            list(inflate.gunzip(cut(GZIP[:end], size), "it"))


def test_damage_in_a_member(both: str) -> None:
    for at in (-1, -5, -300, 300):  # its length, its sum, its data; the data of the first
        broken = bytearray(GZIP)
        broken[at] ^= 0x55
        with pytest.raises(Malformed, match=r"^it: "):
            list(inflate.gunzip(cut(bytes(broken), 4096), "it"))


@pytest.mark.parametrize("size", SIZES)
def test_frames_one_after_another(size: int) -> None:
    assert b"".join(inflate.unzstd(cut(ZSTD, size), "it")) == WHOLE
    assert b"".join(inflate.unzstd(cut(SKIPPED, size), "it")) == b""


@pytest.mark.parametrize("size", SIZES)
def test_what_follows_a_frame_is_refused(size: int) -> None:
    for tail in (b"x", b"\0", bytes(9), ZSTD[:1], ZSTD[:3], ZSTD[:8], squeezed(DATA)[:-1], b"\x28\xb5"):
        with pytest.raises(Malformed, match=r"^it: "):
            list(inflate.unzstd(cut(ZSTD + tail, size), "it"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("data", [squeezed(DATA), squeezed(b""), SKIPPED], ids=["frame", "empty", "skipped"])
def test_a_frame_that_is_cut_off_is_not_whole(size: int, data: bytes) -> None:
    """zstandard's stream_reader takes it for whole: that is why the frames are followed."""
    for end in {0, 1, 3, 4, 5, 6, 7, len(data) // 2, len(data) - 5, len(data) - 4, len(data) - 1} - {len(data)}:
        with pytest.raises(Malformed, match="ends in the middle"):
            list(inflate.unzstd(cut(data[:end], size), "it"))


def test_a_window_beyond_all_reason() -> None:
    head = b"\x28\xb5\x2f\xfd" + bytes([0b0000_0100, (31 - 10) << 3])  # a window of 2 GiB (RFC 8878 3.1.1.1.2)
    with pytest.raises(Malformed, match="memory"):
        list(inflate.unzstd(iter([head + bytes(100)]), "it"))


BOMB_MIB = 64


@functools.cache
def bomb_of_gzip() -> bytes:
    machine = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(machine.compress(bytes(1 << 20)) for _ in range(BOMB_MIB)) + machine.flush()


@functools.cache
def bomb_of_zstd() -> bytes:
    machine = zstandard.ZstdCompressor(level=1).compressobj()
    return b"".join(machine.compress(bytes(1 << 20)) for _ in range(BOMB_MIB)) + machine.flush()


@pytest.mark.parametrize(("unpack", "bomb"), [(inflate.gunzip, bomb_of_gzip), (inflate.unzstd, bomb_of_zstd)])
def test_a_bomb_takes_no_memory(
    both: str, unpack: Callable[[Iterator[bytes], str], Iterator[bytes]], bomb: Callable[[], bytes]
) -> None:
    packed = bomb()
    assert len(packed) < 100_000
    tracemalloc.start()
    try:
        pieces = [len(piece) for piece in unpack(iter([packed]), "it")]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(pieces) == BOMB_MIB << 20 and max(pieces) <= inflate.PIECE_BYTES
    assert peak < 8 << 20


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200_000), max_size=4), st.integers(1, 9), st.integers(1, 5000), st.data())
def test_frames_of_all_forms(parts: list[bytes], level: int, size: int, data: st.DataObject) -> None:
    """With and without sums, sizes, dictionary ids of zero; each of their ends is found."""
    packed = b""
    for part in parts:
        flags = {name: data.draw(st.booleans()) for name in ("write_checksum", "write_content_size")}
        packed += zstandard.ZstdCompressor(level=level, **flags).compress(part)  # type: ignore[arg-type]
    if parts:
        assert b"".join(inflate.unzstd(cut(packed, size), "it")) == b"".join(parts)
        with pytest.raises(Malformed):
            list(inflate.unzstd(cut(packed[: data.draw(st.integers(len(packed) - 3, len(packed) - 1))], size), "it"))


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_tar_file_that_is_cut_off_in_its_end_marks(tmp_path: Path, ending: str) -> None:
    """All members are there, and nobody knows what else was: zstandard read such a file to its end without a word."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    packed = gzip.compress(out.getvalue()) if ending == "gz" else squeezed(out.getvalue()[:512]) + squeezed(bytes(1024))
    for size, whole in ((len(packed), True), (len(packed) - 1, False)):
        (tmp_path / "it").write_bytes(packed[:size])
        with compressed_tar.plain_pieces(str(tmp_path / "it"), "it") as pieces:
            if whole:
                assert [entry.name for entry in AnyTar(pieces, "it")] == [b"x"]
            else:
                with pytest.raises(Malformed, match="ends in the middle"):
                    list(AnyTar(pieces, "it"))
