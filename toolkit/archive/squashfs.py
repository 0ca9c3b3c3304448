"""Write a tree as a squashfs image: read-only, compressed, mountable since Linux 4.14 (zstd in squashfs).

    superblock | data blocks and fragments | inodes | directories | fragment table | ids | attributes

Data is written as it is read, compressed on all cores; only a few words for each file are kept in memory. The image
does not depend on the machine, the time or the number of threads.

Source: Linux, Documentation/filesystems/squashfs.rst and fs/squashfs/squashfs_fs.h (format 4.0).
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from toolkit.archive.entries import BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Entry
from toolkit.archive.streams import side_by_side
from toolkit.archive.walk import read
from toolkit.errors import CtkError

_BLOCK_LOG = 17
_BLOCK = 1 << _BLOCK_LOG
_META = 8192
_ZSTD, _LEVEL = 6, 9
_NOTHING = 0xFFFFFFFF
_NO_TABLE = 0xFFFFFFFFFFFFFFFF
_NO_XATTRS = 0x0200
_SUPERBLOCK = struct.Struct("<5I6H8Q")
_TYPES = {DIRECTORY: 1, FILE: 2, SYMLINK: 3, BLOCK: 4, CHARACTER: 5, FIFO: 6}
_EXTENDED = 7  # added to the type of an inode that has extended attributes, or that doesn't fit
_PREFIXES = {"user.": 0, "trusted.": 1, "security.": 2}


def write(rootfd: int, out: int, members: Iterable[Entry], *, time_s: int) -> None:
    """Write the image to the empty file `out`. `time_s` is when it was made. Raises OSError, CtkError.

    The format has no place for default and access ACLs, so they are left out.
    """
    _Image(rootfd, out, list(members)).write(time_s)


@dataclass(slots=True)
class _Node:
    """A member, and where its content and its inode are in the image."""

    member: Entry
    number: int
    links: int = 1
    start: int = 0
    blocks: list[int] = field(default_factory=list)
    fragment: int = _NOTHING
    offset: int = 0
    inode: tuple[int, int] = (0, 0)
    children: list[tuple[bytes, "_Node"]] = field(default_factory=list)


class _Image:
    def __init__(self, rootfd: int, out: int, members: list[Entry]) -> None:
        self._rootfd = rootfd
        self._out = out
        self._at = _SUPERBLOCK.size
        self._fragments: list[bytes] = []
        self._ids: dict[int, int] = {}
        self._xattrs = _Xattrs()
        self._nodes: list[_Node] = []
        by_path: dict[bytes, _Node] = {}
        for member in members:
            if member.kind == HARD_LINK:
                node = by_path[member.link]
                node.links += 1
            else:
                node = _Node(member, len(self._nodes) + 1)
                self._nodes.append(node)
            by_path[member.name] = node
            if member.name:
                above, _, name = member.name.rpartition(b"/")
                by_path[above].children.append((name, node))

    def write(self, time_s: int) -> None:
        os.lseek(self._out, self._at, os.SEEK_SET)
        self._data()
        inodes, listings = _Metadata(), _Metadata()
        for node in self._nodes:
            if node.member.kind != DIRECTORY:
                node.inode = inodes.add(self._inode(node))
        parents = {id(child): node for node in self._nodes for _, child in node.children}
        for node in reversed(self._nodes):
            if node.member.kind == DIRECTORY:
                above = parents.get(id(node))
                node.inode = inodes.add(
                    self._directory(node, listings, above.number if above else len(self._nodes) + 1)
                )
        starts = [self._table(inodes), self._table(listings)]
        fragments = self._lookup(self._fragments) if self._fragments else _NO_TABLE
        ids = self._lookup([struct.pack("<I", one) for one in self._ids])
        xattrs = self._xattr_tables()
        used = self._at
        self._put(bytes(-used % 4096))
        root = self._nodes[0].inode
        head = _SUPERBLOCK.pack(
            0x73717368,
            len(self._nodes),
            min(max(time_s, 0), _NOTHING),
            _BLOCK,
            len(self._fragments),
            _ZSTD,
            _BLOCK_LOG,
            _NO_XATTRS if xattrs == _NO_TABLE else 0,
            len(self._ids),
            4,
            0,
            root[0] << 16 | root[1],
            used,
            ids,
            xattrs,
            starts[0],
            starts[1],
            fragments,
            _NO_TABLE,
        )
        os.pwrite(self._out, head, 0)

    def _put(self, data: bytes) -> int:
        """Append `data`; returns the offset where it begins."""
        at = self._at
        view = memoryview(data)
        while view:
            view = view[os.write(self._out, view) :]
        self._at += len(data)
        return at

    # ---- content

    def _data(self) -> None:
        for node, raw, packed in side_by_side(_packed, self._pieces()):
            short = len(packed) < len(raw)
            size = len(packed) if short else len(raw) | 1 << 24
            at = self._put(packed if short else raw)
            if node is None:
                self._fragments.append(struct.pack("<QII", at, size, 0))
                continue
            if not node.blocks:
                node.start = at
            node.blocks.append(size)

    def _pieces(self) -> Iterator[tuple[_Node | None, bytes]]:
        """Whole blocks with their file, and fragment blocks (file tails) with None; a file's blocks are adjacent."""
        ends = bytearray()
        count = 0
        for node in self._nodes:
            if node.member.kind != FILE:
                continue
            rest = b""
            for piece in read(self._rootfd, node.member):
                rest += piece
                while len(rest) >= _BLOCK:
                    yield node, rest[:_BLOCK]
                    rest = rest[_BLOCK:]
            if not rest:
                continue
            if len(ends) + len(rest) > _BLOCK:
                yield None, bytes(ends)
                ends.clear()
                count += 1
            node.fragment, node.offset = count, len(ends)
            ends += rest
        if ends:
            yield None, bytes(ends)

    # ---- inodes

    def _inode(self, node: _Node) -> bytes:
        member = node.member
        xattr = self._xattrs.add(member.xattrs)
        extended = xattr != _NOTHING
        if member.kind == FILE:
            extended = extended or node.links > 1 or member.size_bytes > _NOTHING or node.start > _NOTHING
            if extended:
                words = (node.start, member.size_bytes, 0, node.links, node.fragment, node.offset, xattr)
                body = struct.pack("<QQQIIII", *words)
            else:
                body = struct.pack("<IIII", node.start, node.fragment, node.offset, member.size_bytes)
            return self._head(node, extended) + body + struct.pack(f"<{len(node.blocks)}I", *node.blocks)
        if member.kind == SYMLINK:
            body = struct.pack("<II", node.links, len(member.link)) + member.link
        elif member.kind == FIFO:
            body = struct.pack("<I", node.links)
        else:
            device = member.minor & 0xFF | member.major << 8 | (member.minor & ~0xFF) << 12
            body = struct.pack("<II", node.links, device)
        return self._head(node, extended) + body + (struct.pack("<I", xattr) if extended else b"")

    def _directory(self, node: _Node, listings: "_Metadata", parent: int) -> bytes:
        listing = b"".join(_listing(node.children))
        block, offset = listings.add(listing)
        size = len(listing) + 3  # for "." and "..", which aren't written
        links = 2 + sum(1 for _, child in node.children if child.member.kind == DIRECTORY)
        xattr = self._xattrs.add(node.member.xattrs)
        if xattr != _NOTHING or size > 0xFFFF:
            body = struct.pack("<IIIIHHI", links, size, block, parent, 0, offset, xattr)
            return self._head(node, True) + body
        return self._head(node, False) + struct.pack("<IIHHI", block, links, size, offset, parent)

    def _head(self, node: _Node, extended: bool) -> bytes:
        member = node.member
        kind = _TYPES[member.kind] + (_EXTENDED if extended else 0)
        time_s = min(max(member.mtime_s, 0), _NOTHING)
        ids = [self._ids.setdefault(one, len(self._ids)) for one in (member.uid, member.gid)]
        if len(self._ids) > 0xFFFF:
            raise CtkError("write a squashfs image", because="the tree has more than 65535 users and groups")
        return struct.pack("<HHHHII", kind, member.mode, *ids, time_s, node.number)

    # ---- tables

    def _table(self, table: "_Metadata") -> int:
        return self._put(table.finish())

    def _lookup(self, entries: list[bytes]) -> int:
        """Write entries in metadata blocks, then the list of the blocks' offsets; returns the offset of that list."""
        table = _Metadata()
        for entry in entries:
            table.add(entry)
        start = self._put(table.finish())
        return self._put(b"".join(struct.pack("<Q", start + one) for one in table.starts))

    def _xattr_tables(self) -> int:
        if not self._xattrs.entries:
            return _NO_TABLE
        values = self._put(self._xattrs.values.finish())
        table = _Metadata()
        for entry in self._xattrs.entries:
            table.add(entry)
        start = self._put(table.finish())
        at = self._put(struct.pack("<QII", values, len(self._xattrs.entries), 0))
        self._put(b"".join(struct.pack("<Q", start + one) for one in table.starts))
        return at


class _Metadata:
    """A table in blocks of 8 KiB, each compressed as soon as it is full."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self._done = bytearray()
        self._block = bytearray()

    def add(self, data: bytes) -> tuple[int, int]:
        """Append `data`; returns the start of the block that it begins in, and its offset in that block."""
        if len(self._block) == _META:
            self._flush()
        place = len(self._done), len(self._block)
        while data:
            if len(self._block) == _META:
                self._flush()
            room = _META - len(self._block)
            self._block += data[:room]
            data = data[room:]
        return place

    def finish(self) -> bytes:
        if self._block:
            self._flush()
        return bytes(self._done)

    def _flush(self) -> None:
        raw = bytes(self._block)
        packed = _compressed(raw)
        self.starts.append(len(self._done))
        if len(packed) < len(raw):
            self._done += struct.pack("<H", len(packed)) + packed
        else:
            self._done += struct.pack("<H", len(raw) | 0x8000) + raw
        self._block.clear()


class _Xattrs:
    """The sets of extended attributes; equal sets are written once."""

    def __init__(self) -> None:
        self.values = _Metadata()
        self.entries: list[bytes] = []
        self._known: dict[bytes, int] = {}

    def add(self, xattrs: Mapping[str, bytes]) -> int:
        """The number of the set; _NOTHING for an empty set."""
        pairs = b""
        count = 0
        for name, value in xattrs.items():
            prefix = next((one for one in _PREFIXES if name.startswith(one)), "")
            if not prefix:
                continue
            short = name.removeprefix(prefix).encode()
            pairs += struct.pack("<HH", _PREFIXES[prefix], len(short)) + short
            pairs += struct.pack("<I", len(value)) + value
            count += 1
        if not count:
            return _NOTHING
        if pairs not in self._known:
            block, offset = self.values.add(pairs)
            self._known[pairs] = len(self.entries)
            self.entries.append(struct.pack("<QII", block << 16 | offset, count, len(pairs)))
        return self._known[pairs]


def _listing(children: list[tuple[bytes, _Node]]) -> Iterator[bytes]:
    """The entries of a directory, sorted, with a header before each run of entries that share an inode block."""
    entries = sorted(children, key=lambda one: one[0])
    while entries:
        block, base = entries[0][1].inode[0], entries[0][1].number
        count = 0
        for _, node in entries[:256]:
            if node.inode[0] != block or not -32768 <= node.number - base <= 32767:
                break
            count += 1
        yield struct.pack("<III", count - 1, block, base)
        for name, node in entries[:count]:
            kind = _TYPES[node.member.kind]
            yield struct.pack("<HhHH", node.inode[1], node.number - base, kind, len(name) - 1) + name
        entries = entries[count:]


def _packed(piece: tuple[_Node | None, bytes]) -> tuple[_Node | None, bytes, bytes]:
    return (*piece, _compressed(piece[1]))


def _compressed(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(data)
