"""Descriptors: what kind of content, its digest, its size (image-spec 1.1, descriptor.md)."""

from typing import Any, NamedTuple

from toolkit.image import digest as digests
from toolkit.image.document import media_types, platform
from toolkit.image.document.fields import Fields
from toolkit.image.document.platform import Platform

KNOWN = ("mediaType", "digest", "size", "urls", "annotations", "data", "artifactType", "platform")
REF_NAME = "org.opencontainers.image.ref.name"


class Descriptor(NamedTuple):
    """Names content. `urls` are kept to be passed on; nothing is fetched from them (CVE-2020-15157)."""

    media_type: str
    digest: str
    size_bytes: int
    annotations: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    platform: Platform | None = None
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The tag in a layout's index; "" for none."""
        return self.annotations.get(REF_NAME, "")

    def in_oci(self) -> "Descriptor":
        """The same content as image-spec calls it, if this is a type of docker's: the bytes are the same."""
        return self._replace(media_type=media_types.IN_OCI.get(self.media_type, self.media_type))

    def as_json(self) -> dict[str, Any]:
        """The object, its fields in the order of the specification."""
        whole: dict[str, Any] = {"mediaType": self.media_type}
        if self.artifact_type:
            whole["artifactType"] = self.artifact_type
        whole |= {"digest": self.digest, "size": self.size_bytes}
        if self.urls:
            whole["urls"] = list(self.urls)
        if self.annotations:
            whole["annotations"] = dict(self.annotations)
        if self.platform is not None:
            found = {"architecture": self.platform.architecture, "os": self.platform.os}
            whole["platform"] = found | ({"variant": self.platform.variant} if self.platform.variant else {})
        return whole


def read(part: Fields) -> Descriptor:
    """A descriptor out of a document. Raises Invalid."""
    for name in ("mediaType", "digest"):
        if not part.text(name):
            raise part.invalid(name, "is missing")
    for name in ("mediaType", "artifactType"):
        if part.text(name) and not media_types.is_media_type(part.text(name)):
            raise part.invalid(name, f"{part.text(name)!r} is not a media type")
    if not digests.is_digest(part.text("digest")):
        raise part.invalid("digest", f"{part.text('digest')!r} is not a digest (sha256:… or sha512:…, in lower case)")
    return Descriptor(
        part.text("mediaType"),
        part.text("digest"),
        part.natural("size"),
        part.pairs("annotations"),
        platform.read(part.object("platform", platform.KNOWN)),
        part.text("artifactType"),
        part.texts("urls"),
    )
