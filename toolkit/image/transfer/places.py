"""Opens the places that people name: docker://, oci:, oci-archive:, docker-archive: and the store."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from toolkit.events import Emit, silent
from toolkit.image import layout, name
from toolkit.image.endpoint import Destination, Source
from toolkit.image.name import Location
from toolkit.image.store import limit
from toolkit.image.store.store import Store, StoreDestination

if TYPE_CHECKING:
    from toolkit.image.registry.client import Registry


class Access(NamedTuple):
    """How registries are reached. `plain_http` are hosts that are asked by http; `cancelled` stops all transfers.

    `trace` gets what is asked and verified (Traced), for `--explain`.
    """

    plain_http: frozenset[str] = frozenset()
    username: str = ""
    password: str = ""
    cancelled: threading.Event | None = None
    emit: Emit = silent
    trace: Emit | None = None

    def registry(self, reference: name.Reference) -> "Registry":
        """The repository of a reference. Nothing is asked yet. Raises Usage, Invalid, Untrusted."""
        from toolkit.image.registry import client  # with requests: what stays on this machine needs neither

        return client.open(
            reference,
            plain_http=True if reference.registry in self.plain_http else None,
            username=self.username,
            password=self.password,
            cancelled=self.cancelled,
            emit=self.emit,
            trace=self.trace,
        )


@contextmanager
def source(location: Location, access: Access) -> Iterator[Source]:
    """Where an image is read. Raises CtkError."""
    found = _source(location, access)
    try:
        yield found
    finally:
        found.close()


def _source(location: Location, access: Access) -> Source:
    if location.reference is None:
        return layout.open_source(location)
    if location.transport == name.STORE:
        return Store().source(location.reference)
    return access.registry(location.reference)


@contextmanager
def destination(location: Location, access: Access) -> Iterator[Destination]:
    """Where an image is written; the store is kept within its limit afterwards. Raises CtkError."""
    found = _destination(location, access)
    try:
        yield found
        if isinstance(found, StoreDestination):
            limit.keep(Store(), access.emit)
    finally:
        found.close()


def _destination(location: Location, access: Access) -> Destination:
    if location.reference is None:
        return layout.open_destination(location)
    if location.transport == name.STORE:
        return Store().destination()
    return access.registry(location.reference)


def name_there(location: Location) -> str:
    """What an image is called at its destination: a tag of a registry, a whole reference, or a layout's name.

    A digest is not a name that could be given.
    """
    if location.reference is None:
        return location.name.removeprefix("@")
    if location.transport == name.STORE:
        return str(location.reference.tagged())
    return location.reference.tag or ("" if location.reference.digest else name.DEFAULT_TAG)
