"""Read a binary package (.deb) as a stream: an ar archive of debian-binary, control.tar and data.tar.

Nothing is ever read or unpacked as a whole: a .deb is read 64 KiB at a time, a member is returned in blocks, and the
decompressors let other threads run meanwhile (lzma, zlib, isal, bz2 and zstandard all release the GIL), so two packages
unpack on two cores. The decompressed size of a member is limited, because a 10 kB member can expand to gigabytes.

Source: deb(5); ar(5), the common format, as dpkg-deb reads it.
"""

import bz2
import lzma
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from toolkit.archive.entries import FILE
from toolkit.archive.inflate import gunzip, unzstd
from toolkit.archive.tar_read import Tar
from toolkit.errors import Malformed

CONTROL_LIMIT_BYTES = 64 << 20
DATA_LIMIT_BYTES = 16 << 30

_INPUT_BYTES = 64 << 10
_OUTPUT_BYTES = 256 << 10
_DICTIONARY_BYTES = 128 << 20  # xz -9 and zstd --ultra -22 need 65 and 128 MiB; Debian's packages 8
_MAGIC = b"!<arch>\n"


@dataclass(frozen=True, slots=True)
class ControlFile:
    """A member of control.tar: a maintainer script, md5sums, conffiles, …"""

    data: bytes
    mode: int
    mtime_s: int


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    start: int
    size: int


class Deb:
    """A package opened for reading. The caller keeps and closes `fd`; `what` names the package in errors.

    Raises Malformed (also from every method) for anything that deb(5) doesn't allow.
    """

    def __init__(self, fd: int, what: str) -> None:
        self.what = what
        self._fd = fd
        self._control, self._data = self._members()

    def control(self) -> dict[str, ControlFile]:
        """The files of control.tar by name, `control` itself among them."""
        files = {}
        tar = Tar(self._bytes(self._control, CONTROL_LIMIT_BYTES), f"{self.what}: {self._control.name}")
        for entry in tar:
            name = entry.name.removeprefix(b"./").decode("ascii", "replace")
            if entry.kind != FILE:
                continue
            if not name or "/" in name or name.startswith("."):
                raise Malformed(f"read {self.what}: {self._control.name}", because=f"it has a file named {name!r}")
            files[name] = ControlFile(b"".join(tar.pieces(entry)), entry.mode, entry.mtime_s)
        if "control" not in files:
            raise Malformed(f"read {self.what}: {self._control.name}", because="it has no file 'control'")
        return files

    @property
    def slow(self) -> bool:
        """Whether the compression of data.tar takes long to decompress."""
        return self._data.name.endswith((".xz", ".lzma", ".bz2"))

    def head(self) -> bytes:
        """Everything before data.tar, unchanged."""
        return os.pread(self._fd, self._data.start - 60, 0)

    def data(self, installed_size_kib: int = 0, copy: Callable[[bytes], object] | None = None) -> Tar:
        """data.tar; all of its blocks are passed to `copy` as well.

        If the package's Installed-Size is given, a stream that is more than four times as large is refused.
        """
        limit = DATA_LIMIT_BYTES
        if installed_size_kib:
            # Installed-Size is the packager's estimate: hard links, sparse files and the 512-byte headers of many small
            # files have made it too low by half in real packages.
            limit = min(limit, (installed_size_kib << 12) + (64 << 20))
        blocks = self._bytes(self._data, limit)
        return Tar(blocks if copy is None else _copied(blocks, copy), f"{self.what}: {self._data.name}")

    def _members(self) -> tuple[_Member, _Member]:
        total = os.fstat(self._fd).st_size
        if os.pread(self._fd, 8, 0) != _MAGIC:
            raise Malformed(f"read {self.what}", because="not a Debian package (not an ar archive)")
        members = []
        position = 8
        while position < total:
            header = os.pread(self._fd, 60, position)
            name, size = header[:16].rstrip(b" ").removesuffix(b"/"), header[48:58].rstrip(b" ")
            if len(header) < 60 or header[58:] != b"`\n":
                raise Malformed(f"read {self.what}", because=f"no ar member at byte {position}")
            if not size.isdigit() or position + 60 + int(size) > total:
                raise Malformed(f"read {self.what}", because=f"member {name!r} has the size {size!r}")
            members.append(_Member(name.decode("ascii", "replace"), position + 60, int(size)))
            position += 60 + int(size) + int(size) % 2
        # deb(5): members whose names begin with "_" may be anywhere after debian-binary and are ignored.
        known = members[:1] + [m for m in members[1:] if not m.name.startswith("_")]
        names = [member.name for member in known]
        if (
            len(names) != 3
            or names[0] != "debian-binary"
            or names[1][:11] != "control.tar"
            or names[2][:8] != "data.tar"
        ):
            raise Malformed(
                f"read {self.what}", because=f"members {names} are not debian-binary, control.tar, data.tar"
            )
        version = os.pread(self._fd, min(known[0].size, 64), known[0].start)
        if not version.startswith(b"2."):
            raise Malformed(f"read {self.what}", because=f"unknown format {version!r}")
        return known[1], known[2]

    def _bytes(self, member: _Member, limit_bytes: int) -> Iterator[bytes]:
        """The member's tar stream, decompressed, in blocks."""
        what = f"{self.what}: {member.name}"
        suffix = member.name.partition(".tar")[2]
        stream = _STREAMS.get(suffix)
        if stream is None:
            raise Malformed(f"read {what}", because=f"unknown compression {suffix!r}")
        total = 0
        try:
            for block in stream(_Reader(self._fd, member.start, member.size), f"read {what}"):
                total += len(block)
                if total > limit_bytes:
                    raise Malformed(
                        f"read {what}",
                        because=f"it grows beyond {limit_bytes >> 20} MiB, far more than the package states",
                    )
                yield block
        except (lzma.LZMAError, EOFError, OSError) as error:
            # bz2 reports broken data by an OSError without an errno; one with an errno is a real I/O error.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise Malformed(f"read {what}", because=str(error).lower() or "broken data") from None


def _copied(blocks: Iterator[bytes], copy: Callable[[bytes], object]) -> Iterator[bytes]:
    for block in blocks:
        copy(block)
        yield block


class _Reader:
    """A part of a file as a reader; it never moves the descriptor's own offset, which threads share."""

    __slots__ = ("_end", "_fd", "_position")

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd = fd
        self._position = start
        self._end = start + size

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._position
        data = os.pread(self._fd, left if size < 0 else min(size, left), self._position)
        if not data and left:
            raise EOFError("the file became shorter")
        self._position += len(data)
        return data


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _plain(reader: _Reader, _what: str) -> Iterator[bytes]:
    while block := reader.read(_OUTPUT_BYTES):
        yield block


def _blocks(reader: _Reader, new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """The decompressed blocks of `reader`, stream after stream, by a decompressor with lzma's interface."""
    machine = new()
    data = reader.read(_INPUT_BYTES)
    while True:
        block = machine.decompress(data, _OUTPUT_BYTES)
        if block:
            yield block
        data = b""
        if machine.eof:
            data = (machine.unused_data or reader.read(_INPUT_BYTES)).lstrip(b"\0")
            if not data:
                return
            machine = new()
        elif machine.needs_input:
            data = reader.read(_INPUT_BYTES)
            if not data:
                raise EOFError("the compressed data ends in the middle")


def _xz(reader: _Reader, _what: str) -> Iterator[bytes]:
    return _blocks(reader, lambda: lzma.LZMADecompressor(lzma.FORMAT_AUTO, _DICTIONARY_BYTES))


def _bzip2(reader: _Reader, _what: str) -> Iterator[bytes]:
    return _blocks(reader, bz2.BZ2Decompressor)


def _gzip(reader: _Reader, what: str) -> Iterator[bytes]:
    return gunzip(_input(reader), what, padded=True)


def _zstd(reader: _Reader, what: str) -> Iterator[bytes]:
    return unzstd(_input(reader), what)


def _input(reader: _Reader) -> Iterator[bytes]:
    while data := reader.read(_INPUT_BYTES):
        yield data


_STREAMS: dict[str, Callable[[_Reader, str], Iterator[bytes]]] = {
    "": _plain,
    ".xz": _xz,
    ".lzma": _xz,
    ".gz": _gzip,
    ".bz2": _bzip2,
    ".zst": _zstd,
}
