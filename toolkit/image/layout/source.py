"""Read images from a layout, whether its files are in a folder or in a tar (image-spec 1.1, image-layout.md)."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from toolkit.errors import NotFound, Untrusted, reason
from toolkit.image import digest as digests
from toolkit.image.document import fields
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Raw
from toolkit.image.layout import index_json
from toolkit.image.layout.index_json import Entry
from toolkit.image.name import Location


class Files(Protocol):
    """The files of a layout, by their names in it (`blobs/sha256/…`). They are not verified."""

    def read(self, name: str, limit_bytes: int) -> bytes:
        """A whole file. Raises OSError, also if it is larger or not a regular file; CtkError."""
        ...

    def pieces(self, name: str, size_bytes: int, start: int) -> AbstractContextManager[Iterator[bytes]]:
        """A file from the offset `start` on. Raises OSError, CtkError; Untrusted if its size is not `size_bytes`."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


def blob_name(digest: str) -> str:
    """The name of the file with this digest's content. The digest has been checked before."""
    return "blobs/" + "/".join(digests.split(digest))


class LayoutSource:
    """An endpoint.Source. Raises NotFound with `hint` if there is no layout."""

    def __init__(self, files: Files, location: Location, hint: str) -> None:
        self._files = files
        self._location = location
        self._hint = hint
        self._entries: list[Entry] | None = None

    def __str__(self) -> str:
        return str(self._location)

    def entries(self) -> list[Entry]:
        """What index.json lists. Raises NotFound, Invalid."""
        if self._entries is None:
            index_json.check_marker(self._file(index_json.MARKER, 4096), f"{self._location.path}: {index_json.MARKER}")
            index = self._file(index_json.FILE, fields.LIMIT_BYTES)
            self._entries = index_json.read(index, f"{self._location.path}: {index_json.FILE}")
        return self._entries

    def _file(self, name: str, limit_bytes: int) -> bytes:
        try:
            return self._files.read(name, limit_bytes)
        except FileNotFoundError:
            raise NotFound(
                f"read the image {str(self)!r}",
                because=f"no OCI image layout is there ({name})",
                hint=self._hint,
            ) from None
        except OSError as error:
            raise NotFound(f"read {name!r} of {self._location.path!r}", because=reason(error)) from None

    def chosen(self, wanted: str = "") -> list[Entry]:
        """The entry for this tag, reference or `@digest`; with "" for the name in the location.

        Several entries are one image for several platforms. Raises NotFound, Usage.
        """
        return index_json.choose(self.entries(), wanted or self._location.name, str(self))

    def manifest(self, wanted: str = "") -> Raw:
        """As endpoint.Source. A digest need not be in index.json: it may be that of a manifest in an index."""
        digest = (wanted or self._location.name).removeprefix("@")
        if digests.is_digest(digest):
            listed = [entry.descriptor for entry in self.entries() if entry.descriptor.digest == digest]
            return self._document(digest, listed[0] if listed else None)
        chosen = self.chosen(wanted)
        if len(chosen) > 1:
            return index_json.one_image(chosen)
        return self._document(chosen[0].descriptor.digest, chosen[0].descriptor)

    def _document(self, digest: str, listed: Descriptor | None) -> Raw:
        doing = f"read the image's blob {digest}"
        try:
            data = self._files.read(blob_name(digest), fields.LIMIT_BYTES)
        except OSError as error:
            raise NotFound(doing, because=reason(error)) from None
        digests.verify(data, digest, doing)
        if listed is not None and listed.size_bytes != len(data):
            raise Untrusted(doing, because=f"it has {len(data)} bytes, and {listed.size_bytes} were announced")
        return Raw(data, "" if listed is None else listed.media_type, digest)

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[Iterator[bytes]]:
        """As endpoint.Source. Raises NotFound; Untrusted, if the size is another."""
        with contextlib.ExitStack() as stack:
            try:
                name = blob_name(descriptor.digest)
                pieces = stack.enter_context(self._files.pieces(name, descriptor.size_bytes, start))
            except OSError as error:
                raise NotFound(f"read the image's blob {descriptor.digest}", because=reason(error)) from None
            yield pieces

    def close(self) -> None:
        """As endpoint.Source."""
        self._files.close()
