"""Write a tree as an ext4 image, without mkfs, mount, or root. The image depends on the tree and nothing else.

Blocks are allocated from the first to the last and never freed, so a file has one extent for each block group that it
lies in. The image stays sparse where nothing is written: inode tables, journal, and free space.

Source: Linux, Documentation/filesystems/ext4/ (super, group_descr, inodes, ifork, directory, attributes, journal).
"""

import hashlib
import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from toolkit.archive import ext4_layout as layout
from toolkit.archive.entries import BLOCK as BLOCK_DEVICE
from toolkit.archive.entries import CHARACTER, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK, Entry
from toolkit.archive.ext4_layout import BLOCK, Geometry
from toolkit.archive.walk import read
from toolkit.errors import CtkError

_MODES = {
    DIRECTORY: 0o040000,
    FILE: 0o100000,
    SYMLINK: 0o120000,
    CHARACTER: 0o020000,
    BLOCK_DEVICE: 0o060000,
    FIFO: 0o010000,
}
_TYPES = {FILE: 1, DIRECTORY: 2, CHARACTER: 3, BLOCK_DEVICE: 4, FIFO: 5, SYMLINK: 7}
_ROOT, _JOURNAL, _LOST_FOUND, _FIRST = 2, 8, 11, 12
_FAST_SYMLINK = 60
_JOURNAL_BLOCKS = 4096  # 16 MiB, as mke2fs makes for a file system of this size
_LOST_FOUND_BLOCKS = 4


@dataclass(slots=True)
class _Node:
    member: Entry
    number: int
    links: int = 1
    parent: int = _ROOT
    children: list[tuple[bytes, int, int]] = field(default_factory=list)  # name, inode, type


def write(rootfd: int, out: int, members: Iterable[Entry], *, time_s: int) -> None:
    """Write the image to the empty file `out`: a third larger than its content, for `resize2fs` to grow.

    Raises OSError, and CtkError for what the format can't hold.
    """
    nodes = _nodes(members)
    digest = hashlib.sha256(repr([(n.member.name, n.member.mode, n.member.size_bytes) for n in nodes]).encode())
    _Image(rootfd, out, nodes, time_s, digest.digest()[:16]).write()


def _nodes(members: Iterable[Entry]) -> list[_Node]:
    nodes: list[_Node] = []
    by_path: dict[bytes, _Node] = {}
    numbers = itertools.count(_FIRST)
    for member in members:
        if member.kind == HARD_LINK:
            node = by_path[member.link]
            node.links += 1
        else:
            known = {b"": _ROOT, b"lost+found": _LOST_FOUND}
            node = _Node(member, known[member.name] if member.name in known else next(numbers))
            if member.kind == DIRECTORY:
                node.links = 2
            nodes.append(node)
        by_path[member.name] = node
        if not member.name:
            continue
        above, _, name = member.name.rpartition(b"/")
        parent = by_path[above]
        parent.children.append((name, node.number, _TYPES[node.member.kind]))
        if member.kind == DIRECTORY:
            parent.links += 1
            node.parent = parent.number
    root = nodes[0]
    if not any(name == b"lost+found" for name, _, _ in root.children):
        root.children.append((b"lost+found", _LOST_FOUND, 2))
        root.links += 1
    return nodes


class _Image:
    def __init__(self, rootfd: int, out: int, nodes: list[_Node], time_s: int, identity: bytes) -> None:
        self._rootfd = rootfd
        self._out = out
        self._nodes = nodes
        self._time_s = min(max(time_s, 0), 0xFFFFFFFF)
        self._identity = identity
        needed = _JOURNAL_BLOCKS + _LOST_FOUND_BLOCKS + sum(_blocks_of(node) for node in nodes)
        self._geometry = Geometry(needed, _FIRST + len(nodes))
        self._allocator = layout.Allocator(self._geometry)
        self._directories: list[int] = []

    def write(self) -> None:
        os.ftruncate(self._out, self._geometry.blocks * BLOCK)
        self._journal()
        for node in self._nodes:
            self._node(node)
        if all(node.number != _LOST_FOUND for node in self._nodes):
            self._lost_found()
        self._bookkeeping()

    # ---- the contents of inodes

    def _node(self, node: _Node) -> None:
        member = node.member
        flags, blocks, size = 0, 0, 0
        body = b""
        if member.kind == DIRECTORY:
            self._directories.append(node.number)
            listing = list(_listing(node))
            body, blocks = self._stored(iter(listing), len(listing))
            flags, size = layout.EXTENTS, len(listing) * BLOCK
        elif member.kind == FILE:
            size = member.size_bytes
            body, blocks = self._stored(_in_blocks(read(self._rootfd, member, 1 << 20)), -(-size // BLOCK))
            flags = layout.EXTENTS
        elif member.kind == SYMLINK:
            size = len(member.link)
            body = member.link
            if size >= _FAST_SYMLINK:
                body, blocks = self._stored(iter([member.link]), 1)
                flags = layout.EXTENTS
        elif member.kind in (CHARACTER, BLOCK_DEVICE):
            body = layout.device(member.major, member.minor)
        inside, outside = layout.xattrs(member.xattrs)
        acl = 0
        if outside:
            ((acl, _),) = self._allocator.take(1)
            blocks += 1
            self._at(acl, outside)
        head = layout.inode(
            mode=_MODES[member.kind] | member.mode,
            uid=member.uid,
            gid=member.gid,
            size=size,
            time_s=min(max(member.mtime_s, 0), 0xFFFFFFFF),
            links=node.links,
            sectors=blocks * BLOCK // 512,
            flags=flags,
            body=body,
            acl=acl,
        )
        self._inode(node.number, head + inside)

    def _stored(self, pieces: Iterator[bytes], count: int) -> tuple[bytes, int]:
        """Write content into new blocks; returns the inode's extent tree, and how many blocks both take."""
        runs = self._allocator.take(count)
        for start, length in runs:
            at, end = start * BLOCK, (start + length) * BLOCK
            while at < end:
                piece = next(pieces, b"")
                if not piece:
                    break
                # A piece is a MiB, but a run may end anywhere: the rest of the piece belongs to the next run.
                now, rest = piece[: end - at], piece[end - at :]
                if now.count(0) != len(now):
                    self._write(now, at)
                at += len(now)
                if rest:
                    pieces = _before(rest, pieces)
        tree, leaves = layout.extents(runs, self._allocator)
        for block, data in leaves:
            self._at(block, data)
        return tree, count + len(leaves)

    def _journal(self) -> None:
        head = layout.journal(_JOURNAL_BLOCKS, self._identity)
        tree, _ = self._stored(iter([head]), _JOURNAL_BLOCKS)
        size, sectors = _JOURNAL_BLOCKS * BLOCK, _JOURNAL_BLOCKS * BLOCK // 512
        made = layout.inode(
            mode=0o100600, size=size, time_s=self._time_s, sectors=sectors, flags=layout.EXTENTS, body=tree
        )
        self._inode(_JOURNAL, made)

    def _lost_found(self) -> None:
        empty = layout.entry(0, BLOCK, b"", 0).ljust(BLOCK, b"\0")
        first = layout.entry(_LOST_FOUND, 12, b".", 2) + layout.entry(_ROOT, BLOCK - 12, b"..", 2)
        blocks = [first.ljust(BLOCK, b"\0"), *[empty] * (_LOST_FOUND_BLOCKS - 1)]
        tree, _ = self._stored(iter(blocks), len(blocks))
        size = len(blocks) * BLOCK
        made = layout.inode(
            mode=0o040700,
            size=size,
            time_s=self._time_s,
            links=2,
            sectors=size // 512,
            flags=layout.EXTENTS,
            body=tree,
        )
        self._inode(_LOST_FOUND, made)
        self._directories.append(_LOST_FOUND)

    # ---- the metadata of the file system

    def _bookkeeping(self) -> None:
        geometry = self._geometry
        used_inodes = max(_LOST_FOUND, *(node.number for node in self._nodes))
        if used_inodes > geometry.inodes:
            raise CtkError("write an ext4 image", because="it has a wrong count of inodes (a bug)")
        descriptors = b""
        free_blocks = free_inodes = 0
        for group in range(geometry.groups):
            blocks = self._allocator.bitmap(group)
            taken = min(max(used_inodes - group * geometry.inodes_per_group, 0), geometry.inodes_per_group)
            here = geometry.blocks_in(group) - geometry.count_used(blocks, group)
            inodes = geometry.inodes_per_group - taken
            low = group * geometry.inodes_per_group
            folders = sum(1 for one in self._directories if low < one <= low + geometry.inodes_per_group)
            at = geometry.bitmaps_at(group)
            self._at(at, blocks)
            self._at(at + 1, layout.filled(taken, geometry.inodes_per_group))
            descriptors += struct.pack("<IIIHHHHIHHHH", at, at + 1, at + 2, here, inodes, folders, 0, 0, 0, 0, 0, 0)
            free_blocks += here
            free_inodes += inodes
        for group in range(geometry.groups):
            if not geometry.has_copy(group):
                continue
            head = layout.superblock(
                geometry, free_blocks, free_inodes, group, self._time_s, self._identity, journal=_JOURNAL
            )
            start = group * layout.BLOCKS_PER_GROUP * BLOCK
            self._write(head, start + (1024 if group == 0 else 0))
            self._write(descriptors, start + BLOCK)

    def _inode(self, number: int, data: bytes) -> None:
        group, place = divmod(number - 1, self._geometry.inodes_per_group)
        at = (self._geometry.bitmaps_at(group) + 2) * BLOCK + place * layout.INODE
        self._write(data, at)

    def _at(self, block: int, data: bytes) -> None:
        self._write(data, block * BLOCK)

    def _write(self, data: bytes, at: int) -> None:
        while data:
            done = os.pwrite(self._out, data, at)
            data, at = data[done:], at + done


def _blocks_of(node: _Node) -> int:
    """An upper bound of the blocks that a node takes: content, extent tree, attributes."""
    member = node.member
    attributes = 1 if member.xattrs else 0
    if member.kind == DIRECTORY:
        return sum(1 for _ in _listing(node)) + attributes + 1
    if member.kind == SYMLINK:
        return 1 if len(member.link) >= _FAST_SYMLINK else 0
    blocks = -(-member.size_bytes // BLOCK)
    return blocks + attributes + blocks // 8192


def _listing(node: _Node) -> Iterator[bytes]:
    """The blocks of a directory: its entries in order, none across a block's end (linear directories)."""
    entries = [(b".", node.number, 2), (b"..", node.parent, 2), *sorted(node.children)]
    block: list[tuple[bytes, int, int]] = []
    room = BLOCK
    for one in entries:
        size = layout.entry_size(one[0])
        if size > room:
            yield _packed_entries(block)
            block, room = [], BLOCK
        block.append(one)
        room -= size
    yield _packed_entries(block)


def _packed_entries(entries: list[tuple[bytes, int, int]]) -> bytes:
    data = b""
    for name, number, kind in entries[:-1]:
        data += layout.entry(number, layout.entry_size(name), name, kind)
    name, number, kind = entries[-1]
    return (data + layout.entry(number, BLOCK - len(data), name, kind)).ljust(BLOCK, b"\0")


def _in_blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of whole blocks, except for the last piece."""
    rest = b""
    for piece in pieces:
        rest += piece
        whole = len(rest) // BLOCK * BLOCK
        if whole:
            yield rest[:whole]
            rest = rest[whole:]
    if rest:
        yield rest


def _before(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
