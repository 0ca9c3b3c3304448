"""Read tar files with any of the usual compressions, as users name them on the command line."""

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any

from toolkit.errors import Malformed

_PIECE_BYTES = 1 << 18


@contextlib.contextmanager
def plain_pieces(path: str | int, what: str) -> Iterator[Iterator[bytes]]:
    """The decompressed bytes of a tar file (plain, gz, bz2, xz, zst), for tar_read_any.

    A descriptor in place of its path is closed at the end.
    Iterating raises Malformed, whose message begins with `what`, and OSError.
    """
    broken: tuple[type[Exception], ...] = (EOFError,)
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "rb"))
        # Each of these goes on after the end of the first compressed stream: pigz(1), pixz(1), zstd(1) and ctk write
        # several.
        head = file.peek(6)
        if head.startswith(b"\x28\xb5\x2f\xfd"):  # RFC 8878
            import zstandard

            file = stack.enter_context(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
            broken = (zstandard.ZstdError,)
        elif head.startswith(b"\x1f\x8b"):
            file = stack.enter_context(gzip.open(file))
            broken = (EOFError, zlib.error)
        elif head.startswith(b"BZh"):
            file = stack.enter_context(bz2.open(file))
        elif head.startswith(b"\xfd7zXZ\0"):
            file = stack.enter_context(lzma.open(file))
            broken = (EOFError, lzma.LZMAError)
        yield _pieces(file, broken, what)


def _pieces(file: IO[bytes], broken: tuple[type[Exception], ...], what: str) -> Iterator[bytes]:
    try:
        while piece := file.read(_PIECE_BYTES):
            yield piece
    except broken as error:
        raise Malformed(f"read {what}", because=str(error).lower() or "broken data") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise Malformed(f"read {what}", because=str(error).lower()) from None  # gzip's and bz2's of broken data
