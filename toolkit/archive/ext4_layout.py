"""ext4's structures as bytes, and the allocation of blocks. Opens nothing; ext4.py writes them.

The layout has blocks of 4 KiB, inodes of 256 bytes, extents, a journal, and copies of the superblock in group 1 and the
powers of 3, 5 and 7. It has no metadata checksums (crc32c in Python would take longer than all the rest together);
`tune2fs -O metadata_csum` adds them.
"""

import struct
from collections.abc import Mapping

BLOCK = 4096
INODE = 256
BLOCKS_PER_GROUP = 8 * BLOCK
EXTENTS = 0x80000

_INODES_PER_BLOCK = BLOCK // INODE
_MOST_IN_EXTENT = 32768
_PER_LEAF = (BLOCK - 12) // 12
_MAGIC_XATTR = 0xEA020000
# has_journal, ext_attr | filetype, extents | sparse_super, large_file, huge_file, dir_nlink, extra_isize
_COMPAT, _INCOMPAT, _RO_COMPAT = 0x4 | 0x8, 0x2 | 0x40, 0x1 | 0x2 | 0x8 | 0x20 | 0x40
_XATTR_INDEX = {"user.": 1, "trusted.": 4, "security.": 6}
_ACL_INDEX = {"system.posix_acl_access": 2, "system.posix_acl_default": 3}

Run = tuple[int, int]  # first block, how many


class Geometry:
    """The number of blocks, groups and inodes of a file system that must hold so much, and where its metadata is."""

    def __init__(self, needed_blocks: int, needed_inodes: int) -> None:
        wanted = needed_blocks + needed_blocks // 3 + (16 << 20) // BLOCK
        inodes = max(needed_inodes + needed_inodes // 4, wanted * BLOCK // 16384)
        self.groups = 0
        self.blocks = wanted
        while True:
            self.groups = -(-self.blocks // BLOCKS_PER_GROUP)
            per_group = -(-inodes // self.groups)
            self.inodes_per_group = -(-per_group // _INODES_PER_BLOCK) * _INODES_PER_BLOCK
            self.descriptor_blocks = -(-self.groups * 32 // BLOCK)
            own = sum(self.own_blocks(group) for group in range(self.groups))
            # The last group must have room for its own bitmaps and inodes, and for some files.
            least = (self.groups - 1) * BLOCKS_PER_GROUP + self.own_blocks(self.groups - 1) + 64
            total = max(wanted + own, least)
            if total <= self.blocks:
                break
            self.blocks = total
        self.inodes = self.inodes_per_group * self.groups

    def has_copy(self, group: int) -> bool:
        """Whether the group begins with (a copy of) the superblock and the group descriptors: sparse_super."""
        if group <= 1:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    def own_blocks(self, group: int) -> int:
        """The number of blocks at the start of a group that hold metadata, not files."""
        head = 1 + self.descriptor_blocks if self.has_copy(group) else 0
        return head + 2 + self.inodes_per_group // _INODES_PER_BLOCK

    def bitmaps_at(self, group: int) -> int:
        """The block that holds the block bitmap; the inode bitmap and the inode table follow it."""
        return group * BLOCKS_PER_GROUP + (1 + self.descriptor_blocks if self.has_copy(group) else 0)

    def blocks_in(self, group: int) -> int:
        return min(BLOCKS_PER_GROUP, self.blocks - group * BLOCKS_PER_GROUP)

    def count_used(self, bitmap: bytes, group: int) -> int:
        """The used blocks of a group. (The bits beyond the file system's end are also set, but don't count.)"""
        return int.from_bytes(bitmap, "little").bit_count() - (BLOCKS_PER_GROUP - self.blocks_in(group))


class Allocator:
    """Allocates free blocks, from the first to the last."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._group = 0
        self._next = [geometry.own_blocks(group) for group in range(geometry.groups)]

    def take(self, count: int) -> list[Run]:
        """Allocate `count` blocks, in as few runs as possible. The geometry was made large enough for all of them."""
        runs = []
        while count:
            free = self._geometry.blocks_in(self._group) - self._next[self._group]
            if not free:
                self._group += 1
                continue
            length = min(count, free)
            runs.append((self._group * BLOCKS_PER_GROUP + self._next[self._group], length))
            self._next[self._group] += length
            count -= length
        return runs

    def bitmap(self, group: int) -> bytes:
        """A group's block bitmap."""
        here = self._geometry.blocks_in(group)
        beyond = ((1 << BLOCKS_PER_GROUP) - 1) >> here << here
        return ((1 << self._next[group]) - 1 | beyond).to_bytes(BLOCK, "little")


def filled(taken: int, per_group: int) -> bytes:
    """A group's inode bitmap: the first `taken` bits are set, and those beyond the group's last inode."""
    beyond = ((1 << 8 * BLOCK) - 1) >> per_group << per_group
    return ((1 << taken) - 1 | beyond).to_bytes(BLOCK, "little")


def extents(runs: list[Run], allocator: Allocator) -> tuple[bytes, list[tuple[int, bytes]]]:
    """An inode's extent tree of at most two levels: its root, and its leaves (at worst 45 MB of file a leaf entry)."""
    entries = []
    logical = 0
    for start, length in runs:
        while length:
            step = min(length, _MOST_IN_EXTENT)
            entries.append(struct.pack("<IHHI", logical, step, 0, start))
            logical, start, length = logical + step, start + step, length - step
    if len(entries) <= 4:
        return _tree_head(len(entries), 4, 0) + b"".join(entries), []
    leaves, root = [], []
    for at in range(0, len(entries), _PER_LEAF):
        some = entries[at : at + _PER_LEAF]
        ((block, _),) = allocator.take(1)
        leaves.append((block, (_tree_head(len(some), _PER_LEAF, 0) + b"".join(some)).ljust(BLOCK, b"\0")))
        root.append(some[0][:4] + struct.pack("<IHH", block, 0, 0))
    return _tree_head(len(root), 4, 1) + b"".join(root), leaves


def _tree_head(entries: int, most: int, depth: int) -> bytes:
    return struct.pack("<HHHHI", 0xF30A, entries, most, depth, 0)


def inode(
    *,
    mode: int,
    size: int,
    time_s: int,
    body: bytes,
    uid: int = 0,
    gid: int = 0,
    links: int = 1,
    sectors: int = 0,
    flags: int = 0,
    acl: int = 0,
) -> bytes:
    """The first 160 bytes of an inode; `sectors` of 512 bytes, `body` its block map, link text or device."""
    head = struct.pack(
        "<HHIIIIIHHIII",
        mode,
        uid & 0xFFFF,
        size & 0xFFFFFFFF,
        time_s,
        time_s,
        time_s,
        0,
        gid & 0xFFFF,
        links,
        sectors & 0xFFFFFFFF,
        flags,
        0,
    )
    tail = struct.pack("<IIIIHHHHHH", 0, acl, size >> 32, 0, sectors >> 32, 0, uid >> 16, gid >> 16, 0, 0)
    extra = struct.pack("<HHIIIIIII", 32, 0, 0, 0, 0, time_s, 0, 0, 0)
    return head + body.ljust(60, b"\0") + tail + extra


def device(major: int, minor: int) -> bytes:
    """A device number as a block map: in the old encoding where it fits, as Linux does."""
    if major < 256 and minor < 256:
        return struct.pack("<I", major << 8 | minor)
    return struct.pack("<II", 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)


def entry_size(name: bytes) -> int:
    """The size of a directory entry in bytes."""
    return 8 + (len(name) + 3 & ~3)


def entry(number: int, size: int, name: bytes, kind: int) -> bytes:
    """A directory entry whose length field says `size`, without the padding beyond entry_size."""
    return struct.pack("<IHBB", number, size, len(name), kind) + name + bytes(-len(name) % 4)


def xattrs(found: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """Extended attributes: either as the bytes that follow an inode's first 160, or as a block of their own."""
    pairs = []
    for name, value in found.items():
        if name in _ACL_INDEX:
            pairs.append((_ACL_INDEX[name], b"", _acl(value)))
            continue
        prefix = next((one for one in _XATTR_INDEX if name.startswith(one)), "")
        if prefix:
            pairs.append((_XATTR_INDEX[prefix], name.removeprefix(prefix).encode(), value))
    if not pairs:
        return b"", b""
    pairs.sort(key=lambda one: (one[0], len(one[1]), one[1]))
    room = INODE - 160 - 4
    needed = sum(16 + (len(name) + 3 & ~3) + (len(value) + 3 & ~3) for _, name, value in pairs) + 4
    if needed <= room:
        return struct.pack("<I", _MAGIC_XATTR) + _attributes(pairs, room, 0)[0], b""
    data, whole = _attributes(pairs, BLOCK - 32, 32)
    return b"", struct.pack("<IIIII", _MAGIC_XATTR, 1, 1, whole, 0).ljust(32, b"\0") + data


def _attributes(pairs: list[tuple[int, bytes, bytes]], room: int, offset: int) -> tuple[bytes, int]:
    """The block with entries from its front and values from its back, and the hash of all."""
    entries, values = b"", b""
    whole = 0
    for index, name, value in pairs:
        padded = value + bytes(-len(value) % 4)
        values = padded + values
        at = room - len(values) + offset
        known = _hash(name, padded)
        whole = (whole << 16 ^ whole >> 16 ^ known) & 0xFFFFFFFF
        entries += struct.pack("<BBHIII", len(name), index, at, 0, len(value), known) + name + bytes(-len(name) % 4)
    return entries + bytes(room - len(entries) - len(values)) + values, whole


def _hash(name: bytes, value: bytes) -> int:
    known = 0
    for byte in name:
        known = (known << 5 ^ known >> 27 ^ byte) & 0xFFFFFFFF
    for (word,) in struct.iter_unpack("<I", value):
        known = (known << 16 ^ known >> 16 ^ word) & 0xFFFFFFFF
    return known


def _acl(value: bytes) -> bytes:
    """An acl(5) from the kernel's form (version 2, an id in each entry) to ext4's (version 1, ids where needed)."""
    data = struct.pack("<I", 1)
    for tag, allowed, identity in struct.iter_unpack("<HHI", value[4:]):
        data += struct.pack("<HH", tag, allowed)
        if tag in (0x02, 0x08):  # ACL_USER, ACL_GROUP
            data += struct.pack("<I", identity)
    return data


def journal(blocks: int, identity: bytes) -> bytes:
    """The first block of an empty journal (jbd2's superblock, big-endian)."""
    head = struct.pack(">IIIIIIIIIIII", 0xC03B3998, 4, 0, BLOCK, blocks, 1, 1, 0, 0, 0, 0, 0)
    return (head + identity + struct.pack(">I", 1)).ljust(BLOCK, b"\0")


def superblock(
    geometry: Geometry, free_blocks: int, free_inodes: int, group: int, time_s: int, identity: bytes, *, journal: int
) -> bytes:
    """The superblock's copy for `group`; `identity` becomes its UUID."""
    known = bytearray(identity)
    known[6] = known[6] & 0x0F | 0x80  # RFC 9562: version 8, made of a hash
    known[8] = known[8] & 0x3F | 0x80
    head = struct.pack(
        "<IIIIIIIIIIIIIHHHHHHIIIIHHIHHIII16s",
        geometry.inodes,
        geometry.blocks,
        geometry.blocks // 20,
        free_blocks,
        free_inodes,
        0,
        2,
        2,
        BLOCKS_PER_GROUP,
        BLOCKS_PER_GROUP,
        geometry.inodes_per_group,
        0,
        time_s,
        0,
        0xFFFF,
        0xEF53,
        1,
        1,
        0,
        time_s,
        0,
        0,
        1,
        0,
        0,
        11,
        INODE,
        group,
        _COMPAT,
        _INCOMPAT,
        _RO_COMPAT,
        bytes(known),
    )
    whole = bytearray(head.ljust(1024, b"\0"))
    struct.pack_into("<I", whole, 224, journal)
    whole[236:252] = identity  # the seed of directory hashes
    whole[252] = 1  # half MD4
    struct.pack_into("<I", whole, 256, 0x4 | 0x8)  # default mount options: user_xattr, acl
    struct.pack_into("<I", whole, 264, time_s)
    struct.pack_into("<HHI", whole, 348, 32, 32, 1)
    return bytes(whole)
