"""What all places of images have in common: a source gives manifests and blobs, a destination takes them.

A registry, a layout in a folder or in a tar, docker's archive and the store are each one of these, or both, so that
`transfer` copies from any to any.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from toolkit.errors import Unreachable
from toolkit.image.document.descriptor import Descriptor


class Raw(NamedTuple):
    """A manifest or index as it came. `media_type` is what its place calls it, "" if it does not say.

    `digest` is that of `data`; whoever returns one has hashed it.
    """

    data: bytes
    media_type: str
    digest: str


class Aborted(Unreachable):
    """A transfer that broke off, and may succeed if it is made again from its first piece."""


class Source(Protocol):
    """Where images are read. `str()` names it in messages. Raises CtkError and OSError."""

    def manifest(self, wanted: str = "") -> Raw:
        """The manifest or index of this tag or digest; "" for the image that the source was opened for.

        A digest is verified here. At most fields.LIMIT_BYTES.
        """
        ...

    def blob(self, descriptor: Descriptor, start: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a blob from the offset `start` on, in pieces as they come.

        They are not verified: whoever takes them hashes them, and takes no more than `descriptor.size_bytes`.
        """
        ...

    def close(self) -> None:
        """Give back connections and descriptors."""
        ...


class Destination(Protocol):
    """Where images are written. `str()` names it. Raises CtkError and OSError; nothing half-written has a name then."""

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, whole."""
        ...

    def put_blob(self, descriptor: Descriptor, pieces: Iterator[bytes]) -> None:
        """Take a blob. It is hashed on the way, and refused (Untrusted) if digest or size are others.

        Raises Aborted if the same pieces from the start are worth another try.
        """
        ...

    def put_manifest(self, raw: Raw, name: str = "") -> None:
        """Take a manifest or index whose blobs and manifests are there. `name` is the tag or reference; "" for none."""
        ...

    def commit(self) -> None:
        """The last call of a copy: an archive gets its name here."""
        ...

    def close(self) -> None:
        """Give back everything; without `commit` an archive is gone afterwards."""
        ...
