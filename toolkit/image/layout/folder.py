"""An OCI image layout in a folder (image-spec 1.1, image-layout.md): skopeo's and umoci's oci:DIR:TAG.

Reading follows links, because some builders make layouts of links to a shared folder of blobs; the content is verified
in any case. Writing follows none: the folder may belong to somebody else.

A blob is written to a temporary file beside the folder `blobs`, and renamed when its digest has been verified.
index.json is changed under a lock, so that no change of two writers at the same time is lost.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence

from toolkit.errors import CtkError, NotFound, Untrusted, Usage, reason
from toolkit.image import digest as digests
from toolkit.image.document import fields
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Raw
from toolkit.image.layout import index_json
from toolkit.image.layout.index_json import Entry
from toolkit.image.layout.roots import Roots
from toolkit.image.layout.source import LayoutSource, blob_name
from toolkit.image.name import Location
from toolkit.kernel import atomic, reading

_PIECE_BYTES = 1 << 20
_HINT = "make one: skopeo copy docker://… oci:DIR, or: podman save --format oci-dir"
_LEFT = re.compile(r"\.[0-9a-f]{16}\.new")  # atomic.beside
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Folder:
    """The files of a layout in a folder, for reading (source.Files). Raises OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, _FOLDER)

    def read(self, name: str, limit_bytes: int) -> bytes:
        """As source.Files."""
        return reading.read(name, limit_bytes=limit_bytes, dir_fd=self.fd, follow=True)

    @contextlib.contextmanager
    def pieces(self, name: str, size_bytes: int, start: int) -> Iterator[Iterator[bytes]]:
        """As source.Files."""
        fd = reading.open_file(name, limit_bytes=1 << 63, dir_fd=self.fd)
        try:
            found = os.fstat(fd).st_size
            if found != size_bytes:
                because = f"it has {found} bytes, and {size_bytes} were announced"
                raise Untrusted(f"read {name!r} of {self.path!r}", because=because)
            yield _from(fd, start)
        finally:
            os.close(fd)

    def close(self) -> None:
        """As source.Files."""
        os.close(self.fd)


def _from(fd: int, offset: int) -> Iterator[bytes]:
    while piece := os.pread(fd, _PIECE_BYTES, offset):
        offset += len(piece)
        yield piece


def open_source(location: Location) -> LayoutSource:
    """The layout in the folder `location.path`. Raises NotFound."""
    try:
        return LayoutSource(Folder(location.path), location, _HINT)
    except OSError as error:
        hint = f"oci-archive:{location.path} reads a layout in a tar" if error.errno == errno.ENOTDIR else _HINT
        because = f"no OCI image layout is there ({reason(error)})"
        raise NotFound(f"read the image {str(location)!r}", because=because, hint=hint) from None


def _remove_leftovers(fd: int) -> None:
    """Remove the temporary files of killed writers, unless somebody is writing into the layout. Raises OSError."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    for name in os.listdir(fd):
        if _LEFT.fullmatch(name):
            os.unlink(name, dir_fd=fd)


class FolderDestination:
    """A layout in a folder, for writing (endpoint.Destination); the folder is made if it is missing.

    It holds a shared lock on the folder while it is open, and an exclusive one on the file oci-layout while it changes
    index.json. Without `commit` a layout that it made is removed. In one that existed before, blobs stay: nothing
    refers to them, and the next attempt finds them.
    """

    def __init__(self, location: Location) -> None:
        self.path = location.path
        self._location = location
        self._roots = Roots(location)
        self._blobs: list[str] = []
        self._done = self._made_folder = self._made_layout = False
        with self._telling(f"write {str(self)!r}"):
            self.fd = self._opened()
            try:
                self._mark()
            except BaseException:
                self.close()
                raise

    def __str__(self) -> str:
        return str(self._location)

    @contextlib.contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = ""
            if error.errno == errno.ENOENT:
                hint = "make the folder above it first"
            elif error.errno == errno.ENOTDIR:
                hint = f"oci-archive:{self.path} writes a layout into a tar"
            raise CtkError(doing, because=reason(error), hint=hint) from None

    def _opened(self) -> int:
        while True:
            try:
                os.mkdir(self.path, 0o755)
                self._made_folder = True
            except FileExistsError:
                self._made_folder = False
            fd = os.open(self.path, _FOLDER)
            try:
                _remove_leftovers(fd)
                fcntl.flock(fd, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    return fd
            except FileNotFoundError:
                pass  # another writer failed and removed its folder
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _mark(self) -> None:
        """Check or write oci-layout. Raises NotFound for an unknown version, Usage for a folder with other files."""
        if self._marked():
            return
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        if not self._marked():
            if any(not _LEFT.fullmatch(name) for name in os.listdir(self.fd)):
                raise Usage(
                    f"write {str(self)!r}",
                    because=f"it has other files in it, and is not an OCI image layout (it has no {index_json.MARKER})",
                    hint="use an empty folder or a new one",
                )
            atomic.replace(index_json.MARKER, index_json.MARKER_BYTES, mode=0o644, dir_fd=self.fd)
            self._made_layout = True
        fcntl.flock(self.fd, fcntl.LOCK_SH)

    def _marked(self) -> bool:
        try:
            data = reading.read(index_json.MARKER, limit_bytes=4096, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        index_json.check_marker(data, f"{self.path}: {index_json.MARKER}")
        return True

    @contextlib.contextmanager
    def _blob_folder(self, digest: str) -> Iterator[int]:
        """The folder for blobs with this digest's algorithm, made if missing; no link is followed. Raises Usage."""
        fd = self.fd
        with contextlib.ExitStack() as stack:
            for name in ("blobs", digests.split(digest)[0]):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=fd)
                try:
                    fd = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                except NotADirectoryError:
                    because = f"its {name!r} is a link or a file: links are not followed for writing"
                    raise Usage(f"write into the layout {self.path!r}", because=because) from None
                stack.callback(os.close, fd)
            yield fd

    def has(self, descriptor: Descriptor) -> bool:
        """As endpoint.Destination. The content is not hashed: readers do this."""
        encoded = digests.split(descriptor.digest)[1]
        try:
            with self._blob_folder(descriptor.digest) as folder:
                found = os.stat(encoded, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == descriptor.size_bytes

    def put_blob(self, descriptor: Descriptor, pieces: Iterable[bytes]) -> None:
        """As endpoint.Destination."""
        digest = descriptor.digest
        doing = f"write the blob {digest} to {str(self)!r}"
        sound = digests.verified(pieces, digest, descriptor.size_bytes, doing)
        with contextlib.ExitStack() as stack:
            with self._telling(doing):
                folder = stack.enter_context(self._blob_folder(digest))
                new = stack.enter_context(atomic.Writing(atomic.beside("blob"), mode=0o644, dir_fd=self.fd))
            for piece in sound:
                with self._telling(doing):
                    atomic.write(new.fd, piece)
            with self._telling(doing):
                new.close()
                new.name(digests.split(digest)[1], dir_fd=folder)
        self._blobs.append(digest)

    def put_manifest(self, raw: Raw, name: str = "") -> None:
        """As endpoint.Destination. The name is set at `commit`."""
        put = self._roots.put(raw, name)
        if not self.has(put.descriptor):
            self.put_blob(put.descriptor, iter([raw.data]))

    def update(self, change: Callable[[list[Entry]], Sequence[Entry]]) -> None:
        """Replace the entries of index.json by what `change` returns for them. Other writers wait."""
        with self._telling(f"write {index_json.FILE!r} of {self.path!r}"), self._alone():
            try:
                before = reading.read(index_json.FILE, limit_bytes=fields.LIMIT_BYTES, dir_fd=self.fd)
            except FileNotFoundError:
                before = b""
            entries = index_json.read(before, f"{self.path}: {index_json.FILE}") if before else []
            data = index_json.write(change(entries), before)
            if len(data) > fields.LIMIT_BYTES:
                because = f"{index_json.FILE} would be larger than {fields.LIMIT_BYTES} bytes"
                raise Usage(f"write {str(self)!r}", because=because, hint="use another folder for more images")
            atomic.replace(index_json.FILE, data, mode=0o644, dir_fd=self.fd)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        fd = os.open(index_json.MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def commit(self) -> None:
        """As endpoint.Destination: adds the images to index.json. An existing tag moves to the new image."""
        new = [index_json.entry_of(put.descriptor, name) for put, name in self._roots.listed()]

        def change(entries: list[Entry]) -> list[Entry]:
            for one in new:
                entries = index_json.added(entries, one)
            return entries

        self.update(change)
        self._done = True

    def close(self) -> None:
        """As endpoint.Destination."""
        try:
            if not self._done and (self._made_layout or self._made_folder):
                self._take_away()
        except OSError:
            pass  # others use it, or have changed it; the earlier error is the one to report
        finally:
            os.close(self.fd)

    def _take_away(self) -> None:
        """Remove the new layout, unless another writer uses it or has added an image."""
        fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if self._made_layout and index_json.FILE not in os.listdir(self.fd):
            for digest in self._blobs:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(blob_name(digest), dir_fd=self.fd)
            for folder in ("blobs/sha256", "blobs/sha512", "blobs"):
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(folder, dir_fd=self.fd)
            os.unlink(index_json.MARKER, dir_fd=self.fd)
        if self._made_folder:
            os.rmdir(self.path)
