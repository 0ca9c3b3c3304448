"""Find the place of each member of a tar file, so that its content can be read in place and in any order.

Only headers are read; contents are skipped. For archives that are tables of named files (an image's), not trees: a name
that readers could understand in different ways is refused, and so is one that occurs twice.
"""

import os
from collections.abc import Collection, Iterator
from typing import NamedTuple

from toolkit.archive.entries import DIRECTORY, FILE, HARD_LINK, KINDS
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import Malformed

_BLOCK_BYTES = 1 << 13
_MOST_MEMBERS = 1 << 16
_LONGEST_NAME = 512  # a name with a sha512 digest has 141


class Place(NamedTuple):
    """A member: its kind (entries.KINDS), a file's place of the content, a symlink's target."""

    kind: bytes
    offset: int
    size_bytes: int
    link: str


class _Jumping(AnyTar):
    """As AnyTar, for a file that can be read at any offset."""

    __slots__ = ("_end", "_fd", "_next")

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._next = 0
        self._end = os.fstat(fd).st_size
        super().__init__(self._blocks(), what)

    def _blocks(self) -> Iterator[bytes]:
        while block := os.pread(self._fd, _BLOCK_BYTES, self._next):
            self._next += len(block)
            yield block

    @property
    def offset(self) -> int:
        """The current offset in the file."""
        return self._next - (len(self._block) - self._position)

    @property
    def is_sparse(self) -> bool:
        """Whether the current member's content is stored with holes."""
        return self._parts is not None

    def _skip(self) -> None:
        ahead = self._left - (len(self._block) - self._position)
        if ahead <= 0:
            self._position += self._left
        else:
            self._block, self._position = b"", 0
            self._next += ahead
            if self._next > self._end:
                raise self._malformed("ends in the middle")
        self._left = 0

    def _drain(self) -> None:
        """Does nothing: what follows the end mark is not read."""


def places(fd: int, what: str, marks: Collection[str]) -> dict[str, Place]:
    """The members of the tar in the file `fd`, by name: without `./` in front, and without a folder's last slash.

    Names are decoded with os.fsdecode. If none of the names `marks` is there, the archive is of another kind, and
    members that would be refused are only left out. Raises Malformed, whose message begins with `what`; OSError.
    """
    found: dict[str, Place] = {}
    problem = ""
    tar = _Jumping(fd, what)
    for entry in tar:
        name = os.fsdecode(entry.name).removeprefix("./").removesuffix("/")
        if name in ("", ".") and entry.kind == DIRECTORY:
            continue
        because = ""
        if len(name) > _LONGEST_NAME:
            because = f"the name {name[:40]!r}… is too long"
        elif any(word in ("", ".", "..") for word in name.split("/")):
            because = f"the name {os.fsdecode(entry.name)!r} leads out of it, or can be read in two ways"
        elif name in found and (entry.kind, found[name].kind) != (DIRECTORY, DIRECTORY):
            because = f"it has {name!r} twice"
        elif entry.kind == HARD_LINK or entry.kind not in KINDS:
            because = f"{name!r} is a {KINDS.get(entry.kind, 'member of an unknown type')}"
        elif entry.kind == FILE and tar.is_sparse:
            because = f"{name!r} is stored with holes"
        elif len(found) >= _MOST_MEMBERS and name not in marks:
            because = f"it has more than {_MOST_MEMBERS} members"
        if because:
            problem = problem or because
            continue
        size = entry.size_bytes if entry.kind == FILE else 0
        found[name] = Place(entry.kind, tar.offset, size, os.fsdecode(entry.link))
    if problem and any(mark in found for mark in marks):
        raise Malformed(f"read {what}", because=problem, hint="write it again with a program that makes images")
    return found
