"""What is asked of a registry itself: the tags of a repository, what refers to an image, and that it deletes one."""

from contextlib import closing
from typing import NamedTuple

from toolkit.errors import NotFound, Usage
from toolkit.image import name
from toolkit.image.document import platform as platforms
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.name import Location, Reference
from toolkit.image.transfer import tree as trees
from toolkit.image.transfer.places import Access
from toolkit.text import quote


class Referrers(NamedTuple):
    """The manifests whose `subject` is the one with this digest."""

    subject: str
    found: list[Descriptor]


def of_registry(text: str) -> Reference:
    """The reference in what somebody typed, with or without docker://. Raises Usage."""
    location = name.locate(text, default=name.DOCKER)
    if location.transport != name.DOCKER or location.reference is None:
        raise Usage(f"use {text!r}", because="it is not in a registry", hint="name it docker://REGISTRY/REPOSITORY")
    return location.reference


def tags(text: str, access: Access) -> list[str]:
    """The tags of a repository, in the registry's order. Raises NotFound, CtkError."""
    reference = of_registry(text)
    if reference.tag or reference.digest:
        because = "it names one image, and tags are listed of a repository"
        raise Usage(f"list the tags of {text!r}", because=because, hint=f"ctk image tags {quote(reference.name)}")
    with closing(access.registry(reference)) as there:
        return there.tags()


def delete(reference: Reference, access: Access) -> str:
    """Delete a tag, or a manifest by its digest, with all its tags. Returns its name. Raises NotFound, CtkError."""
    if not reference.tag and not reference.digest:  # what skopeo takes for `latest`
        hint = f"ctk image tags {quote(reference.name)}"
        raise Usage(f"delete {reference.name}", because="it has neither a tag nor a digest", hint=hint)
    with closing(access.registry(reference)) as there:
        there.delete(reference.wanted)
    return str(Location(name.DOCKER, reference=reference))


def referrers(text: str, platform: str, artifact_type: str, access: Access) -> Referrers:
    """What refers to an image: signatures, bills of materials, attestations.

    `platform` "" asks for what was named itself, which may be an index; else for the image that it has for this
    platform. Raises NotFound, CtkError.
    """
    reference = of_registry(text)
    with closing(access.registry(reference)) as there:
        if platform:
            digest = trees.one(there, "", platforms.parse(platform)).top.digest
        else:
            found = there.head()
            if found is None:
                raise NotFound(f"list what refers to {reference.familiar}", because="the registry has no such image")
            digest = found.digest
        return Referrers(digest, there.referrers(digest, artifact_type))
