"""COPY, ADD and WORKDIR: files become a layer. Each is one call, for an ordinary user in a user namespace.

What is copied is hashed first, for the step's key: names, kinds, modes, links, attributes and contents, but not times,
which every checkout of a repository changes.
"""

import hashlib
import os
import re
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from typing import NamedTuple

from toolkit.archive import compressed_tar
from toolkit.archive.entries import FILE, Entry
from toolkit.errors import CtkError, Malformed, NotFound, reason
from toolkit.events import Emit
from toolkit.image.build import glob, ignore, layers
from toolkit.image.build.ignore import Ignored
from toolkit.image.build.layers import Layers, Work
from toolkit.image.build.source import Item, Named, Tree
from toolkit.image.build.target import Change, Members, Owner
from toolkit.image.document import media_types
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer import apply, merged
from toolkit.image.layer.policy import Policy
from toolkit.image.store.builds import Layer
from toolkit.kernel import rmtree_beneath
from toolkit.text import number

_USERS_BYTES = 1 << 20
_NO_ID = (1 << 32) - 1
_TAR = re.compile(rb".{257}ustar", re.DOTALL)


class Files(NamedTuple):
    """A step that copies. `source` are layers, or None for the folder `context`; paths are of the image's root.

    `target` is absolute; it ends with a slash if it must be a folder. `texts` are files from here-documents. `unpack`:
    tars become what is in them. `owner` is USER[:GROUP]; "" is root, and for a tar or `source` each file's own.
    """

    work: Work
    below: Layers
    doing: str
    context: str
    ignore_file: str
    source: Layers | None
    sources: tuple[str, ...]
    texts: tuple[tuple[str, str], ...]
    target: str
    owner: str
    mode: int | None
    unpack: bool


class Folder(NamedTuple):
    """WORKDIR: a folder that is made if it is missing."""

    work: Work
    below: Layers
    doing: str
    path: str
    owner: str


class Made(NamedTuple):
    """The layer of a step, None if nothing has changed; `cached`: an earlier build has made it."""

    layer: Layer | None
    cached: bool
    members: int = 0


def folder(step: Folder, emit: Emit) -> Made:
    """Carry out WORKDIR. Raises CtkError."""
    key = layers.key(step.work, step.below, "WORKDIR", step.path, step.owner)
    known, layer = layers.find(step.work, key)
    if known:
        return Made(layer, True)
    lowers = layers.laid_out(step.work, step.below, emit)
    with ExitStack() as stack:
        roots = Tree(stack, lowers, Ignored()).roots
        members = Members(roots, _change(step.work, _owner(step.owner, lowers, step.doing), None), step.doing)
        members.folder(step.path)
        layer = layers.put(step.work, -1, members.all(), step.doing)
    layers.keep(step.work, key, layer)
    return Made(layer, False)


def copy(step: Files, emit: Emit) -> Made:
    """Carry out COPY or ADD. Raises CtkError."""
    try:
        with ExitStack() as stack:
            return _copy(step, stack, emit)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise CtkError(step.doing, because=f"{reason(error)}{where}") from None
    except re.error as error:
        raise CtkError(step.doing, because=f"a source is no pattern: {error}") from None


class _Source(NamedTuple):
    """What one source means; of a tar that is unpacked the folder it was unpacked into."""

    tree: Tree
    named: Named
    is_tar: bool


def _copy(step: Files, stack: ExitStack, emit: Emit) -> Made:
    if step.source is None:
        tree = Tree(stack, [step.context], _ignored(step.ignore_file))
    else:
        tree = Tree(stack, layers.laid_out(step.work, step.source, emit) if step.source else [], Ignored())
    named = [found for pattern in step.sources for found in _named(tree, pattern, step)]
    tars = {one.path: _tar_hash(tree, one, step.doing) for one in named if step.unpack and not one.is_folder}
    facts = [
        (one.name, one.is_folder, tars.get(one.path) or _hash(tree, one, owners=step.source is not None))
        for one in named
    ]
    key = layers.key(step.work, step.below, "COPY", facts, step.texts, step.target, step.owner, step.mode, step.unpack)
    known, layer = layers.find(step.work, key)
    if known:
        return Made(layer, True)
    lowers = layers.laid_out(step.work, step.below, emit)
    sources = [
        _unpacked(step, stack, tree, one, plain) if (plain := tars.get(one.path)) else _Source(tree, one, False)
        for one in named
    ]
    owner = _owner(step.owner, lowers, step.doing)
    members = Members(Tree(stack, lowers, Ignored()).roots, _change(step.work, owner, step.mode), step.doing)
    _place(step, members, sources)
    layer = layers.put(step.work, -1, members.all(), step.doing, members.content)
    layers.keep(step.work, key, layer)
    return Made(layer, False)


def _named(tree: Tree, pattern: str, step: Files) -> list[Named]:
    found = tree.named(pattern)
    if not found:
        where = f"the folder {step.context!r}" if step.source is None else "the image"
        what = "matches" if glob.has_wildcards(pattern) else "is"
        hint = f"or {step.ignore_file!r} leaves it out" if step.ignore_file and step.source is None else ""
        raise NotFound(step.doing, because=f"nothing in {where} {what} {pattern!r}", hint=hint)
    return found


def _ignored(path: str) -> Ignored:
    if not path:
        return Ignored()
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return ignore.read(file.read(), path)


def _change(work: Work, owner: Owner, mode: int | None) -> Change:
    return Change(owner, mode, work.latest_s, int(time.time()) if work.latest_s is None else work.latest_s)


# ---- where it goes


def _place(step: Files, members: Members, sources: list[_Source]) -> None:
    """Put all that is copied where it goes."""
    many = len(sources) + len(step.texts) > 1
    into = step.target.endswith("/") or members.is_folder(step.target)
    if many and not into:
        because = f"there are several sources, and {step.target!r} is no folder"
        raise CtkError(step.doing, because=because, hint="end it with a slash")
    for one in sources:
        if one.named.is_folder or one.is_tar:
            _place_folder(step, members, one)
        else:
            _place_file(step, members, one, into=into)
    for name, text in step.texts:
        entry = Entry(b"", FILE, len(text.encode()))
        entry.mode, entry.mtime_ns = 0o644, int(time.time()) * 10**9
        path = os.path.join(members.folder(step.target), name) if into else members.real(step.target)
        entry.name = os.fsencode(path)
        members.put("", entry, lambda text=text: iter([text.encode()]))  # type: ignore[misc]


def _place_folder(step: Files, members: Members, one: _Source) -> None:
    """What is in a folder goes into the target."""
    top = members.folder(step.target)
    real = {b"": top}
    for item in one.tree.items(one.named):
        if not item.entry.name:
            continue
        above, _, name = item.entry.name.rpartition(b"/")
        path = item.entry.name
        item.entry.name = name
        real[path] = _put(step, members, real[above], one, item)


def _place_file(step: Files, members: Members, one: _Source, *, into: bool) -> None:
    for item in one.tree.items(one.named):
        path = os.path.join(members.folder(step.target), one.named.name) if into else members.real(step.target)
        above, _, name = path.rpartition("/")
        item.entry.name = os.fsencode(name)
        _put(step, members, above, one, item)


def _put(step: Files, members: Members, above: str, one: _Source, item: Item) -> str:
    content = (lambda: one.tree.content(item)) if item.entry.kind == FILE else None
    key = item.key if item.links > 1 else None
    return members.put(
        above, item.entry, content, key, keep_owner=not step.owner and (one.is_tar or step.source is not None)
    )


# ---- what it depends on


def _hash(tree: Tree, named: Named, *, owners: bool) -> str:
    """All of a source but its times, as hex digits."""
    whole = hashlib.sha256()
    for item in tree.items(named):
        entry = item.entry
        about = (entry.name, entry.kind, entry.mode, entry.size_bytes, entry.link, entry.major, entry.minor)
        owner = (entry.uid, entry.gid) if owners else ()
        whole.update(repr((*about, owner, sorted(entry.xattrs.items()))).encode("utf-8", "surrogateescape"))
        if entry.kind == FILE:
            content = hashlib.sha256()
            for piece in tree.content(item):
                content.update(piece)
            whole.update(content.digest())
    return whole.hexdigest()


def _tar_hash(tree: Tree, named: Named, doing: str) -> tuple[str, int] | None:
    """The digest of the tar that a file holds, compressed or not, and its size; None if it is another file."""
    whole, size_bytes, head = hashlib.sha256(), 0, b""
    try:
        for piece in _plain(tree, named, doing):
            if len(head) < 512:
                head += piece[:512]
                if len(head) >= 512 and not _TAR.match(head):
                    return None
            whole.update(piece)
            size_bytes += len(piece)
    except Malformed:
        if _TAR.match(head):
            raise
        return None
    return (f"sha256:{whole.hexdigest()}", size_bytes) if len(head) >= 512 else None


def _plain(tree: Tree, named: Named, doing: str) -> Generator[bytes, None, None]:
    """The bytes of a file, decompressed if it is compressed."""
    item = next(tree.items(named), None)
    if item is None or item.entry.kind != FILE:
        return
    fd = tree.open(item)
    with compressed_tar.plain_pieces(fd, f"{named.path} ({doing})") as pieces:
        yield from pieces


def _unpacked(step: Files, stack: ExitStack, tree: Tree, named: Named, plain: tuple[str, int]) -> _Source:
    """A tar, laid out in the build's own folder as a layer would be: nothing in it leads out."""
    folder = os.path.join(step.work.folder, f"tar-{os.urandom(4).hex()}")
    os.mkdir(folder, 0o700)
    stack.callback(_remove, folder)
    digest, size_bytes = plain
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with closing(_plain(tree, named, step.doing)) as pieces:
            wanted = Descriptor(media_types.OCI_LAYER, digest, size_bytes)
            apply.flat(fd, [apply.LayerSource(pieces, wanted, digest)], Policy(lenient=True))
    except CtkError as error:
        raise type(error)(step.doing, because=f"unpack {named.path!r}: {error.because}", hint=error.hint) from None
    finally:
        os.close(fd)
    inside = Tree(stack, [folder], Ignored())
    return _Source(inside, Named("", True, ""), True)


def _remove(folder: str) -> None:
    above = os.open(os.path.dirname(folder), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        rmtree_beneath.remove(above, os.path.basename(folder))
    finally:
        os.close(above)


# ---- whose it is


def _owner(text: str, lowers: list[str], doing: str) -> Owner:
    """USER[:GROUP] by the image's own files; without GROUP it is the user's first, or the one of the same number."""
    if not text:
        return Owner(0, 0)
    user, colon, group = text.partition(":")
    users, groups = (_lines(lowers, f"/etc/{name}") for name in ("passwd", "group"))
    entry = next((one for one in users if len(one) > 3 and one[0] == user), None)
    if not user.isdecimal() and entry is None:
        raise NotFound(doing, because=f"the image has no user {user!r} in /etc/passwd", hint="a number is taken, too")
    uid = number(user if user.isdecimal() else (entry or [])[2])
    if not colon:
        return _checked(Owner(uid, uid if user.isdecimal() else number((entry or [])[3])), text, doing)
    if group.isdecimal():
        return _checked(Owner(uid, number(group)), text, doing)
    found = next((one for one in groups if len(one) > 2 and one[0] == group), None)
    if found is None:
        raise NotFound(doing, because=f"the image has no group {group!r} in /etc/group", hint="a number is taken, too")
    return _checked(Owner(uid, number(found[2])), text, doing)


def _checked(owner: Owner, text: str, doing: str) -> Owner:
    if not all(0 <= one < _NO_ID for one in owner):
        raise CtkError(doing, because=f"the owner {text!r} is beyond the ids that there are")
    return owner


def _lines(lowers: list[str], path: str) -> list[list[str]]:
    try:
        data = merged.read(lowers, path, _USERS_BYTES)
    except OSError:
        return []
    return [line.split(":") for line in data.decode(errors="replace").splitlines()]
