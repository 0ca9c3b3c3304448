"""A tree as a tar stream, read through descriptors: no name is resolved twice, no symbolic link followed.

What is read may be a container's, and changed while we read: each entry is opened once, with O_PATH, and all else is
asked of what was opened (security.md: B-rules; CVE-2018-15664 was `docker cp` looking first and opening then).
"""

import os
import stat as st
import tarfile

from toolkit.kernel import mounts
from toolkit.runtime.comfort import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_PROC, _SYSFS, _CGROUP, _CGROUP2 = mounts.PROC_SUPER_MAGIC, mounts.SYSFS_MAGIC, 0x27E0EB, mounts.CGROUP2_SUPER_MAGIC


def pack(fd: int, name: str, out: "BinaryIO") -> None:
    """Write what `fd` (O_PATH) holds as `name`, and all below it. Raises OSError."""
    with tarfile.open(mode="w|", fileobj=out, format=tarfile.PAX_FORMAT, errors="surrogateescape") as archive:
        _Packer(archive).add(fd, name, 0)


class _Packer:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self.archive = archive
        self.links: "dict[tuple[int, int], str]" = {}  # files with more than one name, by device and inode

    def add(self, fd: int, name: str, above: int) -> None:
        """`above`: the device of the folder that it was found in, 0 for the first."""
        self.archive.members.clear()  # type: ignore[attr-defined]  # it keeps them all, and they may be millions
        status = os.fstat(fd)
        entry = tarfile.TarInfo(name)
        entry.mode, entry.mtime = status.st_mode & 0o7777, int(status.st_mtime)
        entry.uid, entry.gid = status.st_uid, status.st_gid
        if st.S_ISDIR(status.st_mode):
            entry.type = tarfile.DIRTYPE
            self.archive.addfile(entry)
            # What the kernel tells of itself is no file to copy, and has no end.
            if status.st_dev == above or mounts.fstatfs_type(fd) not in (_PROC, _SYSFS, _CGROUP, _CGROUP2):
                self._below(fd, name, status.st_dev)
        elif st.S_ISREG(status.st_mode):
            self._file(fd, entry, status)
        elif st.S_ISLNK(status.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink("", dir_fd=fd)
            self.archive.addfile(entry)
        elif st.S_ISFIFO(status.st_mode):
            entry.type = tarfile.FIFOTYPE
            self.archive.addfile(entry)
        elif not st.S_ISSOCK(status.st_mode):  # a socket file is nothing without who listens
            entry.type = tarfile.CHRTYPE if st.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
            self.archive.addfile(entry)

    def _below(self, fd: int, name: str, device: int) -> None:
        folder = os.open(names.of_fd(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            entries = sorted(os.listdir(folder))
        finally:
            os.close(folder)
        for each in entries:
            try:
                found = os.open(each, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except FileNotFoundError:
                continue  # removed while we read
            try:
                self.add(found, f"{name}/{each}", device)
            finally:
                os.close(found)

    def _file(self, fd: int, entry: tarfile.TarInfo, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1:
            if key in self.links:
                entry.type, entry.linkname = tarfile.LNKTYPE, self.links[key]
                self.archive.addfile(entry)
                return
            self.links[key] = entry.name
        # Through its descriptor: the very file that was looked at.
        with open(os.open(names.of_fd(fd), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            entry.size = status.st_size
            self.archive.addfile(entry, _Exactly(file))  # type: ignore[arg-type]


class _Exactly:
    """A file that may shrink while it is read: what is missing is zeros, for the header is written."""

    def __init__(self, file: "BinaryIO") -> None:
        self.file = file

    def read(self, size: int) -> bytes:
        """`size` bytes."""
        return self.file.read(size).ljust(size, b"\0")
