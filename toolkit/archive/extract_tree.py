"""Extract a tree from a tar stream of ours (tar_write.py): into an empty directory, with nobody else at work in it.

One thread makes the files while another one reads ahead: making them is the kernel's work, and two threads only wait
for each other there (docs/performance.md).
"""

import os
import stat
from collections.abc import Iterator

from toolkit.archive import tar_read
from toolkit.archive.streams import ahead
from toolkit.errors import Malformed
from toolkit.kernel.beneath import O_PATH, open_beneath

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract_tree(rootfd: int, stream: Iterator[bytes], what: str) -> int:
    """Make what the stream holds below `rootfd`; the number of members. The umask must be 022.

    Device nodes that the kernel refuses to an ordinary user are left out. Raises OSError, SystemCall, Malformed, and
    what `stream` raises.
    """
    worker = _Layer(rootfd)
    content = tar_read.Tar(ahead(stream), what)
    count = 0
    try:
        for entry in content:
            worker.put(entry, content)
            count += 1
        worker.finish()
    finally:
        worker.close()
    return count


class _Layer:
    def __init__(self, rootfd: int) -> None:
        self._rootfd = rootfd
        self._above = b""
        self._parent = os.dup(rootfd)
        self._directories: list[tuple[bytes, tar_read.Entry]] = []

    def close(self) -> None:
        os.close(self._parent)

    def put(self, entry: tar_read.Entry, content: tar_read.Tar) -> None:
        path = _relative(entry.name)
        if entry.kind == tar_read.DIRECTORY:
            self._directories.append((path, entry))
            if path:
                parent, last = self._place(path)
                os.mkdir(last, 0o755, dir_fd=parent)
            return
        parent, last = self._place(path)
        if entry.kind == tar_read.FILE:
            _file(parent, last, entry, content)
            return
        if entry.kind == tar_read.HARD_LINK:
            os.link(_relative(entry.link), last, src_dir_fd=self._rootfd, dst_dir_fd=parent, follow_symlinks=False)
            return
        if entry.kind == tar_read.SYMLINK:
            os.symlink(entry.link, last, dir_fd=parent)
        elif entry.kind == tar_read.FIFO:
            os.mkfifo(last, 0o600, dir_fd=parent)
        else:
            node = stat.S_IFBLK if entry.kind == tar_read.BLOCK else stat.S_IFCHR
            try:
                os.mknod(last, node | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
            except PermissionError:
                return
        if entry.uid or entry.gid:
            os.chown(last, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != tar_read.SYMLINK:
            os.chmod(last, entry.mode, dir_fd=parent)  # ours, made a moment ago: not a link
            _xattrs(b"/proc/self/fd/%d/%s" % (parent, last), entry)
        os.utime(last, (entry.mtime_s, entry.mtime_s), dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Give the directories their owners, modes and times, innermost first."""
        for path, entry in reversed(self._directories):
            fd = open_beneath(self._rootfd, os.fsdecode(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if entry.uid or entry.gid or not path:
                    os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)
                _xattrs(fd, entry)
                os.utime(fd, (entry.mtime_s, entry.mtime_s))
            finally:
                os.close(fd)

    def _place(self, path: bytes) -> tuple[int, bytes]:
        above, _, last = path.rpartition(b"/")
        if above != self._above:
            fd = open_beneath(self._rootfd, os.fsdecode(above), O_PATH | os.O_DIRECTORY)
            os.close(self._parent)
            self._parent, self._above = fd, above
        return self._parent, last


def _file(parent: int, last: bytes, entry: tar_read.Entry, content: tar_read.Tar) -> None:
    fd = os.open(last, _NEW_FILE, entry.mode & 0o777, dir_fd=parent)
    try:
        for piece in content.pieces(entry):
            written = os.write(fd, piece)
            while written < len(piece):
                written += os.write(fd, piece[written:])
        if entry.uid or entry.gid:
            os.fchown(fd, entry.uid, entry.gid)
        if entry.uid or entry.gid or entry.mode & 0o7022:
            os.fchmod(fd, entry.mode)
        _xattrs(fd, entry)
        os.utime(fd, (entry.mtime_s, entry.mtime_s))
    finally:
        os.close(fd)


def _xattrs(where: int | bytes, entry: tar_read.Entry) -> None:
    for name, value in (entry.xattrs or {}).items():
        os.setxattr(where, name, value)


def _relative(name: bytes) -> bytes:
    path = name.removeprefix(b"./").rstrip(b"/")
    if path.startswith(b"/") or b".." in path.split(b"/"):
        raise Malformed("lay out a cached tree", because=f"{os.fsdecode(name)!r} is no path in a root")
    return path
