"""Make what the members of an archive are, one at a time, in a directory that the caller has opened.

Where a member goes is for the caller to say: the parent is a descriptor, the name is one word. Nothing here resolves a
path, and nothing follows a symbolic link, not even one that somebody puts there meanwhile. A `Policy` says what a
member may bring with it. Directories get their owners, modes and times at the end (`finish`), when nothing is made in
them any more.

What a caller does before a member is made stays with it: dpkg's claims (bootstrap/install), the renaming of `cp`. An
image layer's whiteouts belong there as well: they take away, and make nothing.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from toolkit.archive.entries import BLOCK, CHARACTER, FIFO, FILE, SYMLINK, XATTRS, Entry
from toolkit.errors import CtkError, Malformed

MAKE, TRY, SKIP = "make", "try", "skip"  # device nodes: or fail, or leave out, or always leave out

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_THE_ENTRY_ITSELF = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_UNOWNED = 0o1777  # without its owner a setuid file would be ours: a stranger's program with our rights

T = TypeVar("T")


class Policy(NamedTuple):
    """What members bring with them.

    A umask says that the tree is made from nothing by root, with that umask: what is as it has to be from the start is
    not set once more. None takes nothing for granted.
    """

    owners: bool = True  # without them a file has no setuid and setgid bits
    lenient: bool = False  # an owner or attribute that can't be given is left out; else it is an OSError
    xattrs: tuple[str, ...] = XATTRS  # how the names begin of those that are set
    refuse_xattrs: bool = True  # the others are Malformed; else they are left out
    devices: str = MAKE
    replace: bool = False  # whatever has the name but a directory; else it is a FileExistsError
    check_size: bool = False  # a file longer than its file system is refused
    umask: int | None = None


class Extractor:
    """Makes members by one policy. `doing` begins each message: "unpack bash 5.2"."""

    def __init__(self, policy: Policy, doing: str) -> None:
        self.policy = policy
        self.doing = doing
        self.left_out = 0  # device nodes

    def put(self, parent: int, name: bytes | str, entry: Entry, pieces: Iterable[bytes | memoryview]) -> bool:
        """Make a member that is no directory and no hard link; False for a device that is left out.

        Raises OSError, Malformed, CtkError, and what `pieces` raises.
        """
        if entry.kind == FILE:
            fd = self.new_file(parent, name, entry)
            try:
                self.fill(fd, entry, pieces)
            finally:
                os.close(fd)
            return True
        if not self.new_node(parent, name, entry):
            return False
        self.settle(parent, name, entry)
        return True

    def new_file(self, parent: int, name: bytes | str, entry: Entry) -> int:
        """A new file of this name, to be filled and closed."""
        if self.policy.check_size:
            self.check_size(parent, entry)
        # Until it belongs to its owner, it is nobody else's to read.
        mode = 0o600 if self.policy.umask is None else entry.mode & 0o777
        return self._make(parent, name, lambda: os.open(name, _NEW_FILE, mode, dir_fd=parent))

    def fill(self, fd: int, entry: Entry, pieces: Iterable[bytes | memoryview]) -> None:
        """Write the content, then `finish`."""
        for piece in pieces:
            written = os.write(fd, piece)
            while written < len(piece):
                written += os.write(fd, piece[written:])
        self.finish(fd, entry, made_as=entry.mode & 0o777)

    def finish(self, fd: int, entry: Entry, *, made_as: int | None = None) -> None:
        """Give an open file or directory its owner, mode, attributes and time.

        `made_as`: the mode that it was made with now, before the umask; None if it may have any.
        """
        mode = self._mode(fd, entry)
        umask = self.policy.umask
        if made_as is None or umask is None or mode != made_as & ~umask:
            os.fchmod(fd, mode)
        if entry.xattrs:
            self._attributes(fd, entry)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def new_node(self, parent: int, name: bytes | str, entry: Entry) -> bool:
        """Make a symbolic link, a fifo or a device; False for a device that is left out."""
        kind = entry.kind
        if kind == SYMLINK:
            self._make(parent, name, lambda: os.symlink(entry.link, os.fsencode(name), dir_fd=parent))
            return True
        node = _NODES.get(kind)
        if node is None:
            raise Malformed(self.doing, because=f"{os.fsdecode(entry.name)!r} is of a kind that no tree holds")
        device = 0 if kind == FIFO else os.makedev(entry.major, entry.minor)
        if kind != FIFO and self.policy.devices == SKIP:
            self.left_out += 1
            return False
        try:
            self._make(parent, name, lambda: os.mknod(name, node | 0o600, device, dir_fd=parent))
        except PermissionError:
            if kind == FIFO or self.policy.devices != TRY:
                raise
            self.left_out += 1
            return False
        return True

    def settle(self, parent: int, name: bytes | str, entry: Entry) -> None:
        """Give what `new_node` has made its owner, mode, attributes and time."""
        times = (entry.mtime_ns, entry.mtime_ns)
        if entry.kind == SYMLINK:
            if self.policy.owners:
                self._own(name, entry, parent, follow=False)
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
            return
        # chmod(2) follows a link that has been put in its place: it is opened as it is, and looked at.
        fd = os.open(name, _THE_ENTRY_ITSELF, dir_fd=parent)
        try:
            found = os.fstat(fd)
            device = 0 if entry.kind == FIFO else os.makedev(entry.major, entry.minor)
            if stat.S_IFMT(found.st_mode) != _NODES[entry.kind] or found.st_rdev != device:
                raise OSError(errno.ESTALE, "it was replaced while it was made", os.fsdecode(name))
            where = f"/proc/self/fd/{fd}"
            os.chmod(where, self._mode(where, entry))
            if entry.xattrs:
                self._attributes(where, entry)
            os.utime(where, ns=times)
        finally:
            os.close(fd)

    def link(self, source: int, target: bytes | str, parent: int, name: bytes | str) -> None:
        """Make `name` in `parent` one more name of `target` in `source`, which is not followed if it is a link."""
        self._make(
            parent,
            name,
            lambda: os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
        )

    def check_size(self, fd: int, entry: Entry) -> None:
        """Refuse a file that is longer than the whole file system of `fd`: it may be all holes, which cost nothing."""
        about = os.fstatvfs(fd)
        whole = about.f_blocks * about.f_frsize
        if 0 < whole < entry.size_bytes:
            file = f"{os.fsdecode(entry.name)!r} has {entry.size_bytes} bytes"
            raise CtkError(self.doing, because=f"{file}, and the file system that it would go to {whole}")

    def _make(self, parent: int, name: bytes | str, make: Callable[[], T]) -> T:
        try:
            return make()
        except FileExistsError:
            if not self.policy.replace:
                raise
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        return make()

    def _mode(self, where: int | str, entry: Entry) -> int:
        """Give it its owner; the mode that it has to get afterwards, for chown(2) takes setuid bits away."""
        owned = self.policy.owners and self._own(where, entry)
        return entry.mode if owned else entry.mode & _UNOWNED

    def _own(self, where: int | bytes | str, entry: Entry, parent: int | None = None, *, follow: bool = True) -> bool:
        """Whether it has its owner now. An id that the user namespace doesn't have is EINVAL, a stranger's EPERM."""
        if self.policy.umask is not None and entry.uid == 0 and entry.gid == 0:
            return True
        try:
            os.chown(where, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=follow)
        except OSError:
            if not self.policy.lenient:
                raise
            return False
        return True

    def _attributes(self, where: int | str, entry: Entry) -> None:
        policy = self.policy
        for name, value in entry.xattrs.items():
            if name.startswith(policy.xattrs):
                try:
                    os.setxattr(where, name, value)
                except OSError:
                    if not policy.lenient:
                        raise
            elif policy.refuse_xattrs:
                raise Malformed(self.doing, because=f"{os.fsdecode(entry.name)!r} has the extended attribute {name!r}")
