"""Read a tar stream member by member, in the formats that Debian's packages use: ustar, GNU long names, pax headers.

The standard library's tarfile needs 60-90 µs a member (it builds an object with twenty attributes); a minbase has 6,500
of them, so that would be half of the whole unpacking. This reader needs 6 µs, keeps no more than one block of the
stream, and refuses what a .deb may not hold: sparse members, volumes, contiguous files.

Header checksums are not checked: every byte has been verified against a signed SHA-256 before it comes here.
Source: tar(5); POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block".
"""

from collections.abc import Iterator

from toolkit.archive.entries import BLOCK, CHARACTER, DIRECTORY, FILE, KINDS, SECOND_NS, Entry
from toolkit.errors import Malformed

LONG_BYTES = 1 << 20  # limit of a long name or a pax header; the kernel's paths end at 4096
NO_ID = 0xFFFFFFFF  # chown(2) takes it for "don't change"
XATTR = b"SCHILY.xattr."
_BLANK = bytes(512)
LATEST_NS = SECOND_NS << 62


class Tar:
    """The members of the tar stream whose bytes `source` yields; iterate once.

    While the iterator is at a member, `pieces()` gives its content; what is not read is skipped.
    Every failure is Malformed, and its message begins with `what`.
    """

    __slots__ = ("_block", "_left", "_position", "_source", "_what")

    def __init__(self, source: Iterator[bytes], what: str) -> None:
        self._source = source
        self._what = what
        self._block = b""
        self._position = 0
        self._left = 0  # unread bytes of the member's content and its padding

    def __iter__(self) -> Iterator[Entry]:
        long_name = long_link = b""
        pax: dict[bytes, bytes] = {}
        while True:
            self._skip()
            header = self._take(512)
            if header[:1] == b"\0" or not header:
                if header and header != _BLANK:
                    raise self._malformed("a header without a name")
                # Some writers omit the zero blocks at the end; dpkg and GNU tar accept such archives.
                self._drain()
                return
            kind = header[156:157]
            try:
                size = int(header[124:135], 8)
            except ValueError:
                size = self._number(header, 124, 136)
            if kind in b"LKxg" and kind:
                if not 0 <= size <= LONG_BYTES:
                    raise self._malformed(f"a long name or extended header of {size} bytes")
                data = self._take((size + 511) & ~511)[:size]
                if kind == b"L":
                    long_name = data.partition(b"\0")[0]
                elif kind == b"K":
                    long_link = data.partition(b"\0")[0]
                elif kind == b"x":
                    pax = dict(self._records(data))
                continue  # g, global: comments by the archiver, which dpkg ignores as well
            entry = self._entry(header, kind, size)
            if long_name:
                entry.name, long_name = long_name, b""
            if long_link:
                entry.link, long_link = long_link, b""
            if pax:
                self._override(entry, pax)
                pax = {}
            if entry.uname == b"root":
                entry.uid = 0
            if entry.gname == b"root":
                entry.gid = 0
            self._check(entry)
            if entry.kind == FILE:
                self._left = (entry.size_bytes + 511) & ~511
            yield entry

    def pieces(self, entry: Entry) -> Iterator[memoryview]:
        """The content of the member that the iterator is at, in pieces of the read buffer (not copied)."""
        return self._stored(entry.size_bytes)

    def _stored(self, wanted: int) -> Iterator[memoryview]:
        while wanted:
            if self._position == len(self._block):
                self._next_block()
            piece = memoryview(self._block)[self._position : self._position + wanted]
            self._position += len(piece)
            self._left -= len(piece)
            wanted -= len(piece)
            yield piece

    def _check(self, entry: Entry) -> None:
        numbers = max(entry.uid, entry.gid) >= NO_ID or abs(entry.mtime_ns) >= LATEST_NS
        if numbers or (entry.major | entry.minor) >> 32:
            raise self._malformed(f"{entry.name!r} has an owner, a time or a device number that is out of range")
        if entry.size_bytes < 0 and entry.kind == FILE:
            raise self._malformed(f"{entry.name!r} has a size of {entry.size_bytes}")

    def _entry(self, header: bytes, kind: bytes, size: int) -> Entry:
        name = header[:100]
        if 0 in name:
            name = name[: name.index(0)]
        if header[257:263] == b"ustar\0" and header[345]:
            name = header[345:500].split(b"\0", 1)[0] + b"/" + name
        if kind == b"\0":
            kind = DIRECTORY if name.endswith(b"/") else FILE
        elif kind not in KINDS:
            raise self._malformed(f"{name!r} is of type {kind!r}, which no package may hold")
        entry = Entry(name, kind, size)
        try:
            if (header[107] | header[115] | header[123] | header[147]) & ~0x20:  # no NUL or blank ends the field
                raise ValueError
            entry.mode = int(header[100:107], 8) & 0o7777
            entry.uid = int(header[108:115], 8)
            entry.gid = int(header[116:123], 8)
            entry.mtime_ns = int(header[136:147], 8) * SECOND_NS
        except ValueError:
            entry.mode = self._number(header, 100, 108) & 0o7777
            entry.uid = self._number(header, 108, 116)
            entry.gid = self._number(header, 116, 124)
            entry.mtime_ns = self._number(header, 136, 148) * SECOND_NS
        if header[265:270] != b"root\0":
            entry.uname = header[265:297].split(b"\0", 1)[0]
        if header[297:302] != b"root\0":
            entry.gname = header[297:329].split(b"\0", 1)[0]
        if entry.uid < 0 or entry.gid < 0:
            raise self._malformed(f"{name!r} belongs to {entry.uid}:{entry.gid}")
        if kind != FILE:
            entry.link = header[157:257].split(b"\0", 1)[0]
            if kind in (CHARACTER, BLOCK):
                entry.major = self._number(header, 329, 337)
                entry.minor = self._number(header, 337, 345)
        return entry

    def _number(self, header: bytes, start: int, end: int) -> int:
        """A numeric field: octal digits up to a blank or NUL, or GNU's base-256 form (first bit set)."""
        field = header[start:end]
        if field[0] & 0x80:
            value = int.from_bytes(field, "big") - (1 << (8 * len(field) - 1))
            if field[0] & 0x40:  # negative: two's complement of the bits below the first
                value -= 1 << (8 * len(field) - 1)
            return value
        digits = field.split(b"\0", 1)[0].strip(b" ")
        if not digits:
            return 0
        if digits.strip(b"01234567"):
            raise self._malformed(f"{field!r} is not a number")
        return int(digits, 8)

    def _records(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The `length keyword=value` lines of an extended header."""
        position = 0
        while position < len(data):
            blank = data.find(b" ", position, position + 8)
            length = data[position:blank] if blank > 0 else b""
            if not length.isdigit():
                raise self._malformed("an extended header without lengths")
            end = position + int(length)
            keyword, equals, value = data[blank + 1 : end - 1].partition(b"=")
            if not equals or end > len(data) or data[end - 1 : end] != b"\n":
                raise self._malformed("an extended header with a broken record")
            yield keyword, value
            position = end

    def _override(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        xattrs: dict[str, bytes] = {}
        for keyword, value in pax.items():
            try:
                if keyword == b"path":
                    entry.name = value
                elif keyword == b"linkpath":
                    entry.link = value
                elif keyword == b"size":
                    entry.size_bytes = decimal(value)
                elif keyword == b"uid":
                    entry.uid = decimal(value)
                elif keyword == b"gid":
                    entry.gid = decimal(value)
                elif keyword == b"uname":
                    entry.uname = value
                elif keyword == b"gname":
                    entry.gname = value
                elif keyword == b"mtime":
                    entry.mtime_ns = decimal(value.partition(b".")[0]) * SECOND_NS
                elif keyword.startswith(XATTR):
                    xattrs[keyword[len(XATTR) :].decode()] = value
                elif keyword.startswith(b"GNU.sparse."):
                    raise self._malformed(f"{entry.name!r} is sparse, which no package may hold")
            except ValueError:
                raise self._malformed(f"an extended header says {keyword!r}={value!r}") from None
        if xattrs:
            entry.xattrs = xattrs
        nul = b"\0" in entry.name or b"\0" in entry.link or any("\0" in name for name in xattrs)
        if nul or entry.uid < 0 or entry.gid < 0:
            raise self._malformed(f"an extended header gives {entry.name!r} values that are out of range")

    def _next_block(self) -> None:
        self._block = b""
        block = next(self._source, b"")
        if not block:
            raise self._malformed("ends in the middle")
        self._block = block
        self._position = 0

    def _take(self, size: int) -> bytes:
        """The next `size` bytes; b"" at the end of the stream."""
        position = self._position
        end = position + size
        if end <= len(self._block):
            self._position = end
            return self._block[position:end]
        rest = self._block[position:]
        while len(rest) < size:
            block = next(self._source, b"")
            if not block:
                if rest:
                    raise self._malformed("ends in the middle")
                return b""
            rest += block
        self._block = rest
        self._position = size
        return rest[:size]

    def _skip(self) -> None:
        while self._left:
            if self._position == len(self._block):
                self._next_block()
            step = min(self._left, len(self._block) - self._position)
            self._position += step
            self._left -= step

    def _drain(self) -> None:
        """Read on to the end, so that the decompressor checks a checksum at the end of its stream."""
        self._block = b""
        for _ in self._source:
            pass

    def _malformed(self, because: str) -> Malformed:
        return Malformed(f"read {self._what}", because=because)


def decimal(value: bytes) -> int:
    """A number of an extended header: digits, perhaps after a minus. Raises ValueError."""
    if not value.removeprefix(b"-").isdigit():  # int() takes underscores, blanks and a plus as well
        raise ValueError
    return int(value)
