"""An OCI image layout in a tar: skopeo's oci-archive:FILE:TAG. The archives written here are docker's archives as well.

They hold manifest.json beside index.json and oci-layout, as docker 25's do, so `docker load`, `podman load`, `ctr image
import` and `skopeo copy` with either transport accept them. The same images give the same bytes, whatever the order in
which the blobs arrived.

Each blob is written to its place in the new file at once, even if several arrive at the same time. Only if they arrived
in an order other than the file's, the file is copied once more at the end.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from toolkit.archive import tar_write
from toolkit.archive.entries import FILE, SYMLINK, Entry
from toolkit.errors import CtkError, InUse, Malformed, NotFound, Usage, reason
from toolkit.image import digest as digests
from toolkit.image import name as names
from toolkit.image.document import manifest, media_types, platform
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.endpoint import Raw
from toolkit.image.layout import index_json, manifest_json
from toolkit.image.layout.roots import Put, Roots
from toolkit.image.layout.source import LayoutSource, blob_name
from toolkit.image.layout.tar_files import TarFiles
from toolkit.image.name import DOCKER_ARCHIVE, Location
from toolkit.kernel import atomic

_PIECE_BYTES = 1 << 20


def open_source(location: Location) -> LayoutSource:
    """The layout in the tar `location.path`. Raises NotFound, Malformed."""
    files = TarFiles(location.path)
    hint = f"an image's archive has {index_json.FILE} or {manifest_json.FILE} at its top"
    if manifest_json.FILE in files.places and index_json.FILE not in files.places:
        hint = f"it is docker's: docker-archive:{location.path} reads it"
    elif index_json.FILE in files.places and (
        links := [name for name, place in files.places.items() if place.kind == SYMLINK]
    ):
        files.close()
        because = f"{links[0]!r} is a symlink, which programs interpret differently"
        raise Malformed(f"read the archive {location.path!r}", because=because)
    return LayoutSource(files, location, hint)


class _Region(NamedTuple):
    """The place of a member in the new file: where its header, its content, and the next member (`end`) begin."""

    start: int
    content: int
    size_bytes: int

    @property
    def end(self) -> int:
        return self.content + (self.size_bytes + 511 & ~511)


def _header(name: str, size_bytes: int) -> bytes:
    entry = Entry(name.encode(), FILE, size_bytes)
    entry.mode = 0o644
    return tar_write.header(entry, prefix=b"")


class ArchiveDestination:
    """A new tar (endpoint.Destination), which gets its name at `commit`. Several threads may put blobs.

    Raises InUse if the file exists, unless it is empty or `replace` is given; Usage for a name that docker can't read
    if the archive is for docker.
    """

    def __init__(self, location: Location, *, replace: bool = False) -> None:
        self._location = location
        self._for_docker = location.transport == DOCKER_ARCHIVE
        self._roots = Roots(location)
        self._regions: dict[str, _Region] = {}
        self._end = 0
        self._lock = threading.Lock()
        self._open = contextlib.ExitStack()
        self._index_name(location.name)
        with self._telling():
            self._check_target(replace)
            self._new = self._open.enter_context(self._writing())

    def __str__(self) -> str:
        return str(self._location)

    def _check_target(self, replace: bool) -> None:
        """Raises InUse if a rename must not replace what is there; OSError."""
        path, doing = self._location.path, f"write {str(self)!r}"
        try:
            about = os.lstat(path)
        except FileNotFoundError:
            return
        if os.path.isdir(path):
            raise InUse(doing, because="it is a folder", hint=f"oci:{path} writes into it")
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISLNK(about.st_mode):
            raise InUse(doing, because="it is not a regular file", hint="name a file")
        if not replace and about.st_size:
            raise InUse(doing, because="it exists", hint="remove it, or name another file")

    def _writing(self) -> atomic.Writing:
        return atomic.Writing(atomic.beside(self._location.path), mode=0o644)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CtkError(f"write {str(self)!r}", because=reason(error)) from None

    def has(self, descriptor: Descriptor) -> bool:
        """As endpoint.Destination."""
        found = self._regions.get(descriptor.digest)
        return found is not None and found.size_bytes == descriptor.size_bytes

    def put_blob(self, descriptor: Descriptor, pieces: Iterable[bytes]) -> None:
        """As endpoint.Destination."""
        digest, size = descriptor.digest, descriptor.size_bytes
        header = _header(blob_name(digest), size)
        with self._lock:
            region = _Region(self._end, self._end + len(header), size)
            self._end = region.end
        with self._telling():
            _pwrite(self._new.fd, header, region.start)
        offset = region.content
        for piece in digests.verified(pieces, digest, size, f"write the blob {digest} to {str(self)!r}"):
            with self._telling():
                _pwrite(self._new.fd, piece, offset)
            offset += len(piece)
        self._regions[digest] = region

    def put_manifest(self, raw: Raw, name: str = "") -> None:
        """As endpoint.Destination."""
        put = self._roots.put(raw, name)
        if not self.has(put.descriptor):
            self.put_blob(put.descriptor, [raw.data])

    def commit(self) -> None:
        """As endpoint.Destination. Raises NotFound if a blob of an image was not put, Usage for a name."""
        listed = self._roots.listed()
        last = self._last_members(listed)
        regions = [self._regions[digest] for digest in self._order(listed)]
        with self._telling():
            new, end = self._new, self._end
            if not _in_one_piece(regions, end):
                new = self._open.enter_context(self._writing())
                end = _gathered(self._new.fd, regions, new.fd)
            for name, data in last:
                header = _header(name, len(data))
                _pwrite(new.fd, header + data, end)
                end += len(header) + (len(data) + 511 & ~511)
            _pwrite(new.fd, tar_write.END, end)
            new.close()
            new.name(self._location.path)

    def _order(self, listed: list[tuple[Put, str]]) -> list[str]:
        """The digests of all that belongs to the images, each once: blobs, the largest first, then the documents.

        A copy sends them in this order (transfer/copy.py), so the file rarely has to be copied at the end.
        """
        puts = {put.descriptor.digest: put for put in self._roots.all}
        blobs: dict[str, int] = {}
        documents: dict[str, None] = {}

        def walk(put: Put) -> None:
            if isinstance(put.document, Index):
                for one in put.document.manifests:
                    if one.digest in puts and one.digest not in documents:
                        walk(puts[one.digest])
            else:
                for one in (put.document.config, *put.document.layers):
                    if one.digest in self._regions:
                        blobs[one.digest] = one.size_bytes
                    elif not one.urls:  # a foreign layer may be missing
                        because = f"the blob {one.digest} of the manifest {put.descriptor.digest} is missing"
                        raise NotFound(f"write {str(self)!r}", because=because)
            documents[put.descriptor.digest] = None

        for put, _ in listed:
            walk(put)
        return [*sorted((one for one in blobs if one not in documents), key=lambda one: -blobs[one]), *documents]

    def _last_members(self, listed: list[tuple[Put, str]]) -> list[tuple[str, bytes]]:
        entries: list[index_json.Entry] = []
        for put, name in listed:
            entries = index_json.added(entries, index_json.entry_of(put.descriptor, self._index_name(name)))
        members = [(index_json.FILE, index_json.write(entries)), (index_json.MARKER, index_json.MARKER_BYTES)]
        images = self._docker_images(listed)
        if images:
            members.insert(1, (manifest_json.FILE, manifest_json.write(images)))
        elif self._for_docker:
            raise Usage(f"write {str(self)!r}", because="it would hold nothing that docker can load")
        return members

    def _index_name(self, name: str) -> str:
        """The name for index.json: unchanged, but a whole reference in an archive for docker. Raises Usage."""
        if not self._for_docker or not name or name.startswith("@"):
            return name
        return str(names.parse(name).tagged())

    def _docker_images(self, listed: list[tuple[Put, str]]) -> list[manifest_json.Image]:
        found: dict[str, tuple[Manifest, list[str]]] = {}
        for put, name in listed:
            chosen = self._docker_image(put)
            if chosen is not None:
                _, tags = found.setdefault(digests.of(chosen.raw), (chosen, []))
                reference = index_json.whole_reference(self._index_name(name))
                if reference is not None and reference.tag:
                    # The whole name: podman reads `debian:12` as localhost/debian:12.
                    tags.append(str(reference._replace(digest="")))
        return [
            manifest_json.Image(
                blob_name(one.config.digest), tuple(blob_name(layer.digest) for layer in one.layers), tuple(tags)
            )
            for one, tags in found.values()
        ]

    def _docker_image(self, put: Put) -> Manifest | None:
        """The image that docker will load: for an index, the one for this machine, or else the first that is there."""
        if isinstance(put.document, Manifest):
            one = put.document
            here = all(layer.digest in self._regions and layer.media_type in media_types.CODECS for layer in one.layers)
            return one if one.is_image and here else None
        puts = {other.descriptor.digest: other for other in self._roots.all}
        try:
            wanted = [manifest.choose(put.document, platform.host(), str(self)).digest]
        except NotFound:
            wanted = []
        for digest in (*wanted, *(one.digest for one in put.document.manifests)):
            if digest in puts and (image := self._docker_image(puts[digest])):
                return image
        return None

    def close(self) -> None:
        """As endpoint.Destination."""
        self._open.close()


def _pwrite(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _in_one_piece(regions: list[_Region], end: int) -> bool:
    """Whether they follow one another without gaps from the start of the file to `end`."""
    at = 0
    for region in regions:
        if region.start != at:
            return False
        at = region.end
    return at == end


def _gathered(source: int, regions: list[_Region], target: int) -> int:
    """Copy the regions to the start of the file `target`, without gaps. Returns where they end. Raises OSError."""
    end = 0
    for region in regions:
        at, left = region.start, region.content + region.size_bytes - region.start
        to = end
        while left:
            try:
                copied = os.copy_file_range(source, target, left, at, to)
            except OSError:
                copied = 0  # this file system can't
            if not copied:
                piece = os.pread(source, min(left, _PIECE_BYTES), at)
                _pwrite(target, piece, to)
                copied = len(piece)
            at, to, left = at + copied, to + copied, left - copied
        end += region.end - region.start
    return end
