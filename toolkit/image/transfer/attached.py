"""What is attached to an image in a registry: signatures, bills of materials, attestations.

They are manifests whose `subject` is the image (distribution-spec 1.1, "Listing Referrers"), or have a tag made of its
digest (cosign's specs/SIGNATURE_SPEC.md, "Tag-based discovery"). A signature of GnuPG's lies in a lookaside, and is not
in the registry.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from toolkit.errors import CtkError, Untrusted
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.endpoint import Raw, Source
from toolkit.image.transfer import tree as trees
from toolkit.image.transfer.tree import Tree

_SUFFIXES = ("sig", "att", "sbom")
_MOST = 1000  # artifacts of one image


@runtime_checkable
class Repository(Source, Protocol):
    """A source that has artifacts: registry/client.py's."""

    def head(self, wanted: str = "") -> Descriptor | None:
        """What a tag or digest is; None for nothing."""
        ...

    def referrers(self, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """What has this digest as its subject."""
        ...


class Attached(NamedTuple):
    """Artifacts, each before what it refers to; `tags` of those that have one, by their digests."""

    documents: tuple[tuple[Raw, Manifest | Index], ...]
    tags: dict[str, str]


def of(source: Repository, tree: Tree) -> Attached:
    """All that is attached to the manifests of an image, and to that in turn. Raises Untrusted (too many), CtkError."""
    found: dict[str, tuple[Raw, Manifest | Index]] = {}
    tags: dict[str, str] = {}
    there = {raw.digest for raw, _ in tree.documents}
    waiting = [raw.digest for raw, _ in tree.documents]
    while waiting:
        digest = waiting.pop()
        tagged = list(_tags(source, digest))
        for wanted in (*tagged, *(one.digest for one in source.referrers(digest))):
            if wanted in found or wanted in there:
                continue
            artifact = trees.whole(source, wanted)
            if wanted in tagged:
                tags[artifact.top.digest] = wanted
            new = [one for one in artifact.documents if one[0].digest not in found and one[0].digest not in there]
            found.update((one[0].digest, one) for one in new)
            waiting += [one[0].digest for one in new]
            if len(found) > _MOST:
                raise Untrusted(f"copy what refers to {tree.top.digest}", because=f"there are more than {_MOST}")
    return Attached(tuple(found.values()), tags)


def _tags(source: Repository, digest: str) -> Iterator[str]:
    for suffix in _SUFFIXES:
        tag = f"{digest.replace(':', '-', 1)}.{suffix}"
        if source.head(tag) is not None:
            yield tag


def is_any(source: Repository, digests: Iterable[str]) -> bool:
    """Whether something is attached to one of these manifests; False if the registry does not say."""
    try:
        return any(source.referrers(digest) or next(_tags(source, digest), "") for digest in digests)
    except CtkError:
        return False
