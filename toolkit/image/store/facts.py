"""Facts about the files of a laid-out tree, by which a change is seen later without a look at their content.

One record a path: mode, owner, links, size, device, time of the content and time of the inode, which no program can set
back (inode(7), ctime). So any change shows, and a copy of the tree does, too. Content that has changed below the file
system is not seen.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMES = ("mode", "owner", "group", "links", "size", "device", "time", "time of change")


class Tree(NamedTuple):
    """What `of` found: how many paths, what they take on the disk in bytes, and the records."""

    entries: int
    size_bytes: int
    records: bytes


def of(rootfd: int) -> Tree:
    """The facts about the tree below `rootfd`, which is at rest. Raises OSError."""
    records: list[bytes] = []
    blocks = 0
    counted: set[int] = set()
    for path, found in _walk(rootfd):
        records.append(b"%s/%s" % (_facts(found), path))
        if found.st_nlink == 1 or stat.S_ISDIR(found.st_mode) or found.st_ino not in counted:
            blocks += found.st_blocks
            if found.st_nlink > 1:
                counted.add(found.st_ino)
    return Tree(len(records), blocks * 512, b"\0".join(records))


def differences(rootfd: int, records: bytes, most: int = 10) -> list[str]:
    """What is different now from what `of` found, at most so many lines. Raises OSError."""
    before = dict(_parsed(records))
    told: list[str] = []
    for path, found in _walk(rootfd):
        was, now = before.pop(path, None), _facts(found)
        if was is None:
            told.append(f"{_shown(path)} is new")
        elif was != now:
            told.append(f"{_shown(path)}: {_difference(was, now)}")
        if len(told) == most:
            return told
    told += [f"{_shown(path)} is gone" for path in list(before)[: most - len(told)]]
    return told


def _walk(rootfd: int) -> Iterator[tuple[bytes, os.stat_result]]:
    """Each path and its status, in no particular order; the root is b"". Holds one descriptor a level."""
    yield b"", os.fstat(rootfd)
    stack: list[tuple[bytes, int, list[bytes]]] = []  # a folder's path, its descriptor, its folders still to do
    try:
        fd, above = os.open(".", _FOLDER, dir_fd=rootfd), b""
        while True:
            inner: list[bytes] = []
            stack.append((above, fd, inner))
            with os.scandir(fd) as entries:
                for entry in entries:
                    name, status = os.fsencode(entry.name), entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        inner.append(name)
                    yield above + name, status
            while stack and not stack[-1][2]:
                os.close(stack.pop()[1])
            if not stack:
                return
            above, fd, inner = stack[-1]
            name = inner.pop()
            above, fd = above + name + b"/", os.open(name, _FOLDER, dir_fd=fd)
    finally:
        for _, fd, _ in stack:
            os.close(fd)


def _facts(found: os.stat_result) -> bytes:
    return b"%o %d %d %d %d %d %d %d " % (
        found.st_mode, found.st_uid, found.st_gid, found.st_nlink, found.st_size, found.st_rdev, found.st_mtime_ns,
        found.st_ctime_ns,
    )  # fmt: skip


def _parsed(records: bytes) -> Iterator[tuple[bytes, bytes]]:
    for record in records.split(b"\0"):
        facts, _, path = record.partition(b"/")
        yield path, facts


def _difference(was: bytes, now: bytes) -> str:
    pairs = zip(_NAMES, was.decode().split(), now.decode().split(), strict=False)
    for at, (name, before, after) in enumerate(pairs):
        if before != after:
            return f"its {name} was {before}, and is {after}" if at < len(_NAMES) - 1 else "it was changed or copied"
    return "it was changed"


def _shown(path: bytes) -> str:
    return repr("/" + os.fsdecode(path))
