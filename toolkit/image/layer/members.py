"""The members of a layer, one at a time: files, folders, links and whiteouts by the rules of layer.md (apply.py)."""

import errno
import os
import stat
from collections.abc import Iterator
from typing import NoReturn

from toolkit.archive.entries import CHARACTER, DIRECTORY, HARD_LINK, Entry
from toolkit.archive.extract import Extractor
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import CtkError, Malformed, SystemCall, reason
from toolkit.image.layer import names
from toolkit.image.layer.forms import FLAT, OVERLAY, USERXATTR
from toolkit.image.layer.names import join
from toolkit.image.layer.tree import Tree, is_whiteout

_OPAQUE_XATTR = {OVERLAY: "trusted.overlay.opaque", USERXATTR: "user.overlay.opaque"}

_LARGE_BYTES = 1 << 30
_MOST_WARNINGS = 20
NO_ROOM = "make room there, or name a folder elsewhere"


class Members:
    """Lays members out in `tree`. Messages begin with what the tree and the extractor are doing."""

    def __init__(self, tree: Tree, extractor: Extractor, form: str, *, lenient: bool) -> None:
        self._tree = tree
        self._extractor = extractor
        self._form = form
        self._lenient = lenient
        self._layer = 0
        self._folders: dict[bytes, tuple[Entry, int, int]] = {}  # with the number of the layer, and when
        self.whiteouts = 0  # members that were one
        self._white: list[bytes] = []  # whiteouts that were made
        self._opaque_folders: set[bytes] = set()
        self._warnings: list[str] = []
        self._more_warnings = 0

    def next_layer(self) -> None:
        """What was made so far belongs to the layers below."""
        self._tree.next_layer()
        self._layer += 1

    def put(self, entry: Entry, tar: AnyTar) -> None:
        """Lay out one member, whose content `tar` stands at. Raises CtkError, which names it."""
        try:
            self._put(entry, tar)
        except names.BadName as error:
            self._refuse(str(error))
        except (OSError, SystemCall) as error:
            self._failed(entry, error)

    def _put(self, entry: Entry, tar: AnyTar) -> None:
        path = names.relative(entry.name)
        if b".wh." in path and self._marked(path):
            self.whiteouts += 1
            return
        above, _, last = path.rpartition(b"/")
        kind = entry.kind
        if not path:
            if kind != DIRECTORY:  # CVE-2021-29136
                self._refuse("its member for the root is no folder")
            self._note_folder(path, entry)
            return
        parent, real = self._tree.folder(above)
        if real is not above:
            path = join(real, last)
        while self._tree.opaque:
            self._mark_opaque(self._tree.opaque.pop())
        if kind == DIRECTORY:
            self._folder(parent, last, path, entry)
        elif kind == HARD_LINK:
            self._hard_link(parent, last, path, entry)
        else:
            if kind == CHARACTER and not entry.major and not entry.minor:
                self._refuse(f"{os.fsdecode(entry.name)!r} is the device 0:0, which is a whiteout to overlayfs")
            if entry.size_bytes > _LARGE_BYTES:
                self._extractor.check_size(parent, entry)
            try:
                self._extractor.put(parent, last, entry, tar.content(entry))
            except FileExistsError:
                self._make_way(parent, last, path)
                self._extractor.put(parent, last, entry, tar.content(entry))
        self._tree.take(path)

    def finish(self) -> tuple[bytes, ...]:
        """Give the folders their owners, modes, attributes and times; the paths of those that no layer has."""
        self._remove_needless_whiteouts()
        gone = self._tree.is_gone
        folders = [(path, entry) for path, (entry, _, when) in self._folders.items() if not gone(path, when)]
        implicit = tuple(path for path, when in self._tree.implicit.items() if not gone(path, when))
        for path in implicit:
            entry = Entry(path, DIRECTORY, 0)
            entry.mode = 0o755
            folders.append((path, entry))
        for path, entry in sorted(folders, key=lambda one: one[0], reverse=True):  # what is in a folder before it
            try:
                self._settle(path, entry)
            except (OSError, SystemCall) as error:
                self._failed(entry, error)
        return implicit

    def warnings(self) -> tuple[str, ...]:
        """What was odd and has been laid out all the same."""
        more = [f"… and {self._more_warnings} more"] if self._more_warnings else []
        return (*self._warnings, *more)

    def _settle(self, path: bytes, entry: Entry) -> None:
        fd = self._tree.open_as_it_is(path)
        if fd < 0:
            return  # something else took its place
        try:
            if not path and entry.uid == entry.gid == 0:
                os.fchown(fd, 0, 0)  # it was there before us
            self._extractor.finish(fd, entry)
        finally:
            os.close(fd)

    def _folder(self, parent: int, last: bytes, path: bytes, entry: Entry) -> None:
        self._note_folder(path, entry)
        try:
            os.mkdir(last, 0o755, dir_fd=parent)
        except FileExistsError:
            about = os.stat(last, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                return
            if self._form != FLAT and is_whiteout(about):
                self._tree.opaque.append(path)
            self._make_way(parent, last, path)
            os.mkdir(last, 0o755, dir_fd=parent)
        while self._tree.opaque:
            self._mark_opaque(self._tree.opaque.pop())

    def _note_folder(self, path: bytes, entry: Entry) -> None:
        known = self._folders.get(path)
        if known and known[1] == self._layer and not self._tree.is_gone(path, known[2]) and not self._lenient:
            self._twice(path)
        self._tree.check_count(len(self._folders))
        entry.name, entry.uname, entry.gname = path, b"", b""
        self._folders[path] = entry, self._layer, self._tree.now
        self._tree.implicit.pop(path, None)

    def _hard_link(self, parent: int, last: bytes, path: bytes, entry: Entry) -> None:
        target = names.relative(entry.link)
        said = f"{os.fsdecode(entry.name)!r} is a hard link to {os.fsdecode(entry.link)!r}"
        if not target or target == path:
            self._refuse(f"{said}, which can't be")
        above, _, name = target.rpartition(b"/")
        source = self._tree.open_as_it_is(above, os.O_PATH | os.O_DIRECTORY)
        try:
            found = os.stat(name, dir_fd=source, follow_symlinks=False) if source >= 0 else None
            if found is None or (self._form != FLAT and is_whiteout(found)):
                raise FileNotFoundError
            if stat.S_ISDIR(found.st_mode):
                self._refuse(f"{said}, which is a folder")
            try:
                self._extractor.link(source, name, parent, last)
            except FileExistsError:
                self._make_way(parent, last, path)
                self._extractor.link(source, name, parent, last)
        except (FileNotFoundError, NotADirectoryError):
            where = "layer" if self._form != FLAT else "root"
            self._refuse(f"{said}, which this {where} does not have, or only through a symbolic link")
        finally:
            if source >= 0:
                os.close(source)

    def _make_way(self, parent: int, last: bytes, path: bytes) -> None:
        """Remove what has the name of a new member: what lower layers have there, or this layer's whiteout."""
        if self._tree.is_ours(path) and not self._lenient:
            about = os.stat(last, dir_fd=parent, follow_symlinks=False)
            if self._form == FLAT or not is_whiteout(about):
                self._twice(path)
        self._tree.remove(parent, last, path)

    # ---- whiteouts

    def _marked(self, path: bytes) -> bool:
        """Carry out a whiteout; False if the path is an ordinary one that has `.wh.` in it."""
        found = names.whiteout(path)
        if found is None:
            return False
        if found.name:
            self._whiteout(found.above, found.name)
        elif found.name is not None:
            self._opaque(found.above)
        return True

    def _whiteout(self, above: bytes, name: bytes) -> None:
        tree = self._tree
        path = join(above, name)
        if self._form != FLAT:
            if tree.is_below_link(above):
                self._warn_of_nothing(path)
            else:
                self._mark_white(above, name, path)
            return
        parent = tree.open_as_it_is(above, os.O_PATH | os.O_DIRECTORY)
        if parent < 0:
            self._warn_of_nothing(path)
            return
        try:
            if not tree.is_ours(path):
                if not tree.remove(parent, name, path):
                    self._warn_of_nothing(path)
            elif tree.fresh:
                self._warn_of_nothing(path)
            else:
                tree.purge(path)
        finally:
            os.close(parent)

    def _mark_white(self, above: bytes, name: bytes, path: bytes) -> None:
        parent, _ = self._tree.folder(above)
        try:
            os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=parent)
            self._white.append(path)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                self._mark_opaque(path)

    def _opaque(self, above: bytes) -> None:
        if self._tree.is_below_link(above):
            self._warn_of_nothing(join(above, names.OPAQUE))
            return
        _, real = self._tree.folder(above)
        if self._form == FLAT:
            self._tree.purge(real)
        else:
            self._mark_opaque(real)

    def _mark_opaque(self, path: bytes) -> None:
        self._opaque_folders.add(path)
        fd = self._tree.open_as_it_is(path)
        try:
            os.setxattr(fd, _OPAQUE_XATTR[self._form], b"y")
        finally:
            os.close(fd)

    def _remove_needless_whiteouts(self) -> None:
        """Remove whiteouts from opaque folders. Overlayfs merges nothing into these, so it lists what is in
        them, names of files that are not there (quirk 41)."""
        for path in self._white if self._opaque_folders else ():
            above, _, name = path.rpartition(b"/")
            if not any(one in self._opaque_folders for one in _with_all_above(above)):
                continue
            parent = self._tree.open_as_it_is(above, os.O_PATH | os.O_DIRECTORY)
            if parent >= 0:
                try:
                    if is_whiteout(os.stat(name, dir_fd=parent, follow_symlinks=False)):
                        os.unlink(name, dir_fd=parent)
                except FileNotFoundError:
                    pass  # a member has taken its place and been removed
                finally:
                    os.close(parent)

    # ---- what is said

    def _warn_of_nothing(self, path: bytes) -> None:
        self._warn(f"{os.fsdecode(path)!r} is a whiteout of nothing")

    def _warn(self, text: str) -> None:
        if len(self._warnings) < _MOST_WARNINGS:
            self._warnings.append(f"{self._extractor.doing}: {text}")
        else:
            self._more_warnings += 1

    def _twice(self, path: bytes) -> NoReturn:
        self._refuse(f"it has {os.fsdecode(path)!r} more than once")

    def _refuse(self, because: str) -> NoReturn:
        raise Malformed(self._extractor.doing, because=because)

    def _failed(self, entry: Entry, error: "OSError | SystemCall") -> NoReturn:
        text = reason(error) if isinstance(error, OSError) else str(error)
        hint = NO_ROOM if error.errno == errno.ENOSPC else ""
        raise CtkError(self._extractor.doing, because=f"{os.fsdecode(entry.name)!r}: {text}", hint=hint) from error


def _with_all_above(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield b""
