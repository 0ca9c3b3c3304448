"""Tar files under any of the usual compressions: for what people name on a command line."""

import bz2
import contextlib
import gzip
import lzma
import tarfile
from collections.abc import Iterator
from typing import Any, cast

_PIECE_BYTES = 1 << 18


@contextlib.contextmanager
def tar_reader(path: str) -> Iterator[tarfile.TarFile]:
    """A tar file (plain, gz, bz2, xz, zst) as a stream of members, each to be read when it comes."""
    with _plain(path) as file, tarfile.open(fileobj=file, mode="r|") as members:
        yield members


@contextlib.contextmanager
def plain_pieces(path: str) -> Iterator[Iterator[bytes]]:
    """The bytes of the tar in a tar file, whatever it is compressed with, for tar_read_any."""
    with _plain(path) as file:
        yield iter(lambda: cast(bytes, file.read(_PIECE_BYTES)), b"")


@contextlib.contextmanager
def _plain(path: str) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "rb"))
        # tarfile itself would stop at the end of the first of several compressed pieces, as pigz(1), pixz(1), zstd(1)
        # and ctk write them.
        head = file.peek(6)
        if head.startswith(b"\x28\xb5\x2f\xfd"):  # RFC 8878
            import zstandard

            file = stack.enter_context(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
        for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
            if head.startswith(magic):
                file = stack.enter_context(cast(Any, opened)(file))
        yield file


@contextlib.contextmanager
def tar_writer(path: str) -> Iterator[tarfile.TarFile]:
    """A new tar file, compressed as its ending says; a pax archive."""
    ending = path.rpartition(".")[2]
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "wb"))
        mode = {"gz": "w|gz", "tgz": "w|gz", "bz2": "w|bz2", "xz": "w|xz"}.get(ending, "w|")
        if ending == "zst":
            import zstandard

            file = stack.enter_context(zstandard.ZstdCompressor().stream_writer(file))
        yield stack.enter_context(tarfile.open(fileobj=file, mode=cast(Any, mode), format=tarfile.PAX_FORMAT))
