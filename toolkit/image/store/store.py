"""The store as a place of images: as a source, as a destination, and by its names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from toolkit.errors import CtkError, NotFound
from toolkit.events import Emit, silent
from toolkit.image import digest as digests
from toolkit.image.document import manifest, media_types, platform
from toolkit.image.document.config import ImageConfig
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.document.manifest import Index, Manifest
from toolkit.image.document.platform import Platform
from toolkit.image.endpoint import Raw
from toolkit.image.layout.index_json import Entry
from toolkit.image.name import Reference, parse
from toolkit.image.store import leases, names, reach
from toolkit.image.store.blobs import Blobs, Part
from toolkit.image.store.layers import Layers
from toolkit.image.store.place import PARTS, Place
from toolkit.text import quote


class Image(NamedTuple):
    """One image for one platform. `top` is the entry of the store: this manifest, or an index with it."""

    top: Descriptor
    digest: str
    manifest: Manifest
    config: ImageConfig


class Store:
    """The images below `folder`, by default those of this user (toolkit/places.py)."""

    def __init__(self, folder: str = "") -> None:
        self.place = Place(folder)
        self.blobs = Blobs(self.place)
        self.layers = Layers(self.place)

    def __str__(self) -> str:
        return f"the image store {self.place.folder!r}"

    def entries(self) -> list[Entry]:
        """What index.json names, an entry a name. Raises Invalid, CtkError."""
        return names.read(self.place)

    def resolve(self, text: str) -> Descriptor:
        """What a name, a digest or the first digits of one mean. Raises NotFound, Usage, Invalid."""
        entries = self.entries()
        return names.resolve(entries, text, lambda: self.ids(entries)).descriptor

    def image(self, text: str, wanted: Platform | None = None) -> Image:
        """The image that `text` means, for a platform; by default for this machine's.

        Without `wanted` an image for another machine is taken if it is the only one. Raises NotFound, Usage, Invalid,
        Untrusted.
        """
        top = self.resolve(text)
        one, document = top, reach.read(self.blobs, top.digest, top.media_type)
        for _ in range(4):
            if isinstance(document, Manifest):
                break
            there = document._replace(manifests=tuple(each for each in document.manifests if self.blobs.has(each)))
            only = [each for each in there.manifests if each.media_type in media_types.MANIFESTS and _runs(each)]
            if wanted is None and len(only) == 1:
                one = only[0]
            else:
                one = manifest.choose(there, wanted or platform.host(), text)
            document = reach.read(self.blobs, one.digest, one.media_type)
        if isinstance(document, Index):
            raise CtkError(f"read the image {text!r}", because="its indexes are nested too deeply")
        config = reach.config_of(self.blobs, document)
        if config is None:
            raise CtkError(f"use {text!r} as an image", because="it is an artifact, not a root file system")
        if wanted is not None and one is top and not platform.rank(wanted, config.platform):
            because = f"it is for {config.platform}, and {wanted} was asked for"
            raise NotFound(
                f"use the image {text!r}",
                because=because,
                hint=f"ctk pull --platform {quote(str(wanted))} {quote(text)}",
            )
        return Image(top, one.digest, document, config)

    def tag(self, text: str, name: str) -> str:
        """Give the image that `text` means one more name, in full. Raises NotFound, Usage, CtkError."""
        whole = names.whole(name)
        if "@" in whole:
            raise CtkError(f"name an image {name!r}", because="a digest is no tag: it is content's own name")
        with self.place.changing():
            names.set_name(self.place, whole, self.resolve(text))
        return whole

    def source(self, reference: Reference | str) -> "StoreSource":
        """The image of that name, to be read. Nobody removes it before `close`. Raises NotFound, CtkError."""
        with self.place.in_use():  # what was found is not removed before the lease holds
            top = self.resolve(str(reference))
            lease = leases.take(self.place, f"a command that reads {top.name or top.digest}", [top.digest])
        return StoreSource(self, top, lease)

    def destination(self, holder: str = "") -> "StoreDestination":
        """The store, to be written to; `holder` says in messages who does it. Raises CtkError."""
        return StoreDestination(self, leases.take(self.place, holder or f"the process {os.getpid()}, which adds to it"))

    def ids(self, entries: list[Entry]) -> dict[str, str]:
        """Digests of configurations (docker's image ids) and of manifests in an index; of which entry each is."""
        found: dict[str, str] = {}
        for top, _ in entries:
            try:
                for one, document in reach.manifests(self.blobs, top):
                    found.setdefault(document.config.digest, top.digest)
                    found.setdefault(one.digest, top.digest)
            except CtkError:
                continue  # a damaged image has no ids but its own
        return found


def _runs(one: Descriptor) -> bool:
    """Whether an entry of an index is an image: attestations have the platform unknown/unknown."""
    return one.platform is None or one.platform.architecture != "unknown"


class StoreSource:
    """endpoint.Source for one image of the store."""

    def __init__(self, store: Store, top: Descriptor, lease: leases.Lease) -> None:
        self._store = store
        self._lease = lease
        self.top = top

    def __str__(self) -> str:
        return str(self._store)

    def manifest(self, wanted: str = "") -> Raw:
        """The document of this digest, or of another tag of the same repository; "" for the image itself."""
        if not wanted:
            found = self.top
        elif digests.is_digest(wanted):
            return Raw(self._store.blobs.document(wanted), "", wanted)
        else:
            repository = self.top.name.partition("@")[0].rpartition(":")[0]
            found = self._store.resolve(f"{repository}:{wanted}")
            self._lease.add(found.digest)
        return Raw(self._store.blobs.document(found.digest), found.media_type, found.digest)

    @contextmanager
    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob, which was hashed just now. Raises NotFound, Untrusted."""
        with self._store.blobs.pieces(descriptor, start) as pieces:
            yield pieces

    def repositories(self, registry: str) -> dict[str, str]:
        """Where a registry may have blobs, by the names of the store's images: a repository for each digest."""
        found: dict[str, str] = {}
        for entry in self._store.entries():
            with suppress(CtkError):  # another program's tag, or a damaged image
                reference = parse(entry.name)
                if reference.registry == registry:
                    for _, document in reach.manifests(self._store.blobs, entry.descriptor):
                        found |= dict.fromkeys((blob.digest for blob in document.layers), reference.repository)
        return found

    def close(self) -> None:
        """Let the image be removed again."""
        self._lease.release()


class StoreDestination:
    """endpoint.Destination for the store. Until `close` nobody removes what was put here, or was found here."""

    def __init__(self, store: Store, lease: leases.Lease) -> None:
        self._store = store
        self._lease = lease
        self._nameless: dict[str, Descriptor] = {}
        self._below: set[str] = set()

    def __str__(self) -> str:
        return str(self._store)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there. If it is, it stays until `close`."""
        self._lease.add(descriptor.digest)
        return self._store.blobs.has(descriptor)

    def put_blob(self, descriptor: Descriptor, pieces: Iterator[bytes]) -> None:
        """Take a blob from its first byte on. Raises Untrusted, CtkError."""
        self._lease.add(descriptor.digest)
        self._store.blobs.put(descriptor, pieces)

    def adopt(self, descriptor: Descriptor, fd: int) -> None:
        """Take a whole file of ours, without a copy if it is in `folder` (blobs.Blobs.adopt). Raises as `put_blob`."""
        self._lease.add(descriptor.digest)
        self._store.blobs.adopt(descriptor, fd)

    @property
    def folder(self) -> str:
        """Where a file can be written that is to be adopted. Raises CtkError."""
        self._store.place.prepare()
        return self._store.place.path(PARTS)

    @contextmanager
    def receiving(self, descriptor: Descriptor, *, emit: Emit = silent) -> Iterator[Part]:
        """Take a blob, going on behind what an earlier try has left (blobs.Blobs.receiving)."""
        self._lease.add(descriptor.digest)
        with self._store.blobs.receiving(descriptor, emit=emit) as part:
            yield part

    def hold(self, digest: str) -> None:
        """Let nobody remove this laid-out layer, blob or image before `close`. Raises CtkError."""
        self._lease.add(digest)

    @property
    def lease_path(self) -> str:
        """The lease's file, for a process that adds to it on our behalf."""
        return self._lease.path

    def put_manifest(self, raw: Raw, name: str = "") -> None:
        """Take a manifest whose blobs are there, or an index; `name` is a reference.

        Manifests of an index may be missing: they are of platforms that nobody wanted. Raises Untrusted, Invalid,
        Usage (the name), CtkError.
        """
        doing = f"put {raw.digest} into the store"
        whole = names.whole(name) if name else ""
        digests.verify(raw.data, raw.digest, doing)
        document = manifest.read(raw.data, raw.media_type, raw.digest)
        top = Descriptor(document.media_type, raw.digest, len(raw.data))
        if isinstance(document, Manifest):
            if missing := reach.absent(self._store.blobs, document):
                raise CtkError(doing, because=f"its blob {missing[0].digest} is not in the store")
            config = reach.config_of(self._store.blobs, document)
            if config is not None and config.platform.architecture:
                top = top._replace(platform=config.platform)
        else:
            self._below.update(one.digest for one in document.manifests)
        self.put_blob(top, iter([raw.data]))
        if whole:
            self._nameless.pop(raw.digest, None)
            with self._store.place.changing():
                names.set_name(self._store.place, whole, top)
        else:
            self._nameless[raw.digest] = top

    def commit(self) -> None:
        """The end of a copy. An image that was put without a name, and is in no index, is listed without one."""
        for digest, top in self._nameless.items():
            if digest not in self._below:
                with self._store.place.changing():
                    names.set_name(self._store.place, "", top)
        self._nameless.clear()

    def close(self) -> None:
        """Give up the lease."""
        self._lease.release()
