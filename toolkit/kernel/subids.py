"""Subordinate ids: the ids that a user may map into a user namespace besides its own (subuid(5), subgid(5))."""

import os

from toolkit.kernel.host import read

SUBUID = "/etc/subuid"
SUBGID = "/etc/subgid"

# Debian's `nobody` is 65534: a map that ends below it can't hold a Debian tree.
ENOUGH = 65535


def ranges(table: str, uid: int, name: str) -> "list[tuple[int, int]]":
    """(first, count) of each range that `table` gives to the user, by name or number, in the order of the table."""
    found = []
    for line in read(table, 1 << 20).splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[0] in (name, str(uid)) and words[1].isdigit() and words[2].isdigit():
            found.append((int(words[1]), int(words[2])))
    return found


def mapping(own: int, given: "list[tuple[int, int]]") -> "list[tuple[int, int, int]]":
    """The id map (inside, outside, count): 0 is the user's own id, 1 and up are the given ranges one after another."""
    lines = [(0, own, 1)]
    inside = 1
    for first, count in given:
        lines.append((inside, first, count))
        inside += count
    return lines


def of_caller() -> "tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]":
    """The uid map and the gid map that the caller may make; of one line each if too few ids or none are given."""
    uid, gid = os.getuid(), os.getgid()
    name = user_name(uid)
    uids, gids = ranges(SUBUID, uid, name), ranges(SUBGID, uid, name)
    if min(sum(count for _, count in uids), sum(count for _, count in gids)) < ENOUGH:
        uids = gids = []
    return mapping(uid, uids), mapping(gid, gids)


def alone() -> bool:
    """Whether this process's user namespace has only one id, so that no program in it can change its user."""
    lines = read("/proc/self/uid_map").splitlines()
    return len(lines) == 1 and lines[0].split()[2:] == ["1"]


def user_name(uid: int) -> str:
    """The user's name; "" if it has none. `pwd` is built into the interpreter: no slow import."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


_FIRST = 100_000  # SUB_UID_MIN and SUB_GID_MIN of login.defs(5)
_LAST = 0xFFFFFFFE


def missing(table: str, uid: int, name: str, wanted: int) -> "tuple[int, int] | None":
    """(first, last) of a free range that, added to `table`, gives the user's id map the inside id `wanted`.

    None if the map has it already, or if there is no such range.
    """
    count = wanted - sum(count for _, count in ranges(table, uid, name))
    first = _FIRST
    for line in read(table, 1 << 20).splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
            first = max(first, int(words[1]) + int(words[2]))
    return (first, first + count - 1) if count > 0 and first + count - 1 <= _LAST else None
