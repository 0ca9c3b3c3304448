"""One package on its way into the tree: each member of its data.tar becomes a file, link, directory or node.

Nothing here follows a link: parents come from `Tree.open_directory` (resolved by the kernel inside the root), names
within them are used with O_NOFOLLOW, O_EXCL or calls that never follow.
"""

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from toolkit.bootstrap.path_filter import Skips
from toolkit.bootstrap.usrmerge import ALIASES
from toolkit.deb import tar
from toolkit.errors import Malformed

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIRECTORIES = 48  # kept open by one package; the soft limit of descriptors is 1024 on most hosts
_XATTRS = ("user.", "security.capability", "system.posix_acl_access", "system.posix_acl_default")


@dataclass(frozen=True, slots=True)
class Directory:
    """What a directory must look like in the end. The lowest rank decides."""

    rank: int
    mode: int
    uid: int
    gid: int
    mtime_s: int


class Tree(Protocol):
    """What the packages of one tree share (tree.Tree)."""

    unclaimable: threading.Lock
    umask: int

    def place(self, name: bytes) -> bytes: ...
    def claim(self, path: bytes, position: int) -> bool: ...
    def owns(self, path: bytes, position: int) -> bool: ...
    def directory(self, path: bytes, made: Directory) -> None: ...
    def open_directory(self, path: bytes) -> int: ...


class Layout:
    """One package on its way into the tree."""

    def __init__(
        self, tree: Tree, position: int, what: str, conffiles: frozenset[bytes], skips: Skips | None = None
    ) -> None:
        self.listed: list[bytes] = []  # as dpkg lists the package's paths
        self.placed: list[bytes] = []  # where they are in the tree; directories have a slash at their end
        self.digests: dict[str, str] = {}
        self._tree = tree
        self._position = position
        self._what = what
        self._conffiles = conffiles
        self._skips = skips
        self._open: dict[bytes, int] = {}
        self._shipped: set[bytes] = set()

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def put(self, entry: tar.Entry, content: tar.Tar) -> None:
        """Lay out one member. Raises Malformed, OSError."""
        name = self._relative(entry.name)
        self.listed.append(b"/" + (name or b"."))
        kind = entry.kind
        if self._skips is not None and name and self._skips(name, kind):
            return
        if kind == tar.DIRECTORY:
            self._directory(name, entry)
            return
        if not name:
            raise self._refused(entry, "it takes the place of the root itself")
        # trixie's base-files ships the links of a merged /usr itself.
        path = name if kind == tar.SYMLINK and name in ALIASES else self._tree.place(name)
        self._shipped.add(path)
        self.placed.append(path)
        if not self._tree.claim(path, self._position):
            return
        above, _, last = path.rpartition(b"/")
        parent = self._parent(above)
        if kind == tar.FILE:
            self._file(parent, last, path, name, entry, content)
            return
        if kind == tar.SYMLINK:
            if not entry.link:
                raise self._refused(entry, "a link to nothing")
            made = self._make(lambda: os.symlink(entry.link, last, dir_fd=parent), parent, last, path)
        elif kind == tar.HARD_LINK:
            made = self._hard_link(parent, last, path, entry)
            if made:
                return
        elif kind == tar.FIFO:
            made = self._make(lambda: os.mkfifo(last, 0o600, dir_fd=parent), parent, last, path)
        elif self._in_dev(path):
            parent = self._parent(above)  # to look may have closed it
            node = stat.S_IFBLK if kind == tar.BLOCK else stat.S_IFCHR
            device = os.makedev(entry.major, entry.minor)
            made = self._make(lambda: os.mknod(last, node | 0o600, device, dir_fd=parent), parent, last, path)
        else:
            raise self._refused(entry, "a device outside of /dev")
        if made:
            self._settle(parent, last, path, entry)

    def _settle(self, parent: int, last: bytes, path: bytes, entry: tar.Entry) -> None:
        """Give what has no descriptor its owner, mode and times."""
        # Another package may put a link in its place the moment that it may have the path, and chmod(2) follows it.
        with self._tree.unclaimable:
            if not self._tree.owns(path, self._position):
                return
            if entry.uid or entry.gid:
                os.chown(last, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
            if entry.kind != tar.SYMLINK:
                os.chmod(last, entry.mode, dir_fd=parent)
            os.utime(last, (entry.mtime_s, entry.mtime_s), dir_fd=parent, follow_symlinks=False)

    def _in_dev(self, path: bytes) -> bool:
        """Whether the path lies right in the tree's own /dev: elsewhere a script could open the host's disk by it."""
        if path.rpartition(b"/")[0] != b"dev":
            return False
        return stat.S_ISDIR(os.stat(b"dev", dir_fd=self._parent(b""), follow_symlinks=False).st_mode)

    def _relative(self, raw: bytes) -> bytes:
        """The member's name as a path below the root, without "./" before and "/" after it."""
        name = raw[2:] if raw.startswith(b"./") else raw
        name = name.rstrip(b"/")
        if name == b"." or (not name and raw in (b"./", b".")):
            return b""
        words = name.split(b"/")
        if b"" in words or b".." in words or b"." in words or b"\n" in name:
            raise Malformed(
                f"unpack {self._what}", because=f"it ships {os.fsdecode(raw)!r}, which is no path in a root"
            )
        return name

    def _parent(self, path: bytes) -> int:
        fd = self._open.get(path)
        if fd is None:
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._open[path] = self._tree.open_directory(path)
        return fd

    def _directory(self, name: bytes, entry: tar.Entry) -> None:
        path = self._tree.place(name)
        self.placed.append(path + b"/")
        rank = self._position
        if path != name and name in ALIASES:
            rank += 1 << 20  # ./bin counts for usr/bin only where no package ships ./usr/bin
        if path:
            above, _, last = path.rpartition(b"/")
            parent = self._parent(above)
            try:
                os.mkdir(last, 0o755, dir_fd=parent)
            except FileExistsError:
                if not self._is_directory(parent, last, path):
                    return
        self._tree.directory(path, Directory(rank, entry.mode, entry.uid, entry.gid, entry.mtime_s))

    def _is_directory(self, parent: int, last: bytes, path: bytes) -> bool:
        """Whether what has the directory's name is one; False for a link to one, which dpkg keeps as it is."""
        found = os.stat(last, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return True
        if stat.S_ISLNK(found.st_mode):
            os.close(self._tree.open_directory(path))
            return False
        raise FileExistsError(errno.EEXIST, "a file is in the place of this directory", path)

    def _file(self, parent: int, last: bytes, path: bytes, name: bytes, entry: tar.Entry, content: tar.Tar) -> None:
        mode = entry.mode & 0o777
        opened: list[int] = []
        if not self._make(lambda: opened.append(os.open(last, _NEW_FILE, mode, dir_fd=parent)), parent, last, path):
            return
        fd = opened[0]
        try:
            digest = hashlib.md5(usedforsecurity=False) if name in self._conffiles else None
            for piece in content.pieces(entry):
                if digest:
                    digest.update(piece)
                written = os.write(fd, piece)
                while written < len(piece):
                    written += os.write(fd, piece[written:])
            if digest:
                self.digests["/" + name.decode("utf-8", "surrogateescape")] = digest.hexdigest()
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)
            elif entry.mode != mode & ~self._tree.umask:
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                for attribute, value in self._xattrs(entry):
                    os.setxattr(fd, attribute, value)
            os.utime(fd, (entry.mtime_s, entry.mtime_s))
        finally:
            os.close(fd)

    def _xattrs(self, entry: tar.Entry) -> Iterator[tuple[str, bytes]]:
        for name, value in (entry.xattrs or {}).items():
            if not name.startswith(_XATTRS):
                raise self._refused(entry, f"the extended attribute {name!r}")
            yield name, value

    def _hard_link(self, parent: int, last: bytes, path: bytes, entry: tar.Entry) -> bool:
        """Link to an earlier file of the same package; True if it was made (it has that file's mode and times)."""
        target = self._tree.place(self._relative(entry.link))
        if target not in self._shipped:
            raise self._refused(entry, f"a hard link to {os.fsdecode(entry.link)!r}, which the package does not ship")
        if not self._tree.owns(target, self._position):
            return False  # a later package replaces that file
        above, _, name = target.rpartition(b"/")
        source = self._parent(above)
        if self._open.get(path.rpartition(b"/")[0]) != parent:  # opening the one has closed the other
            parent = self._parent(path.rpartition(b"/")[0])
        made = self._make(
            lambda: os.link(name, last, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
            parent,
            last,
            path,
        )
        if made:
            with self._tree.unclaimable:
                found = os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISBLK(found) or stat.S_ISCHR(found):
                raise self._refused(entry, "a second name of a device")
        return made

    def _make(self, make: Callable[[], None], parent: int, last: bytes, path: bytes) -> bool:
        """Make something that isn't there yet; False if a later package has taken the place meanwhile."""
        try:
            make()
        except FileExistsError:
            # What is there is another package's. Nobody may claim the path between our look and our file, or we would
            # take the winner's away; a loser that claimed it before may still come in between, hence the second turn.
            with self._tree.unclaimable:
                if not self._tree.owns(path, self._position):
                    return False
                while True:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(last, dir_fd=parent)
                    with contextlib.suppress(FileExistsError):
                        make()
                        break
        return True

    def _refused(self, entry: tar.Entry, why: str) -> Malformed:
        return Malformed(f"unpack {self._what}", because=f"{os.fsdecode(entry.name)!r} is {why}")
