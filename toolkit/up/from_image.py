"""A bundle from an image: config.json from its configuration, its layers from the store as the root.

The layers are not copied and nothing is mounted on the host: `ctk run --lower …` puts them on top of each other in the
container's own mount namespace, and what the container writes goes to the bundle's folder `writable`. The bundle has a
lease on the layers, so that the store keeps them as long as it is there.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from toolkit import places
from toolkit.bundle import image as images
from toolkit.bundle.document import Edit, Spec
from toolkit.errors import CtkError, InUse, NotFound, Usage, reason
from toolkit.events import Done, Emit, Event, Finished, Planned, Started, silent
from toolkit.image.document import platform as platforms
from toolkit.image.document.config import ImageConfig
from toolkit.image.layer import merged
from toolkit.image.layer.forms import form_here
from toolkit.image.store import leases, use
from toolkit.image.store.store import Image, Store
from toolkit.image.transfer.pull_options import NEVER, PullOptions, check_stored
from toolkit.kernel import ours, rmtree_beneath
from toolkit.text import quote
from toolkit.up import config
from toolkit.up.bundle import UpRequest, bundle_folder, make_folder, read_marker, write_marker

WRITABLE = "writable"
_STAGE = ("image", "Find the image")


class ImageRequest(NamedTuple):
    """Which image. `platform` "" is this machine's. Without `lay_out` its layers have to be laid out already."""

    name: str
    platform: str = ""
    how: PullOptions = PullOptions()
    lay_out: bool = True


class Prepared(NamedTuple):
    """A bundle, and the folders of its root, the topmost first."""

    bundle: str
    lowers: tuple[str, ...]

    def words(self, *, keep: bool = True) -> list[str]:
        """The options of `ctk run` for this root; with `keep` what is written stays in the bundle."""
        found = [f"--lower={lower}" for lower in self.lowers]
        return [*found, f"--overlay={os.path.join(self.bundle, WRITABLE)}"] if keep else found


class _Layers(NamedTuple):
    """The root of an image, as config.json has to know it (config.Root)."""

    image: ImageConfig
    digest: str
    lowers: tuple[str, ...]
    name: str

    @property
    def rootfs(self) -> str:
        return ""

    @property
    def identity(self) -> str:
        return self.digest

    def command(self, words: Sequence[str]) -> tuple[str, ...]:
        found = (*self.image.run.entrypoint, *(words or self.image.run.cmd))
        if not found:
            because = "it names no command (neither Entrypoint nor Cmd)"
            raise Usage(f"run {self.name!r}", because=because, hint="give one after --")
        return found

    def edits(self, words: Sequence[str], emit: Emit) -> Iterator[Edit]:
        return images.edits(self.image, self._lines, words, emit)

    def check(self, spec: Spec) -> None:
        pass  # the runtime says what is not there

    def _lines(self, path: str) -> list[str]:
        try:
            data = merged.read(self.lowers, path, images.LIMIT_BYTES)
        except OSError:
            return []
        return data.decode(errors="replace").splitlines()


def means_image(text: str, *, bootstrapped: bool) -> bool:
    """Whether `ctk up TEXT` means an image: a suite's name never does, nor anything with the options of an archive.

    A colon, a slash or an @ makes it one, and so does its name in the store.
    """
    from toolkit.bootstrap.facts import suites  # `run --image` does without them

    if bootstrapped or text.lower() in suites.SUITES:
        return False
    if any(mark in text for mark in ":/@"):
        return True
    try:
        suites.lookup(text)
        return False
    except NotFound:
        pass
    try:
        Store().resolve(text)
        return True
    except CtkError:
        return text.lower() in suites.DISTRIBUTIONS


def prepare(request: UpRequest, wanted: ImageRequest, emit: Emit) -> Prepared:
    """Make the bundle, or reuse it; the image is pulled if need be. Raises CtkError; then no new bundle is left."""
    bundle = bundle_folder(request)
    new = not os.path.isdir(bundle)
    made = {} if new else read_marker(bundle)
    store = Store()
    image = _image(store, wanted, emit)
    if not new and not request.force and made.get("image") != image.digest:
        was = made.get("name") or ("a suite" if made.get("rootfs") else "something else")
        raise InUse(
            f"bring up {request.id!r}",
            because=f"{bundle!r} was made from {was}",
            hint="use the same image to go on with it; or use another id, or --force to make it again",
        )
    make_folder(bundle, request)
    with _nothing_left(bundle if new else ""):
        digests = [image.digest, *image.config.diff_ids]
        leases.take(store.place, f"the container {request.id}", digests, bundle=bundle)
        lowers = _lowers(store, image, wanted, _within(emit))
        ours.make_private(os.path.join(bundle, "rootfs"))
        made = made | {"image": image.digest, "name": wanted.name}
        write_marker(bundle, made)
        config.write(request, bundle, _Layers(image.config, image.digest, lowers, wanted.name), made, emit)
    return Prepared(bundle, lowers)


@contextlib.contextmanager
def _nothing_left(bundle: str) -> Iterator[None]:
    """Remove a new bundle again if it can't be finished; "" for none."""
    try:
        yield
    except BaseException:
        if bundle:
            with contextlib.suppress(CtkError, OSError):
                _remove(bundle, silent)
        raise


def _image(store: Store, wanted: ImageRequest, emit: Emit) -> Image:
    """The image in the store, which is pulled if it is not there and that is wanted. Raises CtkError."""
    began = time.monotonic()
    machine = platforms.parse(wanted.platform) if wanted.platform else None
    if not wanted.how.asks_first:
        try:
            image = store.image(wanted.name, machine)
            check_stored(wanted.name, image, wanted.how, emit)
            emit(Planned((_STAGE, *_lay_out_stage(store, image), config.STAGE)))
            emit(Started(_STAGE[0]))
            emit(Finished(_STAGE[0], time.monotonic() - began, image.digest, skipped=True))
            return image
        except NotFound as error:
            if wanted.how.when == NEVER:
                machine_words = ("--platform", quote(wanted.platform)) if wanted.platform else ()
                hint = " ".join(("ctk", "pull", *machine_words, quote(wanted.name)))
                raise NotFound(error.doing, because=error.because, hint=hint) from None
    from toolkit.image.transfer import pull

    emit(Planned((*pull.STAGES, config.STAGE)))
    pull.fetched(pull.for_use(wanted.name, wanted.platform, wanted.how), _within(emit))
    return store.image(wanted.name, machine)


def _lay_out_stage(store: Store, image: Image) -> list[tuple[str, str]]:
    """The stage that lays out the layers of a stored image, if some of them are not."""
    form = form_here()
    if all(store.layers.has(one, form) for one in image.config.diff_ids):
        return []
    from toolkit.image.transfer import copy

    return [(copy.STAGE, "Unpack the layers")]


def _lowers(store: Store, image: Image, wanted: ImageRequest, emit: Emit) -> tuple[str, ...]:
    """The folders of the image's layers, the topmost first; those that are missing are laid out from their blobs."""
    form = form_here()
    found = use.lowers(store, image.config.diff_ids, form)
    if found is None and not wanted.lay_out:
        raise NotFound(f"use {wanted.name!r}", because="its layers are not laid out")
    if found is None:
        from toolkit.image.transfer import lay_out  # what decompresses and makes files

        how = wanted.how
        asked = lay_out.LayOutRequest(wanted.name, wanted.platform, how.squash_ids, how.devices)
        lay_out.laid_out(asked, emit)
        found = use.lowers(store, image.config.diff_ids, form)
    if found is None:
        raise CtkError(f"use {wanted.name!r}", because="its layers were changed just now", hint="try again")
    return tuple(found)


def is_one(bundle: str) -> bool:
    """Whether the folder is a bundle that was made from an image, in the place where `ctk up` makes them."""
    return os.path.dirname(bundle) == os.path.dirname(places.bundle_dir("x")) and "image" in read_marker(bundle)


def remove(bundle: str) -> None:
    """Remove a bundle that was made from an image, with what its container has written. Raises CtkError."""
    if not is_one(bundle):
        return
    if os.geteuid() == 0:
        _remove(bundle, silent)
    else:
        from toolkit.children import rootless  # with pickle and shutil, which root does not need

        rootless.run(_remove, bundle, silent)
    leases.of_bundle(Store().place, bundle).release()


def _remove(bundle: str, emit: Emit) -> None:  # noqa: ARG001 (rootless.run calls functions like this)
    parent = os.open(os.path.dirname(bundle), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rmtree_beneath.remove(parent, os.path.basename(bundle))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CtkError(f"remove the bundle {bundle!r}", because=reason(error)) from None
    finally:
        os.close(parent)


def _within(emit: Emit) -> Emit:
    """`emit` for a pull inside our own stage."""

    def passing(event: Event) -> None:
        if not isinstance(event, (Planned, Done)):
            emit(event)

    return passing
