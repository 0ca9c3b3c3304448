"""Subordinate ids: which ids a user may map into a user namespace beside the own one (subuid(5), subgid(5))."""

import os

from toolkit.kernel.host import read

SUBUID = "/etc/subuid"
SUBGID = "/etc/subgid"

# Debian's `nobody` is 65534: a map that ends below it can't hold a Debian tree.
ENOUGH = 65535


def ranges(table: str, uid: int, name: str) -> "list[tuple[int, int]]":
    """(first, count) of every range that `table` gives to the user, by name or number, in its order."""
    found = []
    for line in read(table, 1 << 20).splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[0] in (name, str(uid)) and words[1].isdigit() and words[2].isdigit():
            found.append((int(words[1]), int(words[2])))
    return found


def mapping(own: int, given: "list[tuple[int, int]]") -> "list[tuple[int, int, int]]":
    """The id map (inside, outside, count) with 0 as the own id and 1… as the given ranges, one after another."""
    lines = [(0, own, 1)]
    inside = 1
    for first, count in given:
        lines.append((inside, first, count))
        inside += count
    return lines


def of_caller() -> "tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]":
    """The uid and the gid map that the caller may make; of one line each where nothing is given, or too little."""
    uid, gid = os.getuid(), os.getgid()
    name = _name(uid)
    uids, gids = ranges(SUBUID, uid, name), ranges(SUBGID, uid, name)
    if min(sum(count for _, count in uids), sum(count for _, count in gids)) < ENOUGH:
        uids = gids = []
    return mapping(uid, uids), mapping(gid, gids)


def alone() -> bool:
    """Whether this process's user namespace has one id only, so that no program in it can become another user."""
    lines = read("/proc/self/uid_map").splitlines()
    return len(lines) == 1 and lines[0].split()[2:] == ["1"]


def _name(uid: int) -> str:
    """The user's name; "" if none is known. `pwd` is in the interpreter's core: no slow import."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
