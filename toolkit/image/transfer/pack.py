"""`ctk pack`: a tree becomes an image of one layer. Of a bundle it is the root, and its process is the image's.

Of a bundle that `ctk unpack` has made, what has changed becomes one more layer on its image's, as `umoci repack` does.

The same tree gives the same layer, and with SOURCE_DATE_EPOCH the same image.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from toolkit import places as folders
from toolkit.archive.epoch import epoch_s
from toolkit.children import rootless
from toolkit.errors import CtkError, NotFound, reason
from toolkit.events import Emit, Planned
from toolkit.image import name
from toolkit.image.document import platform as platforms
from toolkit.image.document.manifest import Manifest
from toolkit.image.endpoint import Source
from toolkit.image.layer import mount_points, repack, tars, write
from toolkit.image.layer.contents import Contents
from toolkit.image.store.store import Store
from toolkit.image.transfer import new_image, places, unpacked
from toolkit.image.transfer import tree as trees
from toolkit.image.transfer.new_image import STAGE, Below, NewImage
from toolkit.image.transfer.places import Access
from toolkit.image.transfer.unpacked import Unpacked
from toolkit.kernel import reading
from toolkit.oci import json_text

_CONFIG = "config.json"


class PackRequest(NamedTuple):
    """`source` is a folder with a tree or a bundle, or the name of a bundle of `ctk up`. `platform` "" is this one."""

    source: str
    new: NewImage
    platform: str = ""
    squash: bool = False  # one layer, of an unpacked bundle too


def packed(request: PackRequest, emit: Emit) -> str:
    """As `pack`; without root as root of a user namespace, which has the owners of the files. Raises CtkError."""
    request = request._replace(source=_folder(request.source))
    return rootless.as_root(pack, request, emit)


def pack(request: PackRequest, emit: Emit) -> str:
    """Write the image of the folder `source`; its digest. Raises CtkError; then the place has no new image."""
    spec = _spec(request.source)
    folder, config = _tree(request.source, spec)
    if folder != request.source and not request.squash and (about := unpacked.read(request.source)):
        return _repack(request, folder, mount_points.of(spec), about, emit)
    platform = platforms.parse(request.platform) if request.platform else platforms.host()
    below = Below(config, platform=platform)
    new_image.check(request.new, below)
    doing = f"pack {folder!r}"
    try:
        rootfd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CtkError(doing, because=reason(error)) from None
    emit(Planned(((STAGE, "Pack the tree"),)))
    try:
        entries = write.whole(rootfd, doing, latest_s=epoch_s())
        return new_image.make(request.new, below, rootfd, entries, "ctk pack", repr(folder), emit)
    finally:
        os.close(rootfd)


def _repack(request: PackRequest, folder: str, points: frozenset[bytes], about: Unpacked, emit: Emit) -> str:
    doing = f"pack {request.source!r}"
    emit(Planned(((STAGE, "Pack what has changed"),)))
    with contextlib.closing(Contents()) as contents, contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(_base(about, emit))
            raw, image = trees.one(source, "", platforms.parse(about.platform)).documents[0]
        except NotFound as error:
            because = f"{about.image}, its image, is gone: {error.because}"
            raise NotFound(doing, because=because, hint=unpacked.SQUASH) from None
        if raw.digest != about.digest or not isinstance(image, Manifest):
            because = f"{about.image} is another image now; the bundle was made of {about.digest}"
            raise NotFound(doing, because=because, hint=unpacked.SQUASH)
        config = trees.configuration(source, image)
        platform = platforms.parse(request.platform) if request.platform else None
        below = Below(config.raw, image.layers, source, platform)
        new_image.check(request.new, below)
        for blob, diff_id in zip(image.layers, config.diff_ids, strict=True):
            reading_it = f"read the layer {blob.digest}"
            with source.blob(blob) as pieces, tars.opened(pieces, blob, diff_id, reading_it) as tar:
                contents.old.layer(tar, reading_it)
        rootfd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            entries = repack.changes(
                rootfd,
                contents.old,
                doing,
                devices=about.devices,
                mount_points=points,
                latest_s=epoch_s(),
            )
            return new_image.make(request.new, below, rootfd, entries, "ctk pack", repr(request.source), emit)
        finally:
            os.close(rootfd)


@contextlib.contextmanager
def _base(about: Unpacked, emit: Emit) -> Iterator[Source]:
    """The bundle's image; by its digest in a registry and in the store, where tags move."""
    image = about.image
    if image.transport == name.STORE:
        with contextlib.closing(Store().source(about.digest)) as stored:
            yield stored
        return
    if image.reference is not None:
        image = image._replace(reference=image.reference._replace(tag="", digest=about.digest))
    with places.source(image, Access(frozenset(about.plain_http), emit=emit)) as source:
        yield source


def _folder(text: str) -> str:
    """The folder that `text` means: the folder itself, or the bundle of that name. Raises NotFound."""
    if os.path.isdir(text):
        return os.path.abspath(text)
    if "/" not in text and text not in ("", ".", "..") and os.path.isdir(bundle := folders.bundle_dir(text)):
        return bundle
    raise NotFound(f"pack {text!r}", because="there is neither such a folder nor a bundle of that name")


def _spec(folder: str) -> dict[str, Any]:
    """The config.json of a bundle; empty if there is none. Raises CtkError."""
    path = os.path.join(folder, _CONFIG)
    try:
        found = json_text.loads(reading.read(path), path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None
    return found if isinstance(found, dict) else {}


def _tree(folder: str, spec: dict[str, Any]) -> tuple[str, bytes]:
    """The tree to pack, and the configuration that a bundle's config.json stands for; b"" for a plain tree.

    Raises CtkError.
    """
    root = spec.get("root")
    named = root.get("path") if isinstance(root, dict) else None
    if not isinstance(named, str):
        return folder, b""  # a tree with a config.json of its own
    tree = os.path.join(folder, named)
    if os.path.isdir(tree) and not os.listdir(tree):
        because = "its root is empty: it consists of the layers of an image"
        raise CtkError(f"pack {folder!r}", because=because, hint="ctk commit ID IMAGE adds what has changed to them")
    return tree, json_text.dumps({"config": _run(spec.get("process") or {})}).encode()


def _run(process: dict[str, Any]) -> dict[str, Any]:
    """How the bundle's process is started, in an image's words."""
    user = process.get("user") or {}
    uid, gid = user.get("uid", 0), user.get("gid", 0)
    run = {
        "User": f"{uid}:{gid}" if uid or gid else "",
        "Env": process.get("env"),
        "Cmd": process.get("args"),
        "WorkingDir": process.get("cwd", ""),
    }
    return {key: value for key, value in run.items() if value}
