"""Decompress gzip and zstd streams piece by piece, up to a complete end.

A truncated stream and bytes after the stream are errors. Both decompressors release the GIL. The output comes in pieces
of at most `PIECE_BYTES`, so a decompression bomb costs time but no memory.

Source: RFC 1952 (gzip), RFC 8878 (zstd).
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from toolkit.errors import Malformed

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionReader

PIECE_BYTES = 512 << 10
WINDOW_BYTES = 128 << 20  # of zstd: as `zstd --ultra -22` and `--long=27` need, and zstd's own default limit

_INPUT_BYTES = 256 << 10
_CUT_OFF = "the compressed data ends in the middle"


def gunzip(pieces: Iterable[bytes], what: str, *, padded: bool = False) -> Iterator[bytes]:
    """The content of one or more gzip members. Raises Malformed, whose message begins with `what`.

    `padded`: NUL bytes may follow a member. Otherwise only another member may.
    """
    new, errors = _gzip_decompressor()
    machine: _Machine | None = None
    for data in pieces:
        while data:
            if machine is None:
                data = data.lstrip(b"\0") if padded else data
                if not data:
                    break
                if data[0] != 0x1F:
                    raise Malformed(what, because="the compressed data is followed by something else")
                machine = new()
            try:
                block = machine.decompress(data, PIECE_BYTES)
                while block:
                    yield block
                    block = b"" if machine.eof or machine.needs_input else machine.decompress(b"", PIECE_BYTES)
            except errors as error:
                raise Malformed(what, because=str(error).lower() or "broken data") from None
            data = b""
            if machine.eof:
                data, machine = machine.unused_data, None
    if machine is not None:
        raise Malformed(what, because=_CUT_OFF)


class _Machine(Protocol):
    """A decompressor with lzma's interface: it keeps input that it has not consumed yet."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Zlib:
    """zlib with that interface."""

    def __init__(self) -> None:
        self._machine = zlib.decompressobj(31)
        self.unused_data = b""

    @property
    def eof(self) -> bool:
        return self._machine.eof

    @property
    def needs_input(self) -> bool:
        return not self._machine.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        block = self._machine.decompress(self._machine.unconsumed_tail + data, max_length)
        self.unused_data = self._machine.unused_data
        return block


def _gzip_decompressor() -> tuple[Callable[[], _Machine], tuple[type[Exception], ...]]:
    """The fastest installed decompressor, and the errors that it raises for broken data."""
    try:
        from isal import igzip_lib
    except ImportError:
        return _Zlib, (zlib.error,)
    broken: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # the stub declares an instance
    return lambda: igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP), (broken, EOFError)


def unzstd(pieces: Iterable[bytes], what: str) -> Iterator[bytes]:
    """The content of one or more zstd frames; skippable frames are skipped. Raises Malformed, as `gunzip`."""
    import zstandard

    reader = _Reader(pieces, what)
    machine = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    stream: ZstdDecompressionReader
    with machine.stream_reader(reader, read_size=_INPUT_BYTES, read_across_frames=True) as stream:  # type: ignore[arg-type]
        while True:
            try:
                block = stream.read(PIECE_BYTES)
            except zstandard.ZstdError as error:
                raise Malformed(what, because=str(error).lower()) from None
            if not block:
                break
            yield block
    reader.finish()


class _Reader:
    """The pieces as a file. It follows the frames, because zstandard takes a truncated one for a complete one."""

    def __init__(self, pieces: Iterable[bytes], what: str) -> None:
        self._pieces = iter(pieces)
        self._what = what
        self._frames = _Frames()

    def read(self, size: int = -1) -> bytes:
        for piece in self._pieces:
            if piece:
                if not self._frames.follow(piece):
                    raise Malformed(self._what, because="the compressed data is followed by something else")
                return piece
        return b""

    def finish(self) -> None:
        """Raises Malformed unless the last frame is complete."""
        while self.read():  # zstandard stops after a frame without content
            pass
        if not self._frames.whole:
            raise Malformed(self._what, because=_CUT_OFF)


_MAGIC, _SKIP, _DESCRIPTOR, _BLOCK = range(4)


class _Frames:
    """A position in a sequence of frames. Only the headers of frames and blocks are parsed (RFC 8878 3.1)."""

    def __init__(self) -> None:
        self._next = _MAGIC  # what follows the next `_pass` bytes
        self._pass = 0
        self._head = b""
        self._checksum = 0
        self._begun = False

    @property
    def whole(self) -> bool:
        """Whether a frame ends here."""
        return self._begun and self._next == _MAGIC and not self._pass and not self._head

    def follow(self, piece: bytes) -> bool:
        """Advance by these bytes. False if something other than a frame follows a frame."""
        at = 0
        while at < len(piece):
            if self._pass:
                step = min(self._pass, len(piece) - at)
                self._pass -= step
                at += step
                continue
            needed = (4, 4, 1, 3)[self._next] - len(self._head)
            self._head += piece[at : at + needed]
            if at + needed > len(piece):
                return True
            at += needed
            head, self._head = self._head, b""
            if not self._step(head):
                return False
        return True

    def _step(self, head: bytes) -> bool:
        number = int.from_bytes(head, "little")
        if self._next == _MAGIC:
            if number != 0xFD2FB528 and number & ~15 != 0x184D2A50:
                return False
            self._next = _DESCRIPTOR if number == 0xFD2FB528 else _SKIP
            self._begun = True
        elif self._next == _SKIP:
            self._pass, self._next = number, _MAGIC
        elif self._next == _DESCRIPTOR:
            single = number >> 5 & 1
            self._pass = (not single) + (0, 1, 2, 4)[number & 3] + (single, 2, 4, 8)[number >> 6]
            self._checksum = 4 * (number >> 2 & 1)
            self._next = _BLOCK
        else:
            self._pass = 1 if number >> 1 & 3 == 1 else number >> 3
            if number & 1:
                self._pass += self._checksum
                self._next = _MAGIC
        return True
