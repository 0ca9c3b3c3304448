"""Read the files in a tar in place, by their exact names. Nothing is unpacked, so no name can lead out of the archive.

If the tar is compressed (`podman save | gzip`) or comes from a pipe, it is first written to an unnamed temporary file,
uncompressed.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator

from toolkit.archive import compressed_tar, tar_in_place
from toolkit.archive.entries import DIRECTORY, FILE, KINDS
from toolkit.errors import CtkError, Malformed, NotFound, Untrusted, reason
from toolkit.image.layout import index_json, manifest_json
from toolkit.kernel import atomic, reading

_PIECE_BYTES = 1 << 20
_FREE_BYTES = 64 << 20  # stay free where the temporary file is
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0")
_MARKS = (index_json.FILE, index_json.MARKER, manifest_json.FILE)
_KNOWN = {
    b"hsqs": "a squashfs image", b"PK\x03\x04": "a zip archive", b"\x7fELF": "a program", b"{": "a JSON text",
    b"[": "a JSON text", b"<": "a page of text", b"!<arch>": "an ar archive",
}  # fmt: skip


class TarFiles:
    """The files in the tar `path` (source.Files)."""

    def __init__(self, path: str) -> None:
        """Raises NotFound, Malformed, CtkError, OSError."""
        self.path = path
        self._what = f"the archive {path!r}"
        try:
            self._fd = reading.open_file(path, limit_bytes=1 << 63, handed=True)
        except OSError as error:
            hint = f"oci:{path} reads a layout in a folder" if error.errno == errno.EISDIR else ""
            raise NotFound(f"read {self._what}", because=reason(error), hint=hint) from None
        try:
            self._make_plain()
            self.places = tar_in_place.places(self._fd, self._what, _MARKS)
        except BaseException:
            os.close(self._fd)
            raise

    def _make_plain(self) -> None:
        """Replace the descriptor by one of an uncompressed regular file, if necessary."""
        regular = True
        try:
            head = os.pread(self._fd, 512, 0)
        except OSError as error:
            if error.errno != errno.ESPIPE:
                raise
            regular, head = False, b""
        if not regular or head.startswith(_COMPRESSED):
            with compressed_tar.plain_pieces(os.dup(self._fd), self._what) as pieces:
                spool = _spooled(pieces, self._what)
            os.close(self._fd)
            self._fd = spool
            head = os.pread(self._fd, 512, 0)
        if not head:
            raise Malformed(f"read {self._what}", because="it is empty")
        if not _is_tar(head):
            known = next((f", but {said}" for start, said in _KNOWN.items() if head.startswith(start)), "")
            raise Malformed(f"read {self._what}", because=f"it is not a tar{known}")

    def _file(self, name: str) -> tar_in_place.Place:
        found = self.places.get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if found.kind == DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if found.kind != FILE:
            raise OSError(errno.EINVAL, f"it is a {KINDS[found.kind]}", name)
        return found

    def read(self, name: str, limit_bytes: int) -> bytes:
        """As source.Files."""
        found = self._file(name)
        if found.size_bytes > limit_bytes:
            raise reading.too_large(name, limit_bytes)
        return b"".join(self._from(found.offset, found.size_bytes))

    @contextlib.contextmanager
    def pieces(self, name: str, size_bytes: int, start: int) -> Iterator[Iterator[bytes]]:
        """As source.Files."""
        found = self._file(name)
        if found.size_bytes != size_bytes:
            because = f"it has {found.size_bytes} bytes, and {size_bytes} were announced"
            raise Untrusted(f"read {name!r} of {self._what}", because=because)
        yield self._from(found.offset + start, found.size_bytes - start)

    def _from(self, offset: int, left: int) -> Iterator[bytes]:
        while left > 0:
            piece = os.pread(self._fd, min(_PIECE_BYTES, left), offset)
            if not piece:
                raise Malformed(f"read {self._what}", because="it ends in the middle")
            offset += len(piece)
            left -= len(piece)
            yield piece

    def close(self) -> None:
        """As source.Files."""
        os.close(self._fd)


def _is_tar(head: bytes) -> bool:
    """Whether `head` can be the first header of a tar, by its magic or (tars older than POSIX's) its checksum."""
    if head[257:262] == b"ustar" or head == bytes(512):
        return True
    digits = head[148:156].strip(b" \0")
    total = sum(head[:148]) + 8 * ord(" ") + sum(head[156:])
    return len(head) == 512 and not digits.strip(b"01234567") and digits != b"" and int(digits, 8) == total


def _spooled(pieces: Iterator[bytes], what: str) -> int:
    """A descriptor of an unnamed file with this content. Raises Malformed; CtkError if there is no room."""
    # /tmp may be in memory; large files belong in /var/tmp (file-hierarchy(7)).
    folder = os.environ.get("TMPDIR") or ("/var/tmp" if os.path.isdir("/var/tmp") else tempfile.gettempdir())
    doing = f"unpack {what} into {folder!r}"
    hint = "set TMPDIR to another folder, or decompress the file first"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            there = os.fstatvfs(file.fileno())
            left = there.f_bavail * there.f_frsize - _FREE_BYTES
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise CtkError(doing, because="there is not enough room for its content", hint=hint)
                atomic.write(file.fileno(), piece)
            return os.dup(file.fileno())
    except OSError as error:
        raise CtkError(doing, because=reason(error), hint=hint) from None
