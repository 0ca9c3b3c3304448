"""Write a tree as a tar stream, reading it by descriptors: no name is resolved twice, no symbolic link followed.

The tree may be a container's, and may change while we read: each entry is opened once, with O_PATH, and everything else
is done with that descriptor (security.md: B-rules; CVE-2018-15664: `docker cp` checked first and opened afterwards).
So it can't use archive/walk.py, which is for trees that don't change, and checks first. The headers are the same.
"""

import os

from toolkit.archive import tar_write
from toolkit.archive.entries import DIRECTORY, FILE, HARD_LINK, SYMLINK, Entry, of_file
from toolkit.kernel import mounts
from toolkit.runtime.comfort import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_PROC, _SYSFS, _CGROUP, _CGROUP2 = mounts.PROC_SUPER_MAGIC, mounts.SYSFS_MAGIC, 0x27E0EB, mounts.CGROUP2_SUPER_MAGIC
_PIECE_BYTES = 1 << 20


def pack(fd: int, name: str, out: "BinaryIO") -> None:
    """Write the file that `fd` (O_PATH) is open on as `name`, and everything below it. Raises OSError."""
    _Packer(out).add(fd, os.fsencode(name), 0)
    out.write(tar_write.END)


class _Packer:
    def __init__(self, out: "BinaryIO") -> None:
        self.out = out
        self.links: "dict[tuple[int, int], bytes]" = {}  # files with more than one name, by device and inode

    def add(self, fd: int, name: bytes, above: int) -> None:
        """Add an entry and everything below it. `above`: the device of its parent folder, 0 for the first."""
        status = os.fstat(fd)
        entry = of_file(name, status)
        if entry is None:
            return
        first = entry.name
        if entry.kind != DIRECTORY and status.st_nlink > 1:
            first = self.links.setdefault((status.st_dev, status.st_ino), entry.name)
        if first != entry.name:
            entry.kind, entry.link, entry.size_bytes = HARD_LINK, first, 0
        elif entry.kind == FILE:
            self._file(fd, entry)
            return
        if entry.kind == SYMLINK:
            entry.link = os.fsencode(os.readlink("", dir_fd=fd))
        self._header(entry)
        # Kernel file systems such as procfs have no files to copy, and may be endless.
        if entry.kind == DIRECTORY and (
            status.st_dev == above or mounts.fstatfs_type(fd) not in (_PROC, _SYSFS, _CGROUP, _CGROUP2)
        ):
            self._below(fd, name, status.st_dev)

    def _header(self, entry: Entry) -> None:
        self.out.write(tar_write.header(entry, prefix=b""))

    def _below(self, fd: int, name: bytes, device: int) -> None:
        folder = os.open(names.of_fd(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            entries = sorted(os.fsencode(each) for each in os.listdir(folder))
        finally:
            os.close(folder)
        for each in entries:
            try:
                found = os.open(each, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except FileNotFoundError:
                continue  # removed while we read
            try:
                self.add(found, name + b"/" + each, device)
            finally:
                os.close(found)

    def _file(self, fd: int, entry: Entry) -> None:
        # Through its descriptor: the same file that was checked.
        file = os.open(names.of_fd(fd), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._header(entry)
            self._content(file, entry.size_bytes)
        finally:
            os.close(file)

    def _content(self, file: int, size: int) -> None:
        """Write exactly `size` bytes and the padding: the header is already written, even if the file changes now."""
        left = size
        while left:
            piece = os.read(file, min(left, _PIECE_BYTES)) or bytes(min(left, _PIECE_BYTES))
            self.out.write(piece)
            left -= len(piece)
        self.out.write(bytes(-size % 512))
