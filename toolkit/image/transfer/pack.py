"""`ctk pack`: a tree becomes an image of one layer. Of a bundle it is the root, and its process is the image's.

The same tree gives the same layer, and with SOURCE_DATE_EPOCH the same image.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

from toolkit import places
from toolkit.children import rootless
from toolkit.errors import CtkError, NotFound, reason
from toolkit.events import Emit, Planned
from toolkit.image.document import config_write
from toolkit.image.document import platform as platforms
from toolkit.image.layer import write
from toolkit.image.transfer import new_image
from toolkit.image.transfer.new_image import STAGE, Below, NewImage
from toolkit.kernel import reading
from toolkit.oci import json_text

_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class PackRequest:
    """`source` is a folder with a tree or a bundle, or the name of a bundle of `ctk up`. `platform` "" is this one."""

    source: str
    new: NewImage
    platform: str = ""


def packed(request: PackRequest, emit: Emit) -> str:
    """As `pack`; without root as root of a user namespace, which has the owners of the files. Raises CtkError."""
    request = replace(request, source=_folder(request.source))
    if os.geteuid() == 0:
        return pack(request, emit)
    digest: str = rootless.run(pack, request, emit)
    return digest


def pack(request: PackRequest, emit: Emit) -> str:
    """Write the image of the folder `source`; its digest. Raises CtkError; then the place has no new image."""
    folder, config = _tree(request.source)
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
        entries = write.whole(rootfd, doing, latest_s=config_write.epoch_s())
        return new_image.make(request.new, below, rootfd, entries, "ctk pack", repr(folder), emit)
    finally:
        os.close(rootfd)


def _folder(text: str) -> str:
    """The folder that `text` means: the folder itself, or the bundle of that name. Raises NotFound."""
    if os.path.isdir(text):
        return os.path.abspath(text)
    if "/" not in text and text not in ("", ".", "..") and os.path.isdir(bundle := places.bundle_dir(text)):
        return bundle
    raise NotFound(f"pack {text!r}", because="there is neither such a folder nor a bundle of that name")


def _tree(folder: str) -> tuple[str, bytes]:
    """The tree to pack, and the configuration that a bundle's config.json stands for; b"" for a plain tree.

    Raises CtkError.
    """
    path = os.path.join(folder, _CONFIG)
    try:
        spec = json_text.loads(reading.read(path), path)
    except FileNotFoundError:
        return folder, b""
    except OSError as error:
        raise CtkError(f"read {path!r}", because=reason(error)) from None
    root = spec.get("root") if isinstance(spec, dict) else None
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
