"""Folders that a layer has only because of what is in them: their owner and mode are those of the layers below.

A layer with the member `tmp/x` and none for `tmp` gets a folder `tmp` of a made-up mode, and overlayfs shows the mode
of the topmost layer. A layer does not know what it will lie on, so for an image that needs it one more layer is made,
with nothing in it but these folders as they have to be, and laid on top of the others. Its key is the chain id of them
all (image-spec 1.1, config.md, "Layer ChainID").
"""

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.image.layer.tree import is_whiteout

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
_KEPT = ("user.", "system.posix_acl_")
_MARKS = "user.overlay."


class Layer(NamedTuple):
    """A laid-out layer: the folder of its tree, and the paths of its implicit folders."""

    path: str
    implicit: frozenset[bytes]


class _Found(NamedTuple):
    """What a layer has at a path: `is_folder`, and whether it hides what the layers below have there."""

    is_folder: bool
    hides: bool


def needed(layers: Sequence[Layer]) -> dict[bytes, str]:
    """The folders whose owner and mode the topmost layer has made up, and the layer that has the right ones.

    `layers` are from the lowest. Raises OSError.
    """
    found: dict[bytes, str] = {}
    for path in sorted(set().union(*(layer.implicit for layer in layers))):
        made_up, donor = _donor(layers, path)
        if made_up and donor:
            found[path] = donor
    return found


def _donor(layers: Sequence[Layer], path: bytes) -> tuple[bool, str]:
    """Whether the topmost layer with this folder has made it up, and the topmost one that has not."""
    made_up = False
    for layer in reversed(layers):
        here = _look(layer.path, path)
        if here.is_folder:
            if path not in layer.implicit:
                return made_up, layer.path
            made_up = True
        if here.hides:
            break
    return made_up, ""


def _look(tree: str, path: bytes) -> _Found:
    fd = os.open(tree, _FOLDER)
    opaque = False
    try:
        for word in path.split(b"/") if path else ():
            try:
                about = os.stat(word, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return _Found(False, opaque)
            if is_whiteout(about) or not stat.S_ISDIR(about.st_mode):
                return _Found(False, True)
            inner = os.open(word, _FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
            opaque = opaque or any(name in _OPAQUE for name in os.listxattr(fd))
        return _Found(True, opaque)
    finally:
        os.close(fd)


def make(rootfd: int, layers: Sequence[Layer], wanted: dict[bytes, str]) -> None:
    """Make the folders below `rootfd`, each as its layer has it; those above them as they are seen. Raises OSError."""
    paths = {b""}
    for path in wanted:
        words = path.split(b"/")
        paths.update(b"/".join(words[:at]) for at in range(1, len(words) + 1))
    for path in sorted(paths):
        if path:
            os.mkdir(path, 0o700, dir_fd=rootfd)
    for path in sorted(paths, reverse=True):  # what is in a folder changes its time
        donor = wanted.get(path) or _seen(layers, path)
        _copy(os.path.join(os.fsencode(donor), path), rootfd, path)


def _seen(layers: Sequence[Layer], path: bytes) -> str:
    """The layer whose folder overlayfs shows."""
    return next(layer.path for layer in reversed(layers) if _look(layer.path, path).is_folder)


def _copy(source: bytes, rootfd: int, path: bytes) -> None:
    about = os.stat(source, follow_symlinks=False)
    fd = os.open(path or b".", _FOLDER, dir_fd=rootfd)
    try:
        os.chown(fd, about.st_uid, about.st_gid)
        os.chmod(fd, stat.S_IMODE(about.st_mode))
        for name in os.listxattr(source, follow_symlinks=False):
            if name.startswith(_KEPT) and not name.startswith(_MARKS):
                os.setxattr(fd, name, os.getxattr(source, name, follow_symlinks=False))
        os.utime(fd, ns=(about.st_atime_ns, about.st_mtime_ns))
    finally:
        os.close(fd)
