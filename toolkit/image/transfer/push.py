"""`ctk push` and `ctk copy`: an image from any place to any other."""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from toolkit.errors import Usage
from toolkit.events import Done, Emit, Finished, Note, Planned, Started
from toolkit.image import name
from toolkit.image.document import platform
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Destination, Source
from toolkit.image.name import Location
from toolkit.image.store.store import StoreSource
from toolkit.image.transfer import attach, attached, places
from toolkit.image.transfer import copy as copying
from toolkit.image.transfer import tree as trees
from toolkit.image.transfer.attached import Attached
from toolkit.image.transfer.places import Access
from toolkit.image.transfer.tree import Tree
from toolkit.image.trust import gate, signing
from toolkit.text import quote


class CopyRequest(NamedTuple):
    """What `ctk copy` was asked for. `platform` "" is this machine's; `every` takes all that an index lists.

    `sbom` is a file that is attached to the image in its registry.
    `policy` is PullRequest's. `sign_by` is a key (fetch/signed_message.signer) that signs all the manifests for the
    destination, which is a registry then; `passphrase` unlocks it. `referrers` takes what is attached to it, too.
    """

    source: Location
    destination: Location
    platform: str = ""
    every: bool = False
    plain_http: tuple[str, ...] = ()
    jobs: int = copying.JOBS
    sbom: str = ""
    policy: str = ""
    sign_by: str = ""
    passphrase: str = ""
    referrers: bool = False

    def __repr__(self) -> str:
        """Without the passphrase, which no message or traceback may show."""
        return f"CopyRequest({self.source} to {self.destination})"


_TAKERS = (name.DOCKER, name.OCI, name.OCI_ARCHIVE)  # have a place for artifacts
_STAGES = (("manifest", "Read the manifest"), (copying.STAGE, "Copy what is missing"))


def copy(request: CopyRequest, emit: Emit) -> str:
    """Copy the image; its digest. Raises CtkError and OSError."""
    if request.every and request.platform:
        raise Usage("read the command line", because="--all takes every platform, and --platform one")
    if request.source == request.destination:
        raise Usage(f"copy {request.source}", because="source and destination are the same")
    if request.referrers and (request.source.transport != name.DOCKER or request.destination.transport not in _TAKERS):
        because = "what refers to an image is copied from a registry, to a registry or an OCI layout"
        raise Usage(f"copy {request.source} with --referrers to {request.destination}", because=because)
    began = time.monotonic()
    bill = attach.read(request.sbom, request.destination) if request.sbom else None
    emit(Planned(_STAGES))
    access = Access(frozenset(request.plain_http), cancelled=threading.Event(), emit=emit)
    with places.source(request.source, access) as source:
        started = time.monotonic()
        emit(Started("manifest"))
        wanted = _wanted(request.source)
        if request.every:
            tree = trees.whole(source, wanted)
        else:
            tree = trees.one(source, wanted, platform.parse(request.platform) if request.platform else platform.host())
        gate.check(request.source, source, request.policy, tree.top.digest, tree.images, emit)
        trees.check(source, tree)
        artifacts = _artifacts(request, source, tree, emit)
        signatures = _signatures(request, tree)
        emit(Finished("manifest", time.monotonic() - started, tree.top.digest))
        with places.destination(request.destination, access) as destination:
            moved = copying.copy(
                source,
                destination,
                Tree((*artifacts.documents, *tree.documents)),
                _name(request),
                emit,
                jobs=request.jobs,
                cancelled=access.cancelled,
                mount=_mount(source, destination, tree),
                tags=artifacts.tags,
            )
            sbom = attach.put(destination, _described(tree), bill) if bill else ""
            for digest, keep in signatures:
                emit(Note(f"{copying.short(digest)} is signed: {keep(destination)!r}"))
    text = f"copied {request.source} to {request.destination}: {tree.top.digest}"
    result: dict[str, object] = {
        "source": str(request.source),
        "destination": str(request.destination),
        "digest": tree.top.digest,
    }
    result |= {"sbom": sbom} if sbom else {}
    result |= {"referrers": len(artifacts.documents)} if request.referrers else {}
    steps = (f"ctk image referrers {quote(_called(request.destination))}",) if sbom else ()
    emit(Done(text, time.monotonic() - began, result | {"bytes": moved}, steps))
    return tree.top.digest


def _artifacts(request: CopyRequest, source: Source, tree: Tree, emit: Emit) -> Attached:
    """What is attached to the image, if that was asked for; else it is told that it stays behind."""
    if isinstance(source, attached.Repository) and request.destination.transport in _TAKERS:
        if request.referrers:
            return attached.of(source, tree)
        if attached.is_any(source, [tree.top.digest]):
            emit(Note("signatures or other artifacts that refer to the image are not copied; --referrers takes them"))
    return Attached((), {})


def _name(request: CopyRequest) -> str:
    """What the image is called at the destination. In an archive without one it keeps its name, as `save` of podman
    and docker has it: `load` would leave it nameless."""
    found = places.name_there(request.destination)
    reference = request.source.reference
    if found or reference is None or request.destination.transport not in (name.OCI_ARCHIVE, name.DOCKER_ARCHIVE):
        return found
    return "" if reference.digest and not reference.tag else str(reference._replace(digest="").tagged())


def _signatures(request: CopyRequest, tree: Tree) -> list[tuple[str, signing.Keep]]:
    """Made before anything is moved, so that a key that can't be used leaves nothing unsigned in a registry."""
    if not request.sign_by:
        return []
    digests = [raw.digest for raw, _ in tree.documents]
    return signing.signed(request.destination, digests, request.sign_by, request.passphrase)


def _wanted(source: Location) -> str:
    """A place was opened for its image already; a registry is asked for the tag or digest of the reference."""
    return source.reference.wanted if source.transport == name.DOCKER and source.reference else ""


def _described(tree: Tree) -> Descriptor:
    raw, document = tree.documents[-1]
    return Descriptor(document.media_type, raw.digest, len(raw.data))


def _called(destination: Location) -> str:
    return destination.reference.familiar if destination.reference else str(destination)


def _mount(source: Source, destination: Destination, tree: Tree) -> Callable[[Descriptor], bool] | None:
    """What has a blob of another repository of the same registry mounted (distribution-spec 1.1, "Mounting a blob").

    The store's names tell where a registry may have a blob: what an image was made from was often pulled there.
    """
    from toolkit.image.registry.client import Registry

    if not isinstance(destination, Registry):
        return None
    there = destination.reference
    if isinstance(source, StoreSource):
        others = source.repositories(there.registry)
    elif isinstance(source, Registry) and source.reference.registry == there.registry:
        others = dict.fromkeys((blob.digest for blob in tree.blobs), source.reference.repository)
    else:
        return None

    def mount(blob: Descriptor) -> bool:
        repository = others.get(blob.digest, there.repository)
        return repository != there.repository and destination.mount(blob, repository)

    return mount
