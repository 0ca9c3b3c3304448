"""Which of the manifests that a copy has put into a layout are listed in index.json, and under which names. Pure."""

from typing import NamedTuple

from toolkit.errors import Usage
from toolkit.image import digest as digests
from toolkit.image.document import manifest
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.endpoint import Raw
from toolkit.image.name import Location


class Put(NamedTuple):
    """A manifest or index that was put, and the name given for it."""

    descriptor: Descriptor
    document: Manifest | Index
    name: str


class Roots:
    """Listed are those with a name, and those that are in no index of the same copy.

    The name in `location` is that of the only image without one.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._puts: list[Put] = []

    def put(self, raw: Raw, name: str) -> Put:
        """Record it. Raises Invalid, Untrusted."""
        digests.verify(raw.data, raw.digest, f"write the manifest {raw.digest}")
        document = manifest.read(raw.data, raw.media_type, raw.digest)
        kind = document.artifact_type
        if isinstance(document, Manifest) and not document.is_image:
            kind = kind or document.config.media_type  # descriptor.md, "artifactType"
        put = Put(Descriptor(document.media_type, raw.digest, len(raw.data), artifact_type=kind), document, name)
        if put not in self._puts:
            self._puts.append(put)
        return put

    @property
    def all(self) -> list[Put]:
        """All that were put, in this order."""
        return list(self._puts)

    def listed(self) -> list[tuple[Put, str]]:
        """What index.json has to list, with the names. Raises Usage if the location's name does not fit."""
        inside = {one.digest for put in self._puts if isinstance(put.document, Index) for one in put.document.manifests}
        named = {put.descriptor.digest for put in self._puts if put.name}
        roots = [
            put
            for put in self._puts
            if put.name or (put.descriptor.digest not in inside and put.descriptor.digest not in named)
        ]
        wanted = self._location.name
        unnamed = [put for put in roots if not put.name and put.document.subject is None]
        digest = wanted.removeprefix("@")
        if digests.is_digest(digest) and any(put.descriptor.digest != digest for put in unnamed):
            because = f"the image's digest is {unnamed[0].descriptor.digest}"
            raise Usage(f"write {str(self._location)!r}", because=because, hint="leave the digest out, or give a tag")
        if not wanted or digests.is_digest(digest) or not unnamed:
            return [(put, put.name) for put in roots]
        if len(unnamed) > 1:
            raise Usage(
                f"write {str(self._location)!r}",
                because=f"{len(unnamed)} images can't have the same name",
                hint="leave the tag out",
            )
        return [(put, wanted if put is unnamed[0] else put.name) for put in roots]
