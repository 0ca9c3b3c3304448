"""Manifests that refer to another one by their `subject`: signatures, bills of materials (distribution-spec 1.1).

For a registry without the referrers API, the clients maintain an index under a tag made of the subject's digest
("Referrers Tag Schema").
"""

from urllib.parse import urlencode

from toolkit.errors import CtkError, Invalid, NotFound, Unreachable
from toolkit.fetch.response import discard
from toolkit.fetch.transfer import Broken
from toolkit.image import digest as digests
from toolkit.image.document import fields, manifest, media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.registry.connection import Connection
from toolkit.image.registry.pages import pages
from toolkit.image.registry.token import PULL, PUSH

MOST_PAGES = 100
_MOST = 10_000
# How registries say that they do not know the endpoint; the specification has 404 only.
_UNKNOWN = frozenset({400, 404, 405, 406, 501})


def tag_of(digest: str) -> str:
    """The tag of a subject's index."""
    algorithm, encoded = digests.split(digest)
    return f"{algorithm[:32]}-{encoded[:64]}"


def find(connection: Connection, digest: str, artifact_type: str = "") -> list[Descriptor]:
    """The manifests that refer to this digest, of one type or of all. Raises Untrusted, Invalid, Unreachable."""
    found = _by_api(connection, digest, artifact_type)
    if found is None:
        index = _tagged(connection, digest)
        found = [] if index is None else list(index.manifests)
    return [one for one in found if not artifact_type or one.artifact_type == artifact_type]


def add(connection: Connection, raw: bytes, media_type: str, digest: str) -> None:
    """Add a manifest that was pushed to its subject's index, for a registry without the API. Raises CtkError."""
    document = manifest.read(raw, media_type, digest)
    assert document.subject is not None
    kind = document.artifact_type or (document.config.media_type if isinstance(document, Manifest) else "")
    entry = Descriptor(document.media_type, digest, len(raw), document.annotations, artifact_type=kind)
    index = _tagged(connection, document.subject.digest, strict=True)
    listed = () if index is None else index.manifests
    if all(one.digest != digest for one in listed):
        _put(connection, document.subject.digest, [*listed, entry])


def remove(connection: Connection, subject: str, digest: str) -> None:
    """Remove a deleted manifest from its subject's index, for a registry without the API. Raises CtkError."""
    if _by_api(connection, subject, "") is not None:
        return
    index = _tagged(connection, subject)
    if index is not None and any(one.digest == digest for one in index.manifests):
        _put(connection, subject, [one for one in index.manifests if one.digest != digest])


def _by_api(connection: Connection, digest: str, artifact_type: str) -> list[Descriptor] | None:
    """The registry's own list; None if it has no such endpoint."""
    doing = f"list what refers to {digest} in {connection.place}"
    query = "?" + urlencode({"artifactType": artifact_type}) if artifact_type else ""
    path = connection.path(f"referrers/{digest}") + query
    found: dict[str, Descriptor] = {}
    for page in pages(connection, path, doing, {"Accept": media_types.OCI_INDEX}, MOST_PAGES):
        if page.failure is not None:
            if page.status in _UNKNOWN:
                return None
            raise page.failure
        media_type = media_types.bare(page.headers.get("Content-Type", ""))
        if media_type != media_types.OCI_INDEX and not found:
            return None  # some servers answer any path with a web page
        document = manifest.read(page.data, media_type, f"the referrers of {digest}")
        if not isinstance(document, Index):
            raise Invalid("", "must be an index", document=f"the referrers of {digest}")
        found.update((one.digest, one) for one in document.manifests)
        if len(found) > _MOST:
            raise Invalid("manifests", f"has more than {_MOST} entries", document=f"the referrers of {digest}")
    return list(found.values())


def _tagged(connection: Connection, digest: str, *, strict: bool = False) -> Index | None:
    """The index under the subject's tag; None if there is none, or something else. `strict` raises Invalid then."""
    doing = f"list what refers to {digest} in {connection.place}"
    path = connection.path(f"manifests/{tag_of(digest)}")
    response = connection.request("GET", path, doing, actions=PULL, headers={"Accept": media_types.OCI_INDEX})
    if response.status_code != 200:
        failure = connection.failure(response, doing)
        if isinstance(failure, NotFound):
            return None
        raise failure
    try:
        data = connection.read(response, doing, fields.LIMIT_BYTES)
    except Broken as error:
        raise Unreachable(doing, because=f"{connection.place.host}: {error}") from None
    try:
        document = manifest.read(data, response.headers.get("Content-Type", ""), f"the tag {tag_of(digest)}")
        if not isinstance(document, Index):
            raise Invalid("", "must be an index, and is an image", document=f"the tag {tag_of(digest)}")
    except Invalid:
        if strict:
            raise
        return None
    return document


def _put(connection: Connection, subject: str, entries: list[Descriptor]) -> None:
    doing = f"list what refers to {subject} in {connection.place}"
    headers = {"Content-Type": media_types.OCI_INDEX}
    path = connection.path(f"manifests/{tag_of(subject)}")
    data = manifest.write_index(entries)
    response = connection.request("PUT", path, doing, actions=PUSH, headers=headers, body=data)
    if response.status_code != 201:
        failure: CtkError = connection.failure(response, doing)
        raise failure
    discard(response)
