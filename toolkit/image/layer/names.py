"""The names of a layer's members: where they lead, and which are whiteouts (image-spec 1.1, layer.md). Pure."""

import os
from typing import NamedTuple

WHITEOUT = b".wh."
_META = b".wh..wh."  # aufs's own files; they are not part of the tree
_OPAQUE = b".wh..wh..opq"


class BadName(Exception):
    """Why a member of this name is refused."""


class Whiteout(NamedTuple):
    """A member that hides what the layers below have in the folder `above`.

    `name`: what it hides there; b"": all of it; None: nothing, it is a file of aufs's own.
    """

    above: bytes
    name: bytes | None


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
        return Whiteout(folder, b"" if last == _OPAQUE else None)
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
