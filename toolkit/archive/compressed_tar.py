"""Read tar files with any of the usual compressions, as users name them on the command line."""

import bz2
import contextlib
import lzma
from collections.abc import Iterator
from typing import IO, Any

from toolkit.archive.inflate import gunzip, unzstd
from toolkit.errors import Malformed

_PIECE_BYTES = 1 << 18


@contextlib.contextmanager
def plain_pieces(path: str | int, what: str) -> Iterator[Iterator[bytes]]:
    """The decompressed bytes of a tar file (plain, gz, bz2, xz, zst), for tar_read_any.

    A descriptor in place of its path is closed at the end.
    Iterating raises Malformed, whose message begins with `what`, and OSError.
    """
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "rb"))
        # Each of these goes on after the end of the first compressed stream: pigz(1), pixz(1), zstd(1) and ctk write
        # several.
        head = file.peek(6)
        if head.startswith(b"\x28\xb5\x2f\xfd"):  # RFC 8878
            yield unzstd(_pieces(file, what), f"read {what}")
        elif head.startswith(b"\x1f\x8b"):
            yield gunzip(_pieces(file, what), f"read {what}", padded=True)
        elif head.startswith(b"BZh"):
            yield _pieces(stack.enter_context(bz2.open(file)), what)
        elif head.startswith(b"\xfd7zXZ\0"):
            yield _pieces(stack.enter_context(lzma.open(file)), what)
        else:
            yield _pieces(file, what)


def _pieces(file: IO[bytes], what: str) -> Iterator[bytes]:
    try:
        while piece := file.read(_PIECE_BYTES):
            yield piece
    except (EOFError, lzma.LZMAError) as error:
        raise Malformed(f"read {what}", because=str(error).lower() or "broken data") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise Malformed(f"read {what}", because=str(error).lower()) from None  # bz2's of broken data
