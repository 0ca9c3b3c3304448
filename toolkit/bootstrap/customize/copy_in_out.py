"""Copy trees and tar files into a root and out of it, without running a program of the host or the root.

Inside, the kernel opens every folder with the root as its `/` (kernel/beneath.py): a link made by a package or a script
can't lead out of it, not even if it is made meanwhile. A folder of the root that is a link stays one (/bin of a merged
/usr). Outside, links are followed only in the path that the caller typed; the names below it come from the root.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator

from toolkit.archive import streams, tar_write, walk
from toolkit.archive.compressed_tar import plain_pieces
from toolkit.archive.entries import DIRECTORY, FILE, HARD_LINK, SYMLINK, Entry, Hole, of_file
from toolkit.archive.extract import Extractor, Policy
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import CtkError
from toolkit.kernel import atomic, reading
from toolkit.kernel.beneath import O_PATH, make_directories, open_beneath

_READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: opening a fifo must not block
_PIECE_BYTES = 1 << 20
_POLICY = Policy(lenient=True, xattrs=("user.", "security.capability"), refuse_xattrs=False, replace=True)


class Transfer:
    """Copies between the root `rootfd` and the caller's files. `owners`: files copied out keep their owners.

    All methods raise OSError, SystemCall, and CtkError for a request that can't be met.
    """

    def __init__(self, rootfd: int, *, owners: bool) -> None:
        self._root = rootfd
        self._into = Extractor(_POLICY, "copy into the root")
        self._out_of = Extractor(_POLICY._replace(owners=owners), "copy out of the root")

    def copy_in(self, outside: str, inside: str) -> None:
        """Copy a file or folder into the folder `inside`, which must exist."""
        above, name = os.path.split(os.path.abspath(outside))
        with _opened(above) as source, self._inside(inside) as folder:
            self._copy(source, name, folder, name, _join(inside, name))

    def sync_in(self, outside: str, inside: str) -> None:
        """Copy the contents of the folder `outside` into the folder `inside`, over what is there."""
        with _opened(outside) as source, self._inside(inside) as folder:
            for name in sorted(os.listdir(source)):
                self._copy(source, name, folder, name, _join(inside, name))

    def copy_out(self, inside: str, outside: str) -> None:
        """Copy a file or folder of the root into the folder `outside`, which is made if it is missing."""
        above, name = os.path.split(inside.rstrip("/"))
        os.makedirs(outside, exist_ok=True)
        with self._inside(above or "/") as source, _opened(outside) as folder:
            self._copy(source, name, folder, name)

    def sync_out(self, inside: str, outside: str) -> None:
        """Copy the contents of the folder `inside` into the folder `outside`, over what is there."""
        os.makedirs(outside, exist_ok=True)
        with self._inside(inside) as source, _opened(outside) as folder:
            for name in sorted(os.listdir(source)):
                self._copy(source, name, folder, name)

    def upload(self, outside: str, inside: str) -> None:
        """Copy one file to the file `inside`, owned by root."""
        with open(outside, "rb") as source:
            above, name = os.path.split(inside)
            with self._inside(above or "/") as folder:
                mode = 0o755 if os.fstat(source.fileno()).st_mode & 0o111 else 0o644
                self._into.put(folder, name, _new_entry(name, mode), _content(source.fileno()))

    def download(self, inside: str, outside: str) -> None:
        """Copy one file of the root, following links inside it, to the file `outside`."""
        fd = open_beneath(self._root, inside, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb"):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CtkError(f"download {inside!r}", because="it is not a file", hint="use copy-out for folders")
            with _written(outside) as file:
                for piece in reading.pieces(fd):
                    atomic.write(file, piece)

    def tar_in(self, outside: str, inside: str) -> None:
        """Unpack a tar file (plain, gz, bz2, xz, zst) in the folder `inside`."""
        os.close(open_beneath(self._root, inside, O_PATH | os.O_DIRECTORY))
        extractor = Extractor(_POLICY, f"unpack {outside!r}")
        with plain_pieces(outside, repr(outside)) as stream:
            tar = AnyTar(stream, repr(outside))
            later = []
            for entry in tar:
                name = os.fsdecode(entry.name)
                words = [word for word in name.split("/") if word not in ("", ".")]
                if ".." in words:
                    raise CtkError(extractor.doing, because=f"{name!r} leads out of the folder")
                path = "/".join((inside.rstrip("/"), *words))
                entry.xattrs = {}
                if entry.kind == DIRECTORY:
                    os.close(make_directories(self._root, path))
                    later.append((path, entry))
                elif words:
                    self._member(extractor, entry, tar.content(entry), path, inside)
            for path, entry in reversed(later):
                with self._inside(path) as folder:
                    extractor.finish(folder, entry)

    def tar_out(self, inside: str, outside: str) -> None:
        """Pack the contents of the folder `inside` as a tar file, compressed according to its suffix."""
        with self._inside(inside) as top, _written(outside) as file:
            for piece in streams.by_ending(outside, tar_write.segments(top, walk.walk(top))):
                atomic.write(file, piece)

    @contextlib.contextmanager
    def _inside(self, path: str) -> Iterator[int]:
        fd = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def _copy(self, source: int, name: str, folder: int, new: str, inside: str = "") -> None:
        """Copy one entry with all below it. `inside` is the new entry's path in the root; "" if it is outside."""
        about = os.stat(name, dir_fd=source, follow_symlinks=False)
        extractor = self._into if inside else self._out_of
        entry = of_file(os.fsencode(name), about)
        if entry is None:
            return
        if entry.kind == SYMLINK:
            entry.link = os.fsencode(os.readlink(name, dir_fd=source))
        if entry.kind == DIRECTORY:
            with _folder(source, name) as below, self._new_folder(folder, new, inside) as (made, fresh):
                for one in sorted(os.listdir(below)):
                    self._copy(below, one, made, one, inside and _join(inside, one))
                if fresh or not inside:
                    extractor.finish(made, entry)
        elif entry.kind == FILE:
            with open(os.open(name, _READ_FILE, dir_fd=source), "rb") as file:
                names = (key for key in os.listxattr(file.fileno()) if key.startswith(extractor.policy.xattrs))
                entry.xattrs = {key: os.getxattr(file.fileno(), key) for key in names}
                extractor.put(folder, new, entry, _content(file.fileno()))
        else:
            extractor.put(folder, new, entry, ())

    @contextlib.contextmanager
    def _new_folder(self, folder: int, name: str, inside: str) -> Iterator[tuple[int, bool]]:
        """The folder `name`, and whether it was made now. In the root a link to a folder counts as the folder."""
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

    def _member(
        self, extractor: Extractor, entry: Entry, pieces: Iterator[memoryview | Hole], path: str, inside: str
    ) -> None:
        above, _, name = path.rpartition("/")
        with contextlib.ExitStack() as stack:
            parent = make_directories(self._root, above)
            stack.callback(os.close, parent)
            if entry.kind != HARD_LINK:
                extractor.put(parent, name, entry, pieces)
                return
            words = (word for word in os.fsdecode(entry.link).split("/") if word not in ("", "."))
            target = "/".join((inside, *words))
            source = make_directories(self._root, os.path.dirname(target))
            stack.callback(os.close, source)
            extractor.link(source, os.path.basename(target), parent, name)


def _join(folder: str, name: str) -> str:
    return folder.rstrip("/") + "/" + name


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _written(path: str) -> Iterator[int]:
    """A file of the caller, written atomically. Anything that exists and is not a file (/dev/stdout) is written to."""
    path = os.path.realpath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path) and not os.path.isfile(path):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    with atomic.Writing(atomic.beside(path), mode=0o644) as new:
        yield new.fd
        new.close()
        new.name(path)


@contextlib.contextmanager
def _folder(parent: int, name: str) -> Iterator[int]:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _new_entry(name: str, mode: int) -> Entry:
    """The entry of a file that root makes now."""
    entry = Entry(os.fsencode(name), FILE, 0)
    entry.mode, entry.mtime_ns = mode, time.time_ns()
    return entry


def _content(fd: int) -> Iterator[bytes | Hole]:
    """The content of a file, with its holes as Hole if the file system reports them (lseek(2), SEEK_DATA)."""
    about = os.fstat(fd)
    at, end = 0, about.st_size if about.st_blocks * 512 < about.st_size else 0
    while at < end:
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = end  # only a hole is left
        if data > at:
            yield Hole(data - at)
        at = data if data == end else os.lseek(fd, data, os.SEEK_HOLE)
        os.lseek(fd, data, os.SEEK_SET)
        while data < at and (piece := os.read(fd, min(_PIECE_BYTES, at - data))):
            data += len(piece)
            yield piece
    yield from reading.pieces(fd)  # all that has no holes, and what the kernel makes up, whose size is 0
