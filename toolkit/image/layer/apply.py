"""Layers become a tree (image-spec 1.1, layer.md), in one of two forms.

FLAT: all layers of an image onto one root. A whiteout removes what the layers below have, wherever it stands in its
layer; an opaque whiteout removes what they have in a folder. OVERLAY and USERXATTR: one layer as a folder for
overlayfs, which has whiteouts as character devices 0:0 and marks opaque folders by an attribute, trusted.overlay.opaque
or, for mounts with the option userxattr, user.overlay.opaque (Documentation/filesystems/overlayfs.rst).

A layer is a stranger's, and it is laid out while it comes: nothing counts before the last byte has been verified. What
was made is the caller's to remove if that fails.

Folders get their owners, modes, attributes and times at the very end. Until then a folder of mode 0 can be filled, new
files inherit no group and no ACL, and what a later layer puts into a folder does not change the folder's time.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from toolkit.archive.extract import Extractor
from toolkit.archive.streams import ahead
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import CtkError
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer.forms import FLAT, OVERLAY, USERXATTR
from toolkit.image.layer.members import NO_ROOM, Members
from toolkit.image.layer.policy import Owners, Policy, for_files
from toolkit.image.layer.read import Layer
from toolkit.image.layer.tree import Tree

__all__ = ["FLAT", "OVERLAY", "USERXATTR", "Facts", "LayerSource", "Policy", "flat", "one"]

_CHECK_BYTES = 64 << 20
_RESERVE_BYTES = 16 << 20
_POLICY = Policy()


class LayerSource(NamedTuple):
    """A layer to be laid out: its blob's bytes as they come, and what they have to be."""

    pieces: Iterable[bytes]
    descriptor: Descriptor
    diff_id: str


class Facts(NamedTuple):
    """What was laid out. Counts are of members, or of attributes; `plain_bytes` is the length of the tars.

    `implicit`: folders that no layer has a member for, so that their owner and mode are made up; with the form
    OVERLAY they hide those of the layers below. `whiteouts` counts the members that hide something.
    """

    layers: int
    members: int
    plain_bytes: int
    skipped_xattrs: int
    refused_xattrs: int
    skipped_devices: int
    squashed_owners: int
    implicit: tuple[bytes, ...]
    warnings: tuple[str, ...]
    whiteouts: int = 0


def flat(rootfd: int, layers: Iterable[LayerSource], policy: Policy = _POLICY) -> Facts:
    """Lay layers out onto the folder `rootfd`, the lowest first.

    The next layer is asked for when one is laid out. Raises CtkError (Untrusted, Malformed), and what the pieces raise.
    """
    with contextlib.closing(_Applier(rootfd, FLAT, policy)) as applier:
        for layer in layers:
            applier.layer(*layer)
        return applier.finish()


def one(
    rootfd: int,
    pieces: Iterable[bytes],
    descriptor: Descriptor,
    diff_id: str,
    form: str,
    policy: Policy = _POLICY,
    check_blob: Callable[[], None] | None = None,
) -> Facts:
    """Lay one layer out onto the folder `rootfd`, which must be empty unless `form` is FLAT. Raises as `flat`.

    `check_blob` as read.Layer takes it.
    """
    with contextlib.closing(_Applier(rootfd, form, policy)) as applier:
        applier.layer(pieces, descriptor, diff_id, check_blob)
        return applier.finish()


class _Applier:
    def __init__(self, rootfd: int, form: str, policy: Policy) -> None:
        doing = "lay out an image"
        self._rootfd = rootfd
        self._policy = policy
        self._tree = Tree(rootfd, doing, whiteouts=form != FLAT, limit_folders=policy.limit_folders)
        if form != FLAT and not self._tree.fresh:
            raise CtkError(doing, because="the folder for the layer is not empty")
        self._owners = Owners(policy.squash_ids, doing)
        self._extractor = Extractor(for_files(policy, rootfd, self._tree.fresh), doing)
        self._members = Members(self._tree, self._extractor, form, lenient=policy.lenient)
        self._layers = 0
        self._count = 0
        self._plain_bytes = 0

    def close(self) -> None:
        self._tree.close()

    def layer(
        self,
        pieces: Iterable[bytes],
        descriptor: Descriptor,
        diff_id: str,
        check_blob: Callable[[], None] | None = None,
    ) -> None:
        """Lay out one more layer."""
        doing = f"lay out the layer {descriptor.digest}"
        self._tree.doing = self._owners.doing = self._extractor.doing = doing
        self._check_room(descriptor.size_bytes)
        self._members.next_layer()
        layer = Layer(pieces, descriptor, diff_id, doing, self._policy.limit_bytes, check_blob)
        with contextlib.closing(ahead(layer)) as stream:
            self._lay_out(AnyTar(self._with_room(stream), f"the layer {descriptor.digest}", global_headers=False))
        if not layer.verified:
            raise AssertionError("the tar ended before its layer did")
        self._layers += 1
        self._plain_bytes += layer.plain_bytes

    def _lay_out(self, tar: AnyTar) -> None:
        put, owners, limit = self._members.put, self._owners, self._policy.limit_members
        count = 0
        for entry in tar:
            count += 1
            if count > limit:
                raise CtkError(self._extractor.doing, because=f"it has more than {limit} members")
            if not owners.all:
                owners.settle(entry)
            put(entry, tar)
        self._count += count

    def finish(self) -> Facts:
        """Finish the folders; what was laid out."""
        implicit = self._members.finish()
        extractor = self._extractor
        warnings = self._members.warnings()
        if extractor.refused_xattrs:
            warnings += (f"{extractor.refused_xattrs} extended attributes can't be set here",)
        return Facts(
            self._layers,
            self._count,
            self._plain_bytes,
            extractor.skipped_xattrs,
            extractor.refused_xattrs,
            extractor.left_out,
            self._owners.squashed,
            implicit,
            warnings,
            self._members.whiteouts,
        )

    def _with_room(self, stream: Iterator[bytes]) -> Iterator[bytes]:
        """The stream, as long as there is room for what is made of it."""
        unchecked = 0
        for piece in stream:
            unchecked -= len(piece)
            if unchecked < 0:
                unchecked = min(self._check_room(len(piece)), _CHECK_BYTES)
            yield piece

    def _check_room(self, size_bytes: int) -> int:
        """How many bytes more than these may be written: some are left, for it may be the host's own file system."""
        about = os.fstatvfs(self._rootfd)
        if not about.f_blocks:
            return _CHECK_BYTES  # it does not tell
        room = (about.f_bfree if os.geteuid() == 0 else about.f_bavail) * about.f_frsize
        if room < size_bytes + _RESERVE_BYTES:
            because = f"its file system has {room >> 20} MiB left"
            if size_bytes > _RESERVE_BYTES:
                because += f", and the compressed layer alone has {size_bytes >> 20}"
            raise CtkError(self._extractor.doing, because=because, hint=NO_ROOM)
        return room - size_bytes - _RESERVE_BYTES
