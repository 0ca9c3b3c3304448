"""The members of a tree become a layer's blob: the same members, the same bytes.

The tar depends on nothing but the members: whole seconds, ids without names. Its segments are compressed side by side,
each as a gzip member or a zstd frame of its own, so that the blob does not depend on the number of processors. The
blob of a gzip layer depends on the compressor: isal if it is installed, zlib otherwise. The diff id never does.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from toolkit.archive import streams, tar_write, walk
from toolkit.archive.entries import CHARACTER, KINDS, Entry
from toolkit.errors import CtkError, reason_and_path
from toolkit.image.document import media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.media_types import GZIP, PLAIN, ZSTD
from toolkit.image.layer.names import WHITEOUT
from toolkit.kernel import atomic, mountinfo

CODECS = (GZIP, ZSTD, PLAIN)
_OVERLAY = "user.overlay."
_ISAL_LEVEL = 1  # a minbase: 0.58 s and 54 MB on two processors; zlib at 6: 3.6 s and 49 MB
_ZLIB_LEVEL = 6


class Written(NamedTuple):
    """A layer that was written: what names its blob, and what names its tar."""

    descriptor: Descriptor
    diff_id: str
    members: int


def write(
    rootfd: int,
    entries: Iterable[Entry],
    out: int,
    doing: str,
    codec: str = GZIP,
    content: Callable[[Entry], Iterable[bytes]] | None = None,
) -> Written:
    """Write a layer with these members, whose content is read below `rootfd`, to the descriptor `out`.

    `content` gives that of a file instead.

    Whoever calls it says of each member that it may be in a layer (`fit`). Raises CtkError, which begins with `doing`,
    and OSError for `out`.
    """
    plain, packed = hashlib.sha256(), hashlib.sha256()
    size_bytes = members = 0

    def counted() -> Iterator[Entry]:
        nonlocal members
        for entry in entries:
            members += 1
            yield entry

    def segments() -> Iterator[bytes]:
        try:
            for segment in tar_write.segments(rootfd, counted(), prefix=b"", content=content):
                plain.update(segment)
                yield segment
        except OSError as error:
            raise CtkError(doing, because=reason_and_path(error)) from None

    for piece in _compressed(segments(), codec):
        packed.update(piece)
        size_bytes += len(piece)
        atomic.write(out, piece)
    descriptor = Descriptor(media_types.layer_type(codec), f"sha256:{packed.hexdigest()}", size_bytes)
    return Written(descriptor, f"sha256:{plain.hexdigest()}", members)


def whole(rootfd: int, doing: str, *, latest_s: int | None = None) -> Iterator[Entry]:
    """The members of a whole tree for a layer; times later than `latest_s` are set to it.

    Raises CtkError for what can't be in a layer, and if something is mounted in the tree: it would be packed, too.
    """
    check_mounts(rootfd, doing)
    try:
        for entry in walk.walk(rootfd, latest_s=latest_s):
            yield fit(entry, doing)
    except OSError as error:
        raise CtkError(doing, because=reason_and_path(error)) from None


def fit(entry: Entry, doing: str) -> Entry:
    """The member as a layer may have it: without overlayfs's attributes. Raises CtkError."""
    name = os.fsdecode(entry.name)
    if entry.name.rpartition(b"/")[2].startswith(WHITEOUT):
        because = f"{name!r}: in a layer, a name that begins with .wh. removes a file"
        raise CtkError(doing, because=because, hint="rename it, or remove it")
    if entry.kind == CHARACTER and not entry.major and not entry.minor:
        because = f"{name!r} is the {KINDS[CHARACTER]} 0:0, which overlayfs takes for a removed file"
        raise CtkError(doing, because=because, hint="remove it")
    if any(key.startswith(_OVERLAY) for key in entry.xattrs):
        entry.xattrs = {key: value for key, value in entry.xattrs.items() if not key.startswith(_OVERLAY)}
    return entry


def check_mounts(rootfd: int, doing: str) -> None:
    """Raise CtkError if there is a mount below the folder, as /proc is in a root that somebody works in."""
    try:
        top = os.readlink(f"/proc/self/fd/{rootfd}").rstrip("/") + "/"
        points = [mount[3] for mount in mountinfo.mounts(mountinfo.read())]
    except OSError as error:
        raise CtkError(doing, because=reason_and_path(error)) from None
    inside = sorted({point for point in points if point.startswith(top) and point != top})
    if inside:
        more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
        raise CtkError(doing, because=f"there is a mount in it, {inside[0]!r}{more}", hint="unmount it first")


def _compressed(segments: Iterator[bytes], codec: str) -> Iterable[bytes]:
    if codec == PLAIN:
        return segments
    return streams.side_by_side(streams.zstd_frame if codec == ZSTD else _gzip_member(), segments)


@functools.cache
def _gzip_member() -> Callable[[bytes], bytes]:
    """What makes a gzip member (RFC 1952) without name and time of a segment."""
    try:
        from isal import isal_zlib
    except ModuleNotFoundError:
        import zlib

        def member(segment: bytes) -> bytes:
            machine = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, 31)
            return machine.compress(segment) + machine.flush()

    else:

        def member(segment: bytes) -> bytes:
            machine = isal_zlib.compressobj(_ISAL_LEVEL, isal_zlib.DEFLATED, 31)
            return machine.compress(segment) + machine.flush()

    return member
