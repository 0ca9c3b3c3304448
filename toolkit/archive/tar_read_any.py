"""Read any tar stream: what tar_read.py reads, and also what does not occur in packages.

That is global pax headers, sparse files in GNU's four formats, contiguous files, and types that this program doesn't
know, which are returned without their content. Header checksums are checked: nothing has verified these bytes before.

tarfile reads the same archives, at a third of the speed, and takes a damaged header for the end of the archive.
Source: POSIX.1-2017 pax; "Basic Tar Format" and "Storing Sparse Files" in the manual of GNU tar.
"""

from collections.abc import Iterable, Iterator

from toolkit.archive.entries import FILE, KINDS, SECOND_NS, Entry, Hole
from toolkit.archive.tar_read import LONG_BYTES, XATTR, Tar, decimal

_BLANK = bytes(512)
_EXTENDED = b"LKxXg"
_CONTIGUOUS, _SPARSE = b"7", b"S"
_MOST_PARTS = 1 << 17  # limit for a sparse file
_ZEROS = memoryview(bytes(1 << 18))

Parts = list[tuple[int, int]]  # (offset, size in bytes) of the data between a sparse file's holes


class AnyTar(Tar):
    """As `Tar`, but owners are the archive's numbers whatever names it has, and times have nanoseconds.

    Without `global_headers` an archive whose global headers say more than a comment is Malformed: POSIX applies them to
    every member, Go's reader, and with it most engines, to none.
    """

    __slots__ = ("_globals", "_parts")

    def __init__(self, source: Iterator[bytes], what: str, *, global_headers: bool = True) -> None:
        super().__init__(source, what)
        self._globals = global_headers
        self._parts: Parts | None = None

    def __iter__(self) -> Iterator[Entry]:
        names: dict[bytes, bytes] = {}
        always: dict[bytes, bytes] = {}
        here: list[tuple[bytes, bytes]] = []
        begun = False
        while True:
            self._skip()
            header = self._take(512)
            if not header and not begun:
                raise self._malformed("it is empty")
            if not header or header == _BLANK:
                if self._take(512).strip(b"\0"):  # GNU tar ends here with a warning, Go's reader fails
                    raise self._malformed("something follows a single block of zeros, and the end has two")
                self._drain()  # else the writer could fail with EPIPE
                return
            begun = True
            self._check_sum(header)
            kind = header[156:157]
            size = self._number(header, 124, 136)
            if kind in _EXTENDED and kind:
                data = self._extension(size)
                if kind in b"LK":
                    names[kind] = data.partition(b"\0")[0]
                elif kind == b"g":
                    always.update(self._global(data))
                else:
                    here = list(self._records(data))
                continue
            yield self._member(header, kind, size, names, always, here)
            names, here = {}, []

    def pieces(self, entry: Entry) -> Iterator[memoryview]:
        """As `Tar`; a sparse file's holes are returned as zeros."""
        for piece in self.content(entry):
            if not isinstance(piece, Hole):
                yield piece
                continue
            for left in range(piece.size_bytes, 0, -len(_ZEROS)):
                yield _ZEROS[:left]

    def content(self, entry: Entry) -> Iterator[memoryview | Hole]:
        """As `pieces`, but a sparse file's holes are returned as `Hole`."""
        return super().pieces(entry) if self._parts is None else self._with_holes(self._parts, entry.size_bytes)

    def _check_sum(self, header: bytes) -> None:
        """Check a header's checksum. Some writers add up signed bytes (tar(5))."""
        stated = self._number(header, 148, 156)
        others = (header[:148] + header[156:]).translate(None, b"\0")  # most of a header is NUL bytes
        unsigned = sum(others) + 8 * ord(" ")
        if stated != unsigned and stated != unsigned - 256 * sum(byte > 127 for byte in others):
            raise self._malformed("a header with a wrong checksum")

    def _global(self, data: bytes) -> dict[bytes, bytes]:
        found = dict(self._records(data))
        if not self._globals and found.keys() - {b"comment"}:
            raise self._malformed("a global header that is for all members; readers differ about it")
        return found

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= LONG_BYTES:
            raise self._malformed(f"a header of {size} bytes")
        data = self._take((size + 511) & ~511)[:size]
        if len(data) < size:
            raise self._malformed("ends in the middle")
        return data

    def _member(
        self,
        header: bytes,
        kind: bytes,
        size: int,
        names: dict[bytes, bytes],
        always: dict[bytes, bytes],
        here: list[tuple[bytes, bytes]],
    ) -> Entry:
        known = FILE if kind in (_CONTIGUOUS, _SPARSE) else kind if kind in KINDS or kind == b"\0" else FILE
        entry = self._entry(header, known, size)
        entry.name = names.get(b"L", entry.name)
        entry.link = names.get(b"K", entry.link)
        sparse: dict[bytes, bytes] = {}
        if always or here:
            pax = {**always, **dict(here)}
            sparse = {word: pax.pop(word) for word in list(pax) if word.startswith(b"GNU.sparse.")}
            # A keyword without a value means that the header's own value counts; an attribute may well be empty.
            self._override(entry, {word: value for word, value in pax.items() if value or word.startswith(XATTR)})
            if pax.get(b"mtime"):  # `_override` has checked that it is a number
                entry.mtime_ns = self._time_ns(pax[b"mtime"])
        self._check(entry)
        self._left = (entry.size_bytes + 511) & ~511 if entry.kind == FILE else 0
        self._parts = None
        if kind == _SPARSE:
            self._old_sparse(entry, header)
        elif sparse and entry.kind == FILE:
            self._pax_sparse(entry, sparse, here)
        elif known != kind and kind not in (_CONTIGUOUS, b"\0"):
            entry.kind = kind
        return entry

    def _time_ns(self, value: bytes) -> int:
        whole, _, fraction = value.partition(b".")
        if fraction and not fraction.isdigit():
            raise self._malformed(f"an extended header says b'mtime'={value!r}")
        part = int(fraction[:9].ljust(9, b"0"))
        return decimal(whole) * SECOND_NS + (-part if whole.startswith(b"-") else part)

    def _old_sparse(self, entry: Entry, header: bytes) -> None:
        """GNU's old format: four parts in the header, the others in blocks between it and the content."""
        fields, more, stored = header[386:482], header[482], self._left
        parts: Parts = []
        while True:
            for at in range(0, len(fields), 24):
                one = (self._number(fields, at, at + 12), self._number(fields, at + 12, at + 24))
                if any(one):
                    parts.append(one)
            if not more or len(parts) > _MOST_PARTS:
                break
            block = self._take(512)
            if len(block) < 512:
                raise self._malformed("ends in the middle")
            fields, more = block[:504], block[504]
        real = self._number(header, 483, 495)
        self._left = stored
        self._set_parts(entry, parts, entry.size_bytes, real)

    def _pax_sparse(self, entry: Entry, words: dict[bytes, bytes], records: Iterable[tuple[bytes, bytes]]) -> None:
        """GNU's pax formats: 0.0 (many records), 0.1 (one record), 1.0 (a map before the content)."""
        try:
            stored = entry.size_bytes
            if b"GNU.sparse.map" in words:
                numbers = [int(word) for word in words[b"GNU.sparse.map"].split(b",") if word]
            elif words.get(b"GNU.sparse.major") == b"1" and words.get(b"GNU.sparse.minor") == b"0":
                numbers, taken = self._map_before_content(stored)
                stored -= taken
            else:
                wanted = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
                numbers = [int(value) for word, value in records if word in wanted]
            real = int(words.get(b"GNU.sparse.realsize") or words.get(b"GNU.sparse.size") or b"-1")
        except ValueError:
            raise self._malformed(f"{entry.name!r} is sparse, and its map is broken") from None
        entry.name = words.get(b"GNU.sparse.name") or entry.name
        if b"\0" in entry.name:
            raise self._malformed(f"an extended header gives {entry.name!r} values that are out of range")
        self._set_parts(entry, list(zip(numbers[::2], numbers[1::2], strict=False)), stored, real)

    def _map_before_content(self, stored: int) -> tuple[list[int], int]:
        """The numbers of the map, and how many bytes of the content they took. Raises ValueError."""
        data, lines, count = bytearray(), 0, -1
        while count < 0 or lines <= 2 * count:
            if len(data) + 512 > stored:
                raise ValueError
            block = b"".join(self._stored(512))
            data += block
            lines += block.count(b"\n")
            if count < 0:
                count = int(data.partition(b"\n")[0])  # at most 20 digits, in the first block
                if not 0 <= count <= _MOST_PARTS:
                    raise ValueError
            if len(data) > 48 * (count + 11):
                raise ValueError
        return [int(word) for word in data.split(b"\n")[1 : 1 + 2 * count]], len(data)

    def _set_parts(self, entry: Entry, parts: Parts, stored: int, real: int) -> None:
        end = 0
        for offset, size in parts:
            if offset < end or size < 0:
                raise self._malformed(f"{entry.name!r} is sparse, and its parts overlap")
            end = offset + size
        if not end <= real < 1 << 63 or sum(size for _, size in parts) != stored or len(parts) > _MOST_PARTS:
            raise self._malformed(f"{entry.name!r} is sparse, and its map does not match its content")
        entry.size_bytes, self._parts = real, parts

    def _with_holes(self, parts: Parts, size: int) -> Iterator[memoryview | Hole]:
        end = 0
        for offset, length in (*parts, (size, 0)):
            if end < offset:
                yield Hole(offset - end)
            yield from self._stored(length)
            end = offset + length
