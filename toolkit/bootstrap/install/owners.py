"""Owners by name: dpkg looks up the names of a data.tar in the tree's own passwd and group, and takes the archive's
numbers only where a name is unknown there (tar_entry_update_from_system in dpkg's tarfn.c).
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
    """Whether a member's owner by name is another one than by number; with `may_change` also if a name is unknown."""
    users, groups = _numbers(rootfd, "etc/passwd"), _numbers(rootfd, "etc/group")
    for one in owned:
        for name, number, known in ((one.uname, one.uid, users), (one.gname, one.gid, groups)):
            found = known.get(name)
            if (found is None and may_change and name) or (found is not None and found != number):
                return True
    return False


def settle(rootfd: int, owned: Iterable[Owned]) -> None:
    """Give members that lie in the tree the owners that they have by name. Raises OSError."""
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
            return  # it is gone, or something else by now
        undo.callback(os.close, fd)
        os.fchown(fd, uid, gid)
        os.fchmod(fd, one.mode)  # chown(2) takes the setuid bit away


def _numbers(rootfd: int, path: str) -> dict[bytes, int]:
    """The names of passwd(5) or group(5), and the number of each; the first entry counts, as in getpwnam(3)."""
    try:
        fd = open_beneath(rootfd, path, os.O_RDONLY | os.O_NONBLOCK)
    except SystemCall:
        return {}
    with open(fd, "rb") as file:
        data = file.read(_LIMIT_BYTES)
    found: dict[bytes, int] = {}
    for line in data.splitlines():
        fields = line.split(b":")
        # A script may have written the file: no id is longer, and the last one of 32 bits is none (chown(2)).
        if len(fields) > 2 and fields[2].isdigit() and len(fields[2]) < 11 and int(fields[2]) < 0xFFFFFFFF:
            found.setdefault(fields[0], int(fields[2]))
    return found
