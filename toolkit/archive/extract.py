"""Extract the members of an archive, one at a time, into a directory that the caller has opened.

The caller says where a member goes: the parent is a descriptor, the name a single component. Nothing here resolves a
path or follows a symbolic link, not even one that somebody puts there meanwhile. A `Policy` says which owners, devices
and attributes are kept. Directories get their owners, modes and times at the end (`finish`), when nothing more is made
in them.

What must be done before a member is made is up to the caller: dpkg's claims on paths (bootstrap/install), the renaming
of `cp`. An image layer's whiteouts belong there too: they remove something and make nothing.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from toolkit.archive.entries import BLOCK, CHARACTER, FIFO, FILE, SYMLINK, XATTRS, Entry, Hole
from toolkit.errors import CtkError, Malformed

MAKE, TRY, SKIP = "make", "try", "skip"  # device nodes: make or fail, make or skip, always skip

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_THE_ENTRY_ITSELF = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK, FIFO: stat.S_IFIFO}
_NO_XATTR = (errno.ENOTSUP, errno.EPERM)
_UNOWNED = 0o1777  # a setuid file that did not get its owner would be ours: an untrusted program with our rights

T = TypeVar("T")


class Policy(NamedTuple):
    """Which properties of a member are kept, and what happens to those that can't be.

    `umask` not None means that root makes a new tree with that umask: owners and modes that are already right when a
    file is made are not set again. With None nothing is taken for granted.
    """

    owners: bool = True  # without owners a file has no setuid and setgid bits
    lenient: bool = False  # an owner or attribute that can't be set is skipped; else it is an OSError
    xattrs: tuple[str, ...] = XATTRS  # prefixes of the names that are set
    refuse_xattrs: bool = True  # other names are Malformed; else they are skipped
    never_xattrs: tuple[str, ...] = ()  # prefixes of names that are skipped although `xattrs` has them
    lenient_xattrs: bool = False  # an attribute is skipped if the file system or our rights don't allow it
    devices: str = MAKE
    replace: bool = False  # replace an existing file (not a directory); else it is a FileExistsError
    check_size: bool = False  # a file longer than its file system is refused
    umask: int | None = None


class Extractor:
    """Makes members by one policy. Each error message begins with `doing`, as in "unpack bash 5.2"."""

    def __init__(self, policy: Policy, doing: str) -> None:
        self.policy = policy
        self.doing = doing
        self.left_out = 0  # device nodes that were skipped
        self.skipped_xattrs = 0  # by the policy
        self.refused_xattrs = 0  # by the kernel

    def put(self, parent: int, name: bytes | str, entry: Entry, pieces: Iterable[bytes | memoryview | Hole]) -> bool:
        """Make a member that is neither a directory nor a hard link; False for a device that is skipped.

        Raises OSError, Malformed, CtkError, and whatever `pieces` raises.
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
        """Create a file of this name; the caller fills and closes it."""
        if self.policy.check_size:
            self.check_size(parent, entry)
        # Until it has its owner, nobody else may read it.
        mode = 0o600 if self.policy.umask is None else entry.mode & 0o777
        return self._make(parent, name, lambda: os.open(name, _NEW_FILE, mode, dir_fd=parent))

    def fill(self, fd: int, entry: Entry, pieces: Iterable[bytes | memoryview | Hole]) -> None:
        """Write the content to the empty file, holes as holes; then `finish`."""
        end = -1  # of the content, if nothing is written there
        for piece in pieces:
            if isinstance(piece, Hole):
                end = os.lseek(fd, piece.size_bytes, os.SEEK_CUR)
                continue
            end = -1
            written = os.write(fd, piece)
            while written < len(piece):
                written += os.write(fd, piece[written:])
        if end >= 0:
            os.ftruncate(fd, end)
        self.finish(fd, entry, made_as=entry.mode & 0o777)

    def finish(self, fd: int, entry: Entry, *, made_as: int | None = None) -> None:
        """Set the owner, mode, attributes and time of an open file or directory.

        `made_as`: the mode that it was just created with, before the umask; None if its mode is not known.
        """
        mode = self._mode(fd, entry)
        umask = self.policy.umask
        if made_as is None or umask is None or mode != made_as & ~umask:
            os.fchmod(fd, mode)
        if entry.xattrs:
            self._attributes(fd, entry)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def new_node(self, parent: int, name: bytes | str, entry: Entry) -> bool:
        """Make a symbolic link, a fifo or a device; False for a device that is skipped."""
        kind = entry.kind
        if kind == SYMLINK:
            self._make(parent, name, lambda: os.symlink(entry.link, os.fsencode(name), dir_fd=parent))
            return True
        node = _NODES.get(kind)
        if node is None:
            raise Malformed(self.doing, because=f"{os.fsdecode(entry.name)!r} is of an unknown type")
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
        """Set the owner, mode, attributes and time of what `new_node` has made."""
        times = (entry.mtime_ns, entry.mtime_ns)
        if entry.kind == SYMLINK:
            if self.policy.owners:
                self._own(name, entry, parent, follow=False)
            self.skipped_xattrs += len(entry.xattrs)  # none that is kept exists on a symbolic link (xattr(7))
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
            return
        # chmod(2) would follow a link put in its place, so open it without following and check what it is.
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
        """Hard-link `target` in `source` as `name` in `parent`; a `target` that is a symbolic link is not followed."""
        self._make(
            parent,
            name,
            lambda: os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False),
        )

    def check_size(self, fd: int, entry: Entry) -> None:
        """Refuse a file that is longer than the whole file system of `fd`: it may be all holes, which take no space."""
        about = os.fstatvfs(fd)
        whole = about.f_blocks * about.f_frsize
        if 0 < whole < entry.size_bytes:
            file = f"{os.fsdecode(entry.name)!r} has {entry.size_bytes} bytes"
            raise CtkError(self.doing, because=f"{file}, but its file system has only {whole}")

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
        """Set its owner; returns the mode to set afterwards, because chown(2) clears setuid bits."""
        owned = self.policy.owners and self._own(where, entry)
        return entry.mode if owned else entry.mode & _UNOWNED

    def _own(self, where: int | bytes | str, entry: Entry, parent: int | None = None, *, follow: bool = True) -> bool:
        """Set its owner; False if that failed: EINVAL for an id that is not mapped, EPERM for lack of privilege."""
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
            if name.startswith(policy.xattrs) and not name.startswith(policy.never_xattrs):
                try:
                    os.setxattr(where, name, value)
                except OSError as error:
                    if not policy.lenient and not (policy.lenient_xattrs and error.errno in _NO_XATTR):
                        raise
                    self.refused_xattrs += 1
            elif policy.refuse_xattrs:
                raise Malformed(self.doing, because=f"{os.fsdecode(entry.name)!r} has the extended attribute {name!r}")
            else:
                self.skipped_xattrs += 1
