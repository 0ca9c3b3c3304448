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
    name = _name(uid)
    uids, gids = ranges(SUBUID, uid, name), ranges(SUBGID, uid, name)
    if min(sum(count for _, count in uids), sum(count for _, count in gids)) < ENOUGH:
        uids = gids = []
    return mapping(uid, uids), mapping(gid, gids)


def alone() -> bool:
    """Whether this process's user namespace has only one id, so that no program in it can change its user."""
    lines = read("/proc/self/uid_map").splitlines()
    return len(lines) == 1 and lines[0].split()[2:] == ["1"]


def _name(uid: int) -> str:
    """The user's name; "" if it has none. `pwd` is built into the interpreter: no slow import."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
