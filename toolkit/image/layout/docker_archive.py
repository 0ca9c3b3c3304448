"""Read the archives of `docker save` and `podman save` in place (manifest_json.py).

They hold no manifest, so one is made. The digest of the configuration is that of its bytes, whatever its name says, as
docker, podman and skopeo have it. A layer's digest is that of the member; most are plain tars, whose digest is the
diff id. A layer may be a symlink to another layer; its target is looked up among the members.
"""

import contextlib
import hashlib
import posixpath
import re
from collections.abc import Iterator

from toolkit.archive.entries import FILE, SYMLINK
from toolkit.errors import Invalid, Malformed, NotFound, reason
from toolkit.image import digest as digests
from toolkit.image.document import config, fields, manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Raw
from toolkit.image.layout import index_json, manifest_json
from toolkit.image.layout.tar_files import TarFiles
from toolkit.image.name import Location

_CODECS = {b"\x1f\x8b": media_types.GZIP, b"\x28\xb5\x2f\xfd": media_types.ZSTD}
_FOREIGN_CODECS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_IN_NAME = re.compile(r"(?:blobs/(sha256|sha512)/)?([0-9a-f]{64}(?:[0-9a-f]{64})?)(?:\.json)?")


class DockerArchiveSource:
    """An endpoint.Source. Raises NotFound if there is no manifest.json; Malformed, Invalid."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._files = TarFiles(location.path)
        self._made: dict[manifest_json.Image, Raw] = {}
        self._members: dict[str, str] = {}
        try:
            self._images = self._listed()
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self._location)

    def _listed(self) -> list[manifest_json.Image]:
        path = self._location.path
        try:
            data = self._files.read(manifest_json.FILE, fields.LIMIT_BYTES)
        except FileNotFoundError:
            hint = "an image's archive has manifest.json or index.json at its top"
            if index_json.FILE in self._files.places:
                hint = f"it is an OCI image layout: oci-archive:{path} reads it"
            elif "repositories" in self._files.places:
                hint = "a docker before 1.10 wrote it: load it into a newer docker and save it again"
            because = f"it is not a docker archive ({manifest_json.FILE} is not in it)"
            raise NotFound(f"read the image {str(self)!r}", because=because, hint=hint) from None
        except OSError as error:
            raise Malformed(f"read {manifest_json.FILE!r} of {path!r}", because=reason(error)) from None
        return manifest_json.read(data, f"{path}: {manifest_json.FILE}")

    def manifest(self, wanted: str = "") -> Raw:
        """As endpoint.Source. The manifest is made here; a digest is that of a manifest made here."""
        name = wanted or self._location.name
        digest = name.removeprefix("@")
        if not digests.is_digest(digest):
            return self._make(manifest_json.choose(self._images, name, str(self)))
        for image in self._images:
            raw = self._make(image)
            if digest == raw.digest:
                return raw
        raise NotFound(f"read the image {str(self)!r}", because=f"no image in it has the digest {digest}")

    def _make(self, image: manifest_json.Image) -> Raw:
        """The manifest for an image of the archive. Raises Invalid, Untrusted, Malformed, NotFound."""
        if made := self._made.get(image):
            return made
        document = f"{self._location.path}: {image.config}"
        data = self._read(image.config)
        said = config.read(data, document)
        config.check_layers(said, len(image.layers), document)
        described = manifest.described(data, media_types.OCI_CONFIG)
        layers = []
        for name, diff_id in zip(image.layers, said.diff_ids, strict=True):
            layers.append(self._layer(name, diff_id))
        raw_data = manifest.write(described, layers)
        self._members[described.digest] = image.config
        made = Raw(raw_data, media_types.OCI_MANIFEST, digests.of(raw_data))
        self._made[image] = made
        return made

    def _layer(self, name: str, diff_id: str) -> Descriptor:
        member = self._followed(name)
        size = self._files.places[member].size_bytes
        with self._files.pieces(member, size, 0) as pieces:
            head = next(pieces, b"")
        codec = next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), media_types.PLAIN)
        for magic, foreign in _FOREIGN_CODECS.items():
            if head.startswith(magic):
                because = f"it is compressed with {foreign}, which is not allowed for layers"
                raise Malformed(f"read the layer {name!r} of {self._location.path!r}", because=because)
        digest = diff_id
        if codec:
            named = _IN_NAME.fullmatch(member)
            digest = f"{named[1]}:{named[2]}" if named and named[1] else ""
            if not digests.is_digest(digest):
                digest = self._hashed(member, size)
        self._members[digest] = member
        return Descriptor(media_types.layer_type(codec), digest, size)

    def _hashed(self, member: str, size: int) -> str:
        found = hashlib.sha256()
        with self._files.pieces(member, size, 0) as pieces:
            for piece in pieces:
                found.update(piece)
        return f"sha256:{found.hexdigest()}"

    def _followed(self, name: str) -> str:
        """The name of the file that `name` stands for; one symlink is followed. Raises NotFound, Malformed."""
        doing = f"read {name!r} of {self._location.path!r}"
        member = name.removeprefix("./")
        found = self._files.places.get(member)
        if found is not None and found.kind == SYMLINK:
            member = posixpath.normpath(posixpath.join(posixpath.dirname(member), found.link))
            found = self._files.places.get(member)
        if found is None:
            raise NotFound(doing, because=f"there is no {member!r} in it")
        if found.kind != FILE:
            raise Malformed(doing, because=f"{member!r} is not a file")
        return member

    def _read(self, name: str) -> bytes:
        member = self._followed(name)
        size_bytes = self._files.places[member].size_bytes
        if size_bytes > fields.LIMIT_BYTES:
            because = f"it has {size_bytes} bytes, and {fields.LIMIT_BYTES} is the limit"
            raise Invalid("", because, document=f"{self._location.path}: {name}")
        return self._files.read(member, fields.LIMIT_BYTES)

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[Iterator[bytes]]:
        """As endpoint.Source. Raises NotFound; Untrusted, if the size is another."""
        if descriptor.digest not in self._members:
            for image in self._images:
                self._make(image)
        member = self._members.get(descriptor.digest)
        if member is None:
            raise NotFound(
                f"read the image's blob {descriptor.digest}", because=f"it is not in {self._location.path!r}"
            )
        with self._files.pieces(self._followed(member), descriptor.size_bytes, start) as pieces:
            yield pieces

    def close(self) -> None:
        """As endpoint.Source."""
        self._files.close()
