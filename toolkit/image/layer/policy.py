"""What is kept of a stranger's layer: owners, device nodes, attributes, and how much of each."""

import os
from typing import NamedTuple

from toolkit.archive import extract
from toolkit.archive.entries import DIRECTORY, FILE, Entry
from toolkit.archive.extract import SKIP, TRY
from toolkit.errors import CtkError
from toolkit.image.layer.read import LIMIT_BYTES
from toolkit.kernel import subids
from toolkit.kernel.host import read

MEMBERS, FOLDERS = 4_000_000, 500_000
_NOTE = "user.rootlesscontainers"
_ALL_IDS = 0xFFFFFFFF
_DEFAULT_ACL = "system.posix_acl_default"


class Policy(NamedTuple):
    """The caller's choices.

    `squash_ids`: a file whose owner this user namespace does not have is laid out as ours, and its owner noted in the
    attribute user.rootlesscontainers; otherwise it is an error.
    `devices`: make device nodes, if we may; otherwise they are skipped and counted.
    `lenient`: of several members with one path in a layer the last is taken; otherwise it is an error, as layer.md
    forbids them ("Representing Changes").
    """

    squash_ids: bool = False
    devices: bool = False
    lenient: bool = False
    limit_bytes: int = LIMIT_BYTES  # of one layer's tar
    limit_members: int = MEMBERS  # of one layer
    limit_folders: int = FOLDERS  # of one tree: what they get in the end is kept in memory, 0.5 KiB each


def for_files(policy: Policy, rootfd: int, fresh: bool) -> extract.Policy:
    """How the files are made below `rootfd`; `fresh`: the folder is empty."""
    return extract.Policy(
        refuse_xattrs=False,
        never_xattrs=("user.overlay.",),  # to overlayfs with userxattr they are whiteouts, redirects, opaque folders
        lenient_xattrs=True,
        devices=TRY if policy.devices and os.geteuid() == 0 else SKIP,
        umask=_umask() if fresh and os.geteuid() == 0 and not _hands_down(rootfd) else None,
    )


def _umask() -> int | None:
    """Ours, without setting it for other threads; None if the kernel does not tell."""
    for line in read("/proc/self/status").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return None


def _hands_down(fd: int) -> bool:
    """Whether a new file in the folder gets the folder's group or default ACL."""
    return bool(os.fstat(fd).st_mode & 0o2000) or _DEFAULT_ACL in os.listxattr(fd)


class Owners:
    """Which owners can be given to files here."""

    def __init__(self, squash: bool, doing: str) -> None:
        self._squash = squash
        self.doing = doing
        self._own = os.geteuid(), os.getegid()
        self._uids = _held("/proc/self/uid_map", self._own[0])
        self._gids = _held("/proc/self/gid_map", self._own[1])
        self.all = (0, _ALL_IDS) in self._uids and (0, _ALL_IDS) in self._gids
        self._known: set[tuple[int, int]] = set()
        self.squashed = 0

    def settle(self, entry: Entry) -> None:
        """See to it that the owner of `entry` can be given. Raises CtkError."""
        owner = entry.uid, entry.gid
        if owner in self._known:
            return
        uid, gid = _has(self._uids, entry.uid), _has(self._gids, entry.gid)
        if uid and gid:
            self._known.add(owner)
        elif not self._squash:
            raise self._beyond(entry, uid)
        else:
            self._make_ours(entry)

    def _make_ours(self, entry: Entry) -> None:
        if (entry.uid, entry.gid) != (0, 0):
            self.squashed += 1
            if entry.kind in (FILE, DIRECTORY):  # the others have no user.* attributes
                entry.xattrs = {**entry.xattrs, _NOTE: note(entry.uid, entry.gid)}
        entry.uid, entry.gid = self._own
        entry.mode &= ~0o6000  # it would be setuid to us

    def _beyond(self, entry: Entry, uid_is_held: bool) -> CtkError:
        name = os.fsdecode(entry.name)
        kind, held = ("group", self._gids) if uid_is_held else ("user", self._uids)
        number = entry.gid if uid_is_held else entry.uid
        holds = ", ".join(f"{first}-{first + count - 1}" if count > 1 else str(first) for first, count in held)
        squash = "--squash-ids lays such files out as your own and notes their owners"
        if os.geteuid() != 0:
            because = f"{name!r} belongs to {kind} {number}, and an ordinary user can't give files away"
            return CtkError(self.doing, because=because, hint=f"run it as root; or: {squash}")
        because = f"{name!r} belongs to {kind} {number}, and this user namespace holds only {holds}"
        command = usermod(entry.uid, entry.gid)
        return CtkError(
            self.doing, because=because, hint=f"run `{command}` and try again; or: {squash}" if command else squash
        )


def usermod(uid: int, gid: int) -> str:
    """The command that gives the user outside enough subordinate ids for a user namespace with `uid` and `gid`.

    "" if there are enough already, so that the namespace was made without them, or if nobody can have as many.
    """
    outside = int((read("/proc/self/uid_map").split() or ["0"] * 2)[1])
    name = subids.user_name(outside)
    parts = []
    for option, table, wanted in (("--add-subuids", subids.SUBUID, uid), ("--add-subgids", subids.SUBGID, gid)):
        missing = subids.missing(table, outside, name, wanted)
        if missing is not None:
            parts.append(f"{option} {missing[0]}-{missing[1]}")
    return " ".join(["usermod", *parts, name or str(outside)]) if parts else ""


def _held(path: str, own: int) -> list[tuple[int, int]]:
    """(first, count) of the ids that we may give to a file."""
    if os.geteuid() != 0:
        return [(own, 1)]
    lines = [line.split() for line in read(path).splitlines()]
    return [(int(words[0]), int(words[2])) for words in lines if len(words) == 3]


def _has(held: list[tuple[int, int]], number: int) -> bool:
    return any(first <= number < first + count for first, count in held)


def note(uid: int, gid: int) -> bytes:
    """The value of user.rootlesscontainers: a protobuf message with the fields uid = 1 and gid = 2.

    Source: rootlesscontainers/proto, Resource; umoci and others read it.
    """
    return b"".join(bytes([field << 3]) + _varint(value) for field, value in ((1, uid), (2, gid)) if value)


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)
