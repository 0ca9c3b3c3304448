"""Copy trees and tar files into a root and out of it, without a program of the host's or the root's.

Inside, every folder is opened by the kernel with the root as its `/` (kernel/beneath.py): a link that a package or a
script put there leads nobody out, not even when it is put there meanwhile. A folder of the root that is a link stays
one (/bin of a merged /usr). Outside, only the path that the caller typed is followed: what is below it, the root chose.
"""

import contextlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from typing import IO

from toolkit.archive.compressed_tar import tar_reader, tar_writer
from toolkit.errors import CtkError
from toolkit.kernel.beneath import O_PATH, make_directories, open_beneath

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a fifo of that name must not make us wait


class Transfer:
    """Between the root `rootfd` and the caller's files. `owners` keeps the owners of what is copied out.

    Everything raises OSError, SystemCall, or CtkError for what has no sense.
    """

    def __init__(self, rootfd: int, *, owners: bool) -> None:
        self._root = rootfd
        self._owners_outside = owners

    def copy_in(self, outside: str, inside: str) -> None:
        """A file or folder into the folder `inside`, which is there."""
        above, name = os.path.split(os.path.abspath(outside))
        with _opened(above) as source, self._inside(inside) as folder:
            self._copy(source, name, folder, name, _join(inside, name))

    def sync_in(self, outside: str, inside: str) -> None:
        """What is in the folder `outside` into the folder `inside`, over what is there."""
        with _opened(outside) as source, self._inside(inside) as folder:
            for name in sorted(os.listdir(source)):
                self._copy(source, name, folder, name, _join(inside, name))

    def copy_out(self, inside: str, outside: str) -> None:
        """A file or folder of the root into the folder `outside`, which is made if it isn't there."""
        above, name = os.path.split(inside.rstrip("/"))
        os.makedirs(outside, exist_ok=True)
        with self._inside(above or "/") as source, _opened(outside) as folder:
            self._copy(source, name, folder, name)

    def sync_out(self, inside: str, outside: str) -> None:
        """What is in the folder `inside` into the folder `outside`, over what is there."""
        os.makedirs(outside, exist_ok=True)
        with self._inside(inside) as source, _opened(outside) as folder:
            for name in sorted(os.listdir(source)):
                self._copy(source, name, folder, name)

    def upload(self, outside: str, inside: str) -> None:
        """One file as the file `inside`; it belongs to root."""
        with open(outside, "rb") as source:
            above, name = os.path.split(inside)
            with self._inside(above or "/") as folder:
                _write(folder, name, source, 0o755 if os.fstat(source.fileno()).st_mode & 0o111 else 0o644)

    def download(self, inside: str, outside: str) -> None:
        """One file of the root, through links inside it, as the file `outside`."""
        fd = open_beneath(self._root, inside, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as source:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CtkError(f"download {inside!r}", because="it is no file", hint="folders go by copy-out")
            os.makedirs(os.path.dirname(os.path.abspath(outside)), exist_ok=True)
            with _opened(os.path.dirname(os.path.abspath(outside))) as folder:
                _write(folder, os.path.basename(outside), source, 0o644)

    def tar_in(self, outside: str, inside: str) -> None:
        """Unpack a tar file (plain, gz, bz2, xz, zst) in the folder `inside`."""
        os.close(open_beneath(self._root, inside, O_PATH | os.O_DIRECTORY))
        with tar_reader(outside) as tar:
            later = []
            for member in tar:
                words = [word for word in member.name.split("/") if word not in ("", ".")]
                if ".." in words:
                    raise CtkError(f"unpack {outside!r}", because=f"{member.name!r} leads out of the folder")
                path = "/".join((inside.rstrip("/"), *words))
                if member.isdir():
                    os.close(make_directories(self._root, path))
                    later.append((path, member))
                elif words:
                    self._member(tar, member, path, inside)
            for path, member in reversed(later):
                with self._inside(path) as folder:
                    _settle(folder, member.uid, member.gid, member.mode, int(member.mtime) * 10**9)

    def tar_out(self, inside: str, outside: str) -> None:
        """Pack what is in the folder `inside` as a tar file, compressed as its ending says."""
        os.makedirs(os.path.dirname(os.path.abspath(outside)), exist_ok=True)
        with self._inside(inside) as top, tar_writer(outside) as tar:
            for above, folders, files, fd in os.fwalk(".", dir_fd=top):
                folders.sort()
                for name in (".", *sorted((*files, *(one for one in folders if _is_link(fd, one))))):
                    _pack(tar, fd, name, os.path.normpath(os.path.join(above, name)))

    @contextlib.contextmanager
    def _inside(self, path: str) -> Iterator[int]:
        fd = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def _copy(self, source: int, name: str, folder: int, new: str, inside: str = "") -> None:
        """One entry, and all below it. `inside` is the new entry's path in the root; "" if it is outside."""
        about = os.stat(name, dir_fd=source, follow_symlinks=False)
        owners = bool(inside) or self._owners_outside
        uid, gid = (about.st_uid, about.st_gid) if owners else (-1, -1)
        if stat.S_ISDIR(about.st_mode):
            with _folder(source, name) as below, self._new_folder(folder, new, inside) as (made, fresh):
                for one in sorted(os.listdir(below)):
                    self._copy(below, one, made, one, inside and _join(inside, one))
                if fresh or not inside:
                    _settle(made, uid, gid, about.st_mode, about.st_mtime_ns)
            return
        if stat.S_ISREG(about.st_mode):
            with open(os.open(name, _READ_FILE, dir_fd=source), "rb") as file:
                _write(folder, new, file, stat.S_IMODE(about.st_mode), (uid, gid), about.st_mtime_ns, xattrs=True)
            return
        _clear(folder, new)
        if stat.S_ISLNK(about.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=folder)
        elif stat.S_ISSOCK(about.st_mode):
            return  # without the program that listens it is nothing
        else:
            os.mknod(new, about.st_mode, about.st_rdev, dir_fd=folder)
            os.chmod(new, stat.S_IMODE(about.st_mode), dir_fd=folder)
        _own(folder, new, uid, gid)
        os.utime(new, ns=(about.st_mtime_ns, about.st_mtime_ns), dir_fd=folder, follow_symlinks=False)

    @contextlib.contextmanager
    def _new_folder(self, folder: int, name: str, inside: str) -> Iterator[tuple[int, bool]]:
        """The folder `name`, and whether it was made now. In the root a link to a folder is that folder."""
        fresh = False
        try:
            os.mkdir(name, 0o755, dir_fd=folder)
            fresh = True
        except FileExistsError:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(found) and not (inside and stat.S_ISLNK(found)):
                os.unlink(name, dir_fd=folder)
                os.mkdir(name, 0o755, dir_fd=folder)
                fresh = True
        with self._inside(inside) if inside and not fresh else _folder(folder, name) as fd:
            yield fd, fresh

    def _member(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, inside: str) -> None:
        above, _, name = path.rpartition("/")
        parent = make_directories(self._root, above)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, parent)
            if member.isreg():
                data = tar.extractfile(member)
                if data is None:
                    raise CtkError("unpack a tar file", because=f"{member.name!r} has no data")
                owner = (member.uid, member.gid)
                _write(parent, name, data, member.mode, owner, int(member.mtime) * 10**9)
                return
            _clear(parent, name)
            if member.islnk():
                target = "/".join((inside, *(word for word in member.linkname.split("/") if word not in ("", "."))))
                source = make_directories(self._root, os.path.dirname(target))
                stack.callback(os.close, source)
                last = os.path.basename(target)
                os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
                return
            if member.issym():
                os.symlink(member.linkname, name, dir_fd=parent)
            elif member.isfifo():
                os.mkfifo(name, member.mode, dir_fd=parent)
            elif member.isdev():
                kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
                os.mknod(name, kind | member.mode, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
            else:
                raise CtkError("unpack a tar file", because=f"{member.name!r} is of no kind that a root holds")
            _own(parent, name, member.uid, member.gid)


def _join(folder: str, name: str) -> str:
    return folder.rstrip("/") + "/" + name


def _is_link(folder: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _folder(parent: int, name: str) -> Iterator[int]:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _clear(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _own(folder: int, name: str, uid: int, gid: int) -> None:
    """Give it away; an id that a user namespace doesn't have (EINVAL) or may not give (EPERM) stays ours."""
    with contextlib.suppress(OSError):
        os.chown(name, uid, gid, dir_fd=folder, follow_symlinks=False)


def _settle(fd: int, uid: int, gid: int, mode: int, mtime_ns: int) -> None:
    with contextlib.suppress(OSError):
        os.fchown(fd, uid, gid)
    os.fchmod(fd, stat.S_IMODE(mode))
    os.utime(fd, ns=(mtime_ns, mtime_ns))


def _write(
    folder: int,
    name: str,
    source: IO[bytes],
    mode: int,
    owner: tuple[int, int] = (-1, -1),
    mtime_ns: int = -1,
    *,
    xattrs: bool = False,
) -> None:
    """A new file in place of whatever has the name (no folder)."""
    _clear(folder, name)
    fd = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
    with open(fd, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        with contextlib.suppress(OSError):
            os.fchown(fd, *owner)
        if xattrs:
            for key in os.listxattr(source.fileno()):
                if key.startswith(("user.", "security.capability")):
                    with contextlib.suppress(OSError):
                        os.setxattr(fd, key, os.getxattr(source.fileno(), key))
        os.fchmod(fd, mode)
        if mtime_ns >= 0:
            os.utime(fd, ns=(mtime_ns, mtime_ns))


def _pack(tar: tarfile.TarFile, folder: int, name: str, path: str) -> None:
    about = os.stat(name, dir_fd=folder, follow_symlinks=False)
    member = tarfile.TarInfo(path if path == "." else "./" + path)
    member.mode, member.uid, member.gid = stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid
    member.mtime = int(about.st_mtime)
    kind = stat.S_IFMT(about.st_mode)
    if kind == stat.S_IFREG:
        with open(os.open(name, _READ_FILE, dir_fd=folder), "rb") as file:
            member.size = os.fstat(file.fileno()).st_size
            tar.addfile(member, file)
        return
    if kind == stat.S_IFLNK:
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        member.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        member.devmajor, member.devminor = os.major(about.st_rdev), os.minor(about.st_rdev)
    elif kind in (stat.S_IFDIR, stat.S_IFIFO):
        member.type = tarfile.DIRTYPE if kind == stat.S_IFDIR else tarfile.FIFOTYPE
    else:
        return  # a socket
    tar.addfile(member)
