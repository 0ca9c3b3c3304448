"""Images on disk: an OCI image layout in a folder or a tar, and docker's archive.

The modules for archives import several compressions, so they are imported when an archive is opened.
"""

import re

from toolkit.errors import Usage
from toolkit.image import name
from toolkit.image.endpoint import Destination, Source
from toolkit.image.layout import folder
from toolkit.image.name import Location

TRANSPORTS = (name.OCI, name.OCI_ARCHIVE, name.DOCKER_ARCHIVE)

# image-spec 1.1, annotations.md: skopeo and umoci take no other
_COMPONENT = "[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
_NAME = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")


def open_source(location: Location) -> Source:
    """A source for a location with one of TRANSPORTS. Raises NotFound, Malformed, Invalid."""
    if location.transport == name.OCI:
        return folder.open_source(location)
    if location.transport == name.OCI_ARCHIVE:
        from toolkit.image.layout import archive

        return archive.open_source(location)
    if location.transport == name.DOCKER_ARCHIVE:
        from toolkit.image.layout.docker_archive import DockerArchiveSource

        return DockerArchiveSource(location)
    raise AssertionError(f"{location.transport} is not on a disk")


def open_destination(location: Location, *, replace: bool = False) -> Destination:
    """A destination for such a location. With `replace` an archive may replace a file.

    Raises Usage, InUse, CtkError.
    """
    if location.transport != name.DOCKER_ARCHIVE and location.name and not location.name.startswith("@"):
        check_name(location)
    if location.transport == name.OCI:
        return folder.FolderDestination(location)
    if location.transport in (name.OCI_ARCHIVE, name.DOCKER_ARCHIVE):
        from toolkit.image.layout import archive

        return archive.ArchiveDestination(location, replace=replace)
    raise AssertionError(f"{location.transport} is not on a disk")


def check_name(location: Location) -> None:
    """Raise Usage for a name that a layout's index.json should not have."""
    if not _NAME.fullmatch(location.name):
        because = f"{location.name!r} is no name of an image in a layout"
        hint = "a name is of letters and digits, with one of - . _ : @ + / or -- between them"
        raise Usage(f"write {str(location)!r}", because=because, hint=hint)
