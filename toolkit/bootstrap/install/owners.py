"""Owners by name. dpkg looks up the names in a data.tar in the tree's own passwd and group, and uses the numbers in
the archive only for a name that is unknown there (tar_entry_update_from_system in dpkg's tarfn.c).
"""

import contextlib
import os
from collections.abc import Iterable

from toolkit.archive import entries
from toolkit.bootstrap.install.extract_package import Owned
from toolkit.errors import SystemCall
from toolkit.kernel.beneath import O_PATH, open_beneath

_LIMIT_BYTES = 16 << 20


def differ(rootfd: int, owned: Iterable[Owned], *, may_change: bool) -> bool:
    """Whether any owner by name differs from that by number. With `may_change`, also whether a name is unknown."""
    users, groups = _numbers(rootfd, "etc/passwd"), _numbers(rootfd, "etc/group")
    for one in owned:
        for name, number, known in ((one.uname, one.uid, users), (one.gname, one.gid, groups)):
            found = known.get(name)
            if (found is None and may_change and name) or (found is not None and found != number):
                return True
    return False


def settle(rootfd: int, owned: Iterable[Owned]) -> None:
    """Set the owners of members in the tree by name. Raises OSError."""
    users, groups = _numbers(rootfd, "etc/passwd"), _numbers(rootfd, "etc/group")
    for one in owned:
        uid, gid = users.get(one.uname, one.uid), groups.get(one.gname, one.gid)
        if (uid, gid) != (one.uid, one.gid):
            _give(rootfd, one, uid, gid)


def _give(rootfd: int, one: Owned, uid: int, gid: int) -> None:
    above, _, last = one.path.rpartition(b"/")
    with contextlib.ExitStack() as undo:
        try:
            parent = open_beneath(rootfd, os.fsdecode(above), O_PATH | os.O_DIRECTORY)
        except SystemCall:
            return  # a script has removed it
        undo.callback(os.close, parent)
        if one.kind == entries.SYMLINK:
            with contextlib.suppress(FileNotFoundError):
                os.chown(last or b".", uid, gid, dir_fd=parent, follow_symlinks=False)
            return
        try:
            fd = os.open(last or b".", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except OSError:
            return  # it is gone, or replaced by something else
        undo.callback(os.close, fd)
        os.fchown(fd, uid, gid)
        os.fchmod(fd, one.mode)  # chown(2) clears the setuid bit


def _numbers(rootfd: int, path: str) -> dict[bytes, int]:
    """The names in passwd(5) or group(5), each with its number; of several entries the first, as in getpwnam(3)."""
    try:
        fd = open_beneath(rootfd, path, os.O_RDONLY | os.O_NONBLOCK)
    except SystemCall:
        return {}
    with open(fd, "rb") as file:
        data = file.read(_LIMIT_BYTES)
    found: dict[bytes, int] = {}
    for line in data.splitlines():
        fields = line.split(b":")
        # A script may have written the file. An id has at most ten digits, and 2^32 - 1 is not an id (chown(2)).
        if len(fields) > 2 and fields[2].isdigit() and len(fields[2]) < 11 and int(fields[2]) < 0xFFFFFFFF:
            found.setdefault(fields[0], int(fields[2]))
    return found
