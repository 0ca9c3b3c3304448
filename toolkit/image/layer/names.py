"""The names of a layer's members: where they lead, and which are whiteouts (image-spec 1.1, layer.md). Pure."""

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

WHITEOUT = b".wh."
_META = b".wh..wh."  # aufs's own files; they are not part of the tree
OPAQUE = b".wh..wh..opq"
_MOST_LINKS = 40  # the kernel's own limit (path_resolution(7))


class BadName(Exception):
    """Why a member of this name is refused."""


class Whiteout(NamedTuple):
    """A member that hides what the layers below have in the folder `above`.

    `name`: what it hides there; b"": all of it; None: nothing, it is a file of aufs's own.
    """

    above: bytes
    name: bytes | None


class Link(NamedTuple):
    """A symbolic link. `is_ours`: it belongs to the layer that is being laid out."""

    target: bytes
    is_ours: bool


def join(above: bytes, name: bytes) -> bytes:
    """The path of `name` in the folder `above`; b"" is the root."""
    return above + b"/" + name if above else name


def relative(name: bytes) -> bytes:
    """The path below the root, b"" for the root itself; a leading `/` means the root. Raises BadName."""
    path = name[2:] if name[:2] == b"./" else name
    path = path.strip(b"/")
    if b"." in path[:1] or b"/." in path or b"//" in path:
        words = [word for word in path.split(b"/") if word not in (b"", b".")]
        if b".." in words:
            raise BadName(f"{os.fsdecode(name)!r} leads out of the root")
        path = b"/".join(words)
    return path


def whiteout(path: bytes) -> Whiteout | None:
    """What the path hides, if it is a whiteout's; else it may have `.wh.` in it, too. Raises BadName."""
    *above, last = path.split(b"/")
    folder = b"/".join(above)
    if last.startswith(_META) or any(word.startswith(_META) for word in above):
        return Whiteout(folder, b"" if last == OPAQUE else None)
    if any(word.startswith(WHITEOUT) for word in above):
        raise BadName(f"{os.fsdecode(path)!r} is below a whiteout")
    if not last.startswith(WHITEOUT):
        return None
    name = last[len(WHITEOUT) :]
    if name in (b"", b".", b".."):
        raise BadName(f"{os.fsdecode(path)!r} is a whiteout of no name")
    return Whiteout(folder, name)


def leaves(folder: bytes, target: bytes) -> bool:
    """Whether the text of a link in `folder` has more `..` than there are folders above."""
    depth = 0 if target.startswith(b"/") or not folder else folder.count(b"/") + 1
    for word in target.split(b"/"):
        if word == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif word not in (b"", b"."):
            depth += 1
    return False


def followed(path: bytes, target: Callable[[bytes, bytes], "Link | None"]) -> bytes:
    """The real path of the folder `path`: its links are followed, with the root as `/`.

    `target` gets the real path of a folder and a name in it, and says where that leads if it is a link; None if it is a
    folder. Raises BadName for too many links, and for one of the layer's own that leads out of the root.
    """
    words = path.split(b"/")[::-1]
    real = b""
    links = 0
    while words:
        word = words.pop()
        if word == b"..":
            real = real.rpartition(b"/")[0]
        elif word not in (b"", b"."):
            link = target(real, word)
            if link is None:
                real = join(real, word)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise BadName(f"{os.fsdecode(path)!r}: {os.strerror(errno.ELOOP).lower()}")
            if link.is_ours and leaves(real, link.target):
                said = f"{os.fsdecode(join(real, word))!r}, a link to {os.fsdecode(link.target)!r}"
                raise BadName(f"{os.fsdecode(path)!r}: it leads out of the root by {said}")
            real = b"" if link.target.startswith(b"/") else real
            words += link.target.split(b"/")[::-1]
    return real
