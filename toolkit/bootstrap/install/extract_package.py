"""Extracts one package into the tree: each member of its data.tar becomes a file, link, directory or node.

No symbolic link is followed out of the root: parents come from `Tree.open_directory` (resolved by the kernel inside the
root), and names within them are used with O_NOFOLLOW, O_EXCL or calls that never follow links.
"""

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from toolkit.archive import entries, tar_read
from toolkit.archive.extract import Extractor, Policy
from toolkit.bootstrap.install.path_filter import Skips
from toolkit.bootstrap.install.usrmerge import ALIASES
from toolkit.errors import Malformed

_OPEN_DIRECTORIES = 48  # kept open per package; the soft limit of descriptors is 1024 on most hosts
_NOBODY_ELSE = (b"", b"root")


@dataclass(frozen=True, slots=True)
class Directory:
    """The final attributes of a directory. If several packages ship it, the one with the lowest rank decides."""

    rank: int
    mode: int
    uid: int
    gid: int
    mtime_s: int


class Placed(NamedTuple):
    """A member that has been extracted."""

    path: bytes  # in the tree
    name: bytes  # in the package, as dpkg lists it, without the first slash
    kind: bytes
    made: Directory | None = None  # the attributes, for a directory
    spot: bytes = b""  # its name in the staging area (staging.py)


class Owned(NamedTuple):
    """A member that is owned, by name, by another user or group than root."""

    path: bytes  # in the tree
    kind: bytes
    mode: int
    uid: int
    gid: int
    uname: bytes
    gname: bytes


class Tree(Protocol):
    """The state that the packages of one tree share (tree.Tree)."""

    unclaimable: threading.Lock
    umask: int

    def place(self, name: bytes) -> bytes: ...
    def claim(self, path: bytes, position: int, name: bytes) -> bool: ...
    def owns(self, path: bytes, position: int) -> bool: ...
    def directory(self, path: bytes, made: Directory) -> None: ...
    def open_directory(self, path: bytes) -> int: ...


class PackageExtractor:
    """Extracts the members of one package."""

    def __init__(
        self,
        tree: Tree,
        position: int,
        what: str,
        conffiles: frozenset[bytes],
        skips: Skips | None = None,
        *,
        sums: bool = False,
    ) -> None:
        self.names: list[bytes] = []  # all but directories, as dpkg lists them, without the first slash
        self.placed: list[Placed] = []
        self.owned: list[Owned] = []
        self.digests: dict[str, str] = {}  # of conffiles: path and MD5
        self.sums: list[tuple[str, bytes]] = []  # MD5 and name of every file, if requested
        self.odd = False  # whether a name is written as a//b or a/./b, which dpkg lists like that
        self._tree = tree
        self._position = position
        self._what = what
        self._extractor = Extractor(Policy(umask=tree.umask), f"unpack {what}")
        self._conffiles = conffiles
        self._skips = skips
        self._sums: dict[bytes, str] | None = {} if sums else None
        self._listed: list[bytes] = []
        self._links: list[bytes] = []
        self._open: dict[bytes, int] = {}
        self._shipped: set[bytes] = set()

    @property
    def listed(self) -> list[bytes]:
        """The package's paths in the order of dpkg's list: links last, as dpkg makes them last (tarfn.c:
        tar_extractor)."""
        return self._listed + self._links

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def put(self, entry: entries.Entry, content: tar_read.Tar) -> None:
        """Extract one member. Raises Malformed, OSError."""
        name, shown = self._relative(entry.name)
        kind = entry.kind
        (self._links if kind == entries.SYMLINK else self._listed).append(b"/" + (shown or b"."))
        if kind != entries.DIRECTORY:
            self.names.append(shown)
        if self._skips is not None and name and self._skips(name, kind):
            return
        if kind == entries.DIRECTORY:
            self._directory(name, shown, entry)
            return
        if not name:
            raise self._refused(entry, "in the place of the root itself")
        # trixie's base-files ships the links of a merged /usr itself.
        path = name if kind == entries.SYMLINK and name in ALIASES else self._tree.place(name)
        self._shipped.add(path)
        if not self._claim(path, shown):
            return
        parent, last = self._spot(path)
        self.placed.append(Placed(path, shown, kind, None, last))
        self._note_owner(path, entry)
        if kind == entries.FILE:
            self._file(parent, last, path, name, entry, content)
            return
        if kind == entries.HARD_LINK:
            self._hard_link(path, entry)
            return
        if kind == entries.SYMLINK and not entry.link:
            raise self._refused(entry, "a link to nothing")
        if kind in (entries.CHARACTER, entries.BLOCK):
            if not self._in_dev(path):
                raise self._refused(entry, "a device outside of /dev")
            parent, last = self._spot(path)  # again: _in_dev may have closed it
        if self._make(lambda: self._extractor.new_node(parent, last, entry), parent, last, path):
            self._settle(parent, last, path, entry)

    def _claim(self, path: bytes, name: bytes) -> bool:
        return self._tree.claim(path, self._position, name)

    def _owns(self, path: bytes) -> bool:
        return self._tree.owns(path, self._position)

    def _spot(self, path: bytes) -> tuple[int, bytes]:
        """Where to make a file of this path: a descriptor of the folder, and the name in it."""
        above, _, last = path.rpartition(b"/")
        return self._parent(above), last

    def _note_owner(self, path: bytes, entry: entries.Entry) -> None:
        if entry.uname not in _NOBODY_ELSE or entry.gname not in _NOBODY_ELSE:
            self.owned.append(Owned(path, entry.kind, entry.mode, entry.uid, entry.gid, entry.uname, entry.gname))

    def _settle(self, parent: int, last: bytes, path: bytes, entry: entries.Entry) -> None:
        """Set owner, mode and times of something that has no descriptor."""
        # As soon as another package may claim the path it may put a link there, and chmod(2) would follow that.
        with self._tree.unclaimable:
            if not self._owns(path):
                return
            self._extractor.settle(parent, last, entry)

    def _in_dev(self, path: bytes) -> bool:
        """Whether the path is directly in the tree's own /dev. Through a node elsewhere a script could open a disk of
        the host."""
        if path.rpartition(b"/")[0] != b"dev":
            return False
        return stat.S_ISDIR(os.stat(b"dev", dir_fd=self._parent(b""), follow_symlinks=False).st_mode)

    def _relative(self, raw: bytes) -> tuple[bytes, bytes]:
        """The member's name as a path below the root, and as dpkg lists it.

        dpkg drops leading slashes and "./", and one trailing slash (path_skip_slash_dotslash, tar_extractor). The rest
        it leaves to the kernel, for which a//b and a/./b are a/b.
        """
        shown = raw
        while shown[:1] == b"/" or shown[:2] == b"./":
            shown = shown[1:]
        shown = shown.rstrip(b"/")
        words = shown.split(b"/")
        if b".." in words or b"\n" in shown or not raw:
            raise Malformed(
                f"unpack {self._what}", because=f"it ships {os.fsdecode(raw)!r}, which is not a path in a root"
            )
        if b"" not in words and b"." not in words:
            return shown, shown
        name = b"/".join(word for word in words if word not in (b"", b"."))
        self.odd = self.odd or bool(name)
        return name, shown

    def _parent(self, path: bytes) -> int:
        fd = self._open.get(path)
        if fd is None:
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._open[path] = self._tree.open_directory(path)
        return fd

    def _directory(self, name: bytes, shown: bytes, entry: entries.Entry) -> None:
        path = self._tree.place(name)
        rank = self._position
        if path != name and name in ALIASES:
            rank += 1 << 20  # ./bin decides about usr/bin only if no package ships ./usr/bin
        made = Directory(rank, entry.mode, entry.uid, entry.gid, entry.mtime_s)
        self._note_owner(path, entry)
        self.placed.append(Placed(path, shown, entry.kind, made))
        self._make_directory(path, made)

    def _make_directory(self, path: bytes, made: Directory) -> None:
        if path:
            above, _, last = path.rpartition(b"/")
            parent = self._parent(above)
            try:
                os.mkdir(last, 0o755, dir_fd=parent)
            except FileExistsError:
                if not self._is_directory(parent, last, path):
                    return
        self._tree.directory(path, made)

    def _is_directory(self, parent: int, last: bytes, path: bytes) -> bool:
        """Whether the existing file is a directory. False for a link to one, which dpkg leaves as it is."""
        found = os.stat(last, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return True
        if stat.S_ISLNK(found.st_mode):
            os.close(self._tree.open_directory(path))
            return False
        raise FileExistsError(errno.EEXIST, "a file is in the place of this directory", path)

    def _file(
        self, parent: int, last: bytes, path: bytes, name: bytes, entry: entries.Entry, content: tar_read.Tar
    ) -> None:
        opened: list[int] = []
        if not self._make(lambda: opened.append(self._extractor.new_file(parent, last, entry)), parent, last, path):
            return
        wanted = self._sums is not None or name in self._conffiles
        digest = hashlib.md5(usedforsecurity=False) if wanted else None
        pieces = content.pieces(entry)
        try:
            self._extractor.fill(opened[0], entry, _hashed(pieces, digest) if digest else pieces)
        finally:
            os.close(opened[0])
        if digest and name in self._conffiles:
            self.digests["/" + name.decode("utf-8", "surrogateescape")] = digest.hexdigest()
        if digest and self._sums is not None:
            self._sums[path] = digest.hexdigest()
            self.sums.append((self._sums[path], self.names[-1]))

    def _hard_link(self, path: bytes, entry: entries.Entry) -> None:
        """Link to an earlier file of the same package, with its owner, mode and times."""
        target = self._tree.place(self._relative(entry.link)[0])
        if target not in self._shipped:
            raise self._refused(entry, f"a hard link to {os.fsdecode(entry.link)!r}, which the package does not ship")
        if not self._owns(target):
            return  # a later package replaces that file
        if self._sums is not None and target in self._sums:
            self._sums[path] = self._sums[target]
            self.sums.append((self._sums[path], self.names[-1]))
        source, name = self._spot(target)
        parent, last = self._spot(path)  # again: opening the target's folder may have closed it
        if self._make(lambda: self._extractor.link(source, name, parent, last), parent, last, path):
            with self._tree.unclaimable:
                found = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISBLK(found) or stat.S_ISCHR(found):
                raise self._refused(entry, "a second name of a device")

    def _make(self, make: Callable[[], object], parent: int, last: bytes, path: bytes) -> bool:
        """Create the path with `make`; False if a package of another thread has claimed it meanwhile."""
        try:
            make()
        except FileExistsError:
            # The existing file is another package's. No one may claim the path between our check and our file, or we
            # would remove the winner's file. A loser with an earlier claim may still create it in between: try again.
            with self._tree.unclaimable:
                if not self._owns(path):
                    return False
                while True:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(last, dir_fd=parent)
                    with contextlib.suppress(FileExistsError):
                        make()
                        break
        return True

    def _refused(self, entry: entries.Entry, why: str) -> Malformed:
        return Malformed(f"unpack {self._what}", because=f"{os.fsdecode(entry.name)!r} is {why}")


def _hashed(pieces: Iterator[memoryview], digest: "hashlib._Hash") -> Iterator[memoryview]:
    for piece in pieces:
        digest.update(piece)
        yield piece
