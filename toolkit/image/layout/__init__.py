"""Images on this machine's disk: an OCI image layout in a folder or a tar, and docker's archive."""

from toolkit.image import name
from toolkit.image.endpoint import Destination, Source
from toolkit.image.layout import folder
from toolkit.image.name import Location


def open_source(location: Location) -> Source:
    """Where an image is read; the transport is oci, oci-archive or docker-archive. Raises NotFound, Malformed."""
    assert location.transport == name.OCI
    return folder.open_source(location)


def open_destination(location: Location) -> Destination:
    """Where images are written. Raises Usage, CtkError."""
    assert location.transport == name.OCI
    return folder.FolderDestination(location)
