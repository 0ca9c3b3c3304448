"""`ctk image check`: every blob hashed, every document read, every laid-out layer compared with its facts.

It changes nothing without `repair`, and then removes only what is damaged, so that the next pull fetches it, or the
next use lays it out.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from toolkit.children import rootless
from toolkit.errors import CtkError, NotFound, Untrusted, reason
from toolkit.events import Emit, Progressed, silent
from toolkit.image import digest as digests
from toolkit.image.document import manifest
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.store import collect, leases, reach
from toolkit.image.store.place import BLOBS
from toolkit.image.store.store import Store
from toolkit.kernel import subids
from toolkit.kernel.host import HostFacts
from toolkit.text import quote

DAMAGED, MISSING, INVALID, CHANGED, UNREFERENCED, LEFT, FOREIGN = (
    "damaged", "missing", "invalid", "changed", "unreferenced", "left over", "foreign",
)  # fmt: skip
HARMLESS = (UNREFERENCED, LEFT, FOREIGN)
_STAGE = "check"


class Finding(NamedTuple):
    """`kind` is one of those above; `name` a path or digest; `mended` whether `repair` has removed it."""

    kind: str
    name: str
    what: str
    hint: str = ""
    mended: bool = False

    @property
    def harmless(self) -> bool:
        """Whether nothing goes wrong with it: `prune` takes it away."""
        return self.kind in HARMLESS


def checked(store: Store, *, repair: bool = False, emit: Emit = silent) -> list[Finding]:
    """As `check`; for an ordinary user as root of a user namespace, in which layers were laid out. Raises CtkError."""
    if os.geteuid() != 0 and len(subids.of_caller()[0]) > 1 and not HostFacts().user_namespaces:
        found: list[Finding] = rootless.run(_here, (store.place.folder, repair), emit)
        return found
    return list(check(store, repair=repair, emit=emit))


def _here(request: tuple[str, bool], emit: Emit) -> list[Finding]:
    folder, repair = request
    return list(check(Store(folder), repair=repair, emit=emit))


def check(store: Store, *, repair: bool = False, emit: Emit = silent) -> Iterator[Finding]:
    """What is wrong with the store, and what is left over in it. Raises CtkError if index.json can't be read."""
    if not store.place.exists:
        return
    yield from _blobs(store, repair, emit)
    yield from _images(store)
    yield from _layers(store, repair, emit)
    with store.place.changing():
        left = list(collect.left_files(store, older_s=0.0))
    for path, why in left:
        yield Finding(LEFT, path, why, "ctk image prune")
    yield from _foreign(store)


def _blobs(store: Store, repair: bool, emit: Emit) -> Iterator[Finding]:
    known = list(store.blobs.all())
    total, done = sum(status.st_size for _, status in known), 0
    for digest, status in known:
        emit(Progressed(_STAGE, done, total, "bytes", digest))
        done += status.st_size
        try:
            os.close(store.blobs.open(Descriptor("", digest, status.st_size), drop=repair))
        except NotFound:
            continue  # removed meanwhile; if it is needed, `_images` says so
        except Untrusted as error:
            yield Finding(DAMAGED, digest, error.because, "pull its image again after --repair", repair)


def _images(store: Store) -> Iterator[Finding]:
    """Each image has all that it needs; what no image has is told, too."""
    with store.place.in_use():
        entries = store.entries()
        live, _ = leases.survey(store.place)
        known = reach.reach(
            store.blobs, [one.descriptor for one in entries], {digest for one in live for digest in one.digests}
        )
        there = [digest for digest, _ in store.blobs.all()]
        laid_out = store.layers.all()
    told: set[str] = set()
    for one in entries:
        name = one.name or one.descriptor.digest
        for digest, problem in _lacking(store, one.descriptor):
            if digest not in told:
                told.add(digest)
                kind = MISSING if isinstance(problem, NotFound) else INVALID
                yield Finding(
                    kind,
                    digest,
                    f"of the image {name}: {problem}",
                    f"ctk pull {quote(name)}, or ctk image rm {quote(name)}",
                )
    for digest in there:
        if digest not in known.digests and not known.problems:
            yield Finding(UNREFERENCED, digest, "no image has this blob", "ctk image prune")
    for layer in laid_out:
        if layer.diff_id not in known.diff_ids and not known.problems:
            yield Finding(UNREFERENCED, layer.path, "no image has this layer", "ctk image prune")


def _lacking(store: Store, top: Descriptor) -> Iterator[tuple[str, CtkError]]:
    """What an image should have and has not, as it should be."""
    yield from reach.reach(store.blobs, [top]).problems.items()
    try:
        for one, document in reach.manifests(store.blobs, top):
            for blob in reach.absent(store.blobs, document):
                yield blob.digest, store.place.missing(f"the blob {blob.digest}")
            if reach.config_of(store.blobs, document) is not None:
                manifest.layer_codecs(document, one.digest)
    except CtkError as error:
        yield top.digest, error


def _layers(store: Store, repair: bool, emit: Emit) -> Iterator[Finding]:
    for layer in store.layers.all():
        emit(Progressed(_STAGE, 0, 0, "", layer.path))
        try:
            found = store.layers.differences(layer.diff_id, layer.form, most=5)
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError as error:
            found = [reason(error)]
        if not found:
            continue
        mended, hint = False, "ctk image check --repair removes it; it is laid out again when it is used"
        with store.place.changing():
            live, _ = leases.survey(store.place)
            held = reach.reach(store.blobs, [], {digest for one in live for digest in one.digests}).diff_ids
            if layer.diff_id in held:
                hint = "it is in use, so it can't be removed now"
            elif repair and store.layers.has(layer.diff_id, layer.form):
                store.layers.drop(layer.diff_id, layer.form)
                mended = True
        yield Finding(CHANGED, layer.path, "; ".join(found), hint, mended)


def _foreign(store: Store) -> Iterator[Finding]:
    """Files in the folders of blobs that are none."""
    top = store.place.path(BLOBS)
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if not digests.is_digest(os.path.relpath(path, top).replace("/", ":")):
                yield Finding(FOREIGN, path, "it is no blob: another program has put it there")
