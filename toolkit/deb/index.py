"""Packages indexes: find the paragraphs of a few packages among sixty thousand without parsing the others.

A scan notes only where each paragraph begins (name → offset): 50 MB take about a tenth of a second. Only the paragraphs
asked for are parsed. The data may be a `bytes` or an `mmap`. The result of a scan can be kept (`table`) and given to
the next Index of the same data, which takes a hundredth. The table is not trusted: an offset counts only if a paragraph
of that name begins there.

A repository may list several versions of a package. `get` returns the last, as debootstrap does, `versions` all.
"""

import mmap
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator

from toolkit.deb.control import parse
from toolkit.errors import Malformed

Buffer = bytes | mmap.mmap

_BLOCK_BYTES = 1 << 20
# The relations of a paragraph in the order of apt's parser (deblistparser.cc, NewVersion).
_READ_BY_APT = (
    b"Pre-Depends",
    b"Depends",
    b"Conflicts",
    b"Breaks",
    b"Recommends",
    b"Suggests",
    b"Replaces",
    b"Enhances",
    b"Provides",
)


class Index:
    """The packages of one component. Names are `str` in the interface, bytes inside (less to decode)."""

    __slots__ = ("_data", "_earlier", "_offsets", "_parsed", "_provides", "what")

    def __init__(self, data: Buffer, *, what: str = "Packages index", table: bytes | None = None) -> None:
        self.what = what
        if data[max(0, data.find(b"\n") - 1) : data.find(b"\n")] == b"\r":
            data = bytes(data[:]).replace(b"\r\n", b"\n")  # an index made on Windows, which apt reads
        self._data = data
        self._offsets, self._earlier = (_read_table(table) if table else None) or _scan(data, what)
        self._parsed: dict[str, dict[str, str]] = {}
        self._provides: tuple[bytes, list[int], list[int]] | None = None

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def table(self) -> bytes:
        """The result of the scan, for a later Index of the same data."""
        # Earlier paragraphs first, so that a dict made from it has the last one of each name.
        names = [name for name, starts in self._earlier.items() for _ in starts] + list(self._offsets)
        starts = [start for starts in self._earlier.values() for start in starts] + list(self._offsets.values())
        return b"\n".join(names) + b"\n\n" + array("Q", starts).tobytes()

    def names(self) -> Iterator[str]:
        """Every package name, in the order of the index."""
        return (name.decode() for name in self._offsets)

    def get(self, name: str) -> dict[str, str] | None:
        """The fields of package `name`, or None. Of several versions the last counts, as in debootstrap."""
        fields = self._parsed.get(name)
        if fields is None:
            start = self._offsets.get(name.encode())
            if start is None:
                return None
            fields = self._parsed[name] = self._at(name, start)
        return fields

    def versions(self, name: str) -> list[dict[str, str]]:
        """The fields of every paragraph of package `name`, in the order of the index."""
        last = self.get(name)
        if last is None:
            return []
        return [*(self._at(name, start) for start in self._earlier.get(name.encode(), ())), last]

    def _at(self, name: str, start: int) -> dict[str, str]:
        what = f"{self.what}, package {name!r}"
        if start and self._data[start - 2 : start] != b"\n\n":
            raise Malformed(f"read {what}", because="the cached table of offsets is wrong", hint="clear the cache")
        fields = parse(self._paragraph(start), what=what)
        if fields.get("Package") != name:
            raise Malformed(f"read {what}", because=f"found another package there: {fields.get('Package')!r}")
        return fields

    def having(self, line: str) -> list[str]:
        """The names of the packages that have exactly this line in their paragraph, e.g. 'Priority: required'."""
        found: list[str] = []
        pattern = b"\n" + line.encode() + b"\n"
        at = self._data.find(pattern)
        while at >= 0:
            start = self._data.rfind(b"\n\n", 0, at) + 2 if at else 0
            if start == 1:  # rfind returned -1: the first paragraph
                start = 0
            name = self._name_at(start)
            # Only the paragraph that counts: a package may be listed twice with different priorities.
            if self._offsets.get(name) == start:
                found.append(name.decode())
            at = self._data.find(pattern, at + 1)
        return found

    def providers(self, virtual: str) -> list[str]:
        """The names of the packages whose Provides names `virtual`, in the order of the index."""
        if self._provides is None:
            self._provides = self._find_provides()
        text, ends, starts = self._provides
        wanted = virtual.encode()
        found: dict[str, None] = {}
        at = text.find(wanted) if wanted else -1
        while at >= 0:
            row = bisect_right(ends, at)
            field = text[ends[row - 1] if row else 0 : ends[row]]
            if any(one.split(b"(")[0].strip().split(b":")[0] == wanted for one in field.split(b",")):
                found[self._name_at(starts[row]).decode()] = None
            at = text.find(wanted, ends[row])
        return list(found)

    def _find_provides(self) -> tuple[bytes, list[int], list[int]]:
        """All Provides fields: their text in one, where each ends in it, and the start of its paragraph.

        Made once (0.1 s for 50 MB). A look-up in one text takes less than a tenth of one in 20,000 fields.
        """
        data = self._data
        text = bytearray()
        ends: list[int] = []
        starts: list[int] = []
        at = data.find(b"\nProvides: ")
        while at >= 0:
            end = data.find(b"\n", at + 1)
            while end >= 0 and data[end + 1 : end + 2] == b" ":  # a folded field
                end = data.find(b"\n", end + 1)
            end = len(data) if end < 0 else end
            start = data.rfind(b"\n\n", 0, at)
            text += data[at + 11 : end] + b"\n"  # so that no name is found across two fields
            ends.append(len(text))
            starts.append(start + 2 if start >= 0 else 0)
            at = data.find(b"\nProvides: ", end - 1)
        return bytes(text), ends, starts

    def mention(self, name: str) -> tuple[int, int, int] | None:
        """Where package `name` is first mentioned: its own paragraph or a relation of an earlier one; None if nowhere.

        Ordered as apt numbers packages: by paragraph, by field in the order in which apt reads them, by place in it.
        """
        wanted = name.encode()
        own = self._offsets.get(wanted)
        own = min([own, *self._earlier.get(wanted, ())]) if own is not None else None
        word = re.compile(rb"(?<![A-Za-z0-9+.:-])" + re.escape(wanted) + rb"(?![A-Za-z0-9+.-])")
        end = len(self._data) if own is None else own
        at = self._data.find(wanted, 0, end)
        while at >= 0:
            start = self._data.rfind(b"\n\n", 0, at) + 2
            start = 0 if start == 1 else start
            place = _place(self._paragraph(start), word)
            if place is not None:
                return (start, *place)
            # Nothing in this paragraph: go on with the next one.
            after = self._data.find(b"\n\n", at)
            at = -1 if after < 0 else self._data.find(wanted, after, end)
        return None if own is None else (own, -1, 0)

    def _name_at(self, start: int) -> bytes:
        # A paragraph may begin with another field; Policy does not fix the order.
        at = start if self._data[start : start + 9] == b"Package: " else self._data.find(b"\nPackage: ", start) + 1
        return bytes(self._data[at + 9 : self._data.find(b"\n", at)]).strip()

    def _paragraph(self, start: int) -> bytes:
        end = self._data.find(b"\n\n", start)
        return bytes(self._data[start:] if end < 0 else self._data[start:end])


def _place(paragraph: bytes, word: "re.Pattern[bytes]") -> tuple[int, int] | None:
    for rank, field in enumerate(_READ_BY_APT):
        at = paragraph.find(b"\n" + field + b": ")
        if at >= 0:
            end = paragraph.find(b"\n", at + 1)
            found = word.search(paragraph, at, end if end >= 0 else len(paragraph))
            if found:
                return rank, found.start()
    return None


_Offsets = tuple[dict[bytes, int], dict[bytes, list[int]]]  # the last paragraph of each name, and those before it


def _scan(data: Buffer, what: str) -> _Offsets:
    """Name → offset of its paragraph, block by block, so that a mapped file is never in memory twice."""
    offsets: dict[bytes, int] = {}
    earlier: dict[bytes, list[int]] = {}
    size = len(data)
    start = 0
    while start < size:
        end = size
        if size - start > _BLOCK_BYTES:
            end = data.rfind(b"\n\n", start, start + _BLOCK_BYTES)
            if end < 0:
                end = data.find(b"\n\n", start)
            end = size if end < 0 else end
        at = start
        for paragraph in bytes(data[start:end]).split(b"\n\n"):
            if paragraph.startswith(b"Package: "):
                end_of_line = paragraph.find(b"\n")
                name = paragraph[9:end_of_line] if end_of_line > 0 else paragraph[9:]
            elif paragraph.strip():
                name = _late_name(paragraph, what)
            else:
                name = b""
            if name:
                if name in offsets:
                    earlier.setdefault(name, []).append(offsets[name])
                offsets[name] = at
            at += len(paragraph) + 2
        start = end + 2
    return offsets, earlier


def _read_table(table: bytes) -> _Offsets | None:
    """The offsets of a cached table; None if it is damaged."""
    names, _, rest = table.partition(b"\n\n")
    keys = names.split(b"\n")
    if len(rest) != 8 * len(keys):
        return None
    starts = array("Q", rest)
    offsets = dict(zip(keys, starts, strict=True))
    earlier: dict[bytes, list[int]] = {}
    if len(offsets) != len(keys):
        for name, start in zip(keys, starts, strict=True):
            if offsets[name] != start:
                earlier.setdefault(name, []).append(start)
    return offsets, earlier


def _late_name(paragraph: bytes, what: str) -> bytes:
    at = paragraph.find(b"\nPackage: ")
    if at < 0:
        raise Malformed(f"read {what}", because=f"a paragraph without a Package field: {paragraph[:60]!r}")
    return paragraph[at + 10 : paragraph.find(b"\n", at + 1)].strip()
