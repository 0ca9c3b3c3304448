"""Where COPY and ADD put what they take: paths in the image, its links followed, and the members of the new layer.

A folder that is missing on the way is made, 0755. A folder of the image keeps its mode and owner if it is the target
itself; what is copied into it replaces what is there, as a file replaces a link, and a folder is merged with a folder,
also through a link (merged /usr).
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from toolkit.archive import walk
from toolkit.archive.entries import DIRECTORY, FILE, HARD_LINK, SECOND_NS, SYMLINK, Entry, of_file
from toolkit.archive.epoch import clamped
from toolkit.errors import CtkError, reason
from toolkit.image.layer import merged
from toolkit.image.layer.write import fit

Content = Callable[[], Iterator[bytes]]


class Owner(NamedTuple):
    """Ids that what is copied gets."""

    uid: int
    gid: int


class Change(NamedTuple):
    """What becomes of what is copied: its owner, its mode if not None, the latest time that it may have, in seconds."""

    owner: Owner
    mode: int | None
    latest_s: int | None
    now_s: int

    def made(self, entry: Entry, *, keep_owner: bool = False) -> Entry:
        """The entry, changed."""
        if not keep_owner:
            entry.uid, entry.gid = self.owner
            entry.uname = entry.gname = b""
        if self.mode is not None and entry.kind != SYMLINK:
            entry.mode = self.mode
        return clamped(entry, self.latest_s)


class Members:
    """The members of a new layer on the layers `roots` (the topmost first), by their paths. Raises CtkError."""

    def __init__(self, roots: list[int], change: Change, doing: str) -> None:
        self._roots = roots
        self._change = change
        self._doing = doing
        self._members: dict[str, Entry] = {}
        self._contents: dict[bytes, Content] = {}
        self._keys: dict[str, tuple[int, int]] = {}
        self._new_folders: set[str] = set()  # what is in them is not in the image, so nobody looks for it there

    def folder(self, path: str) -> str:
        """The real path of a folder, which is made if it is missing. Raises CtkError if it is something else."""
        real, missing = self._find(path)
        for word in missing:
            real = os.path.join(real, word)
            known = self._members.get(real)
            if known is not None and known.kind != DIRECTORY:
                raise CtkError(self._doing, because=f"/{real} is no folder")
            if known is None:
                self._put(real, self._change.made(self._new(real)))
                self._new_folders.add(real)
        return real

    def is_folder(self, path: str) -> bool:
        """Whether there is such a folder in the image, or in what was copied before."""
        found = self._look(path)
        if found.missing:
            known = self._members.get(os.path.join(found.path, *found.missing))
            return known is not None and known.kind == DIRECTORY
        return found.kind == stat.S_IFDIR

    def real(self, path: str) -> str:
        """The real path of a file that is to be written: the last link is followed, too; its folder is made."""
        found = self._look(path)
        whole = os.path.join(found.path, *found.missing)
        above, _, name = whole.rpartition("/")
        if not name or (not found.missing and found.kind == stat.S_IFDIR):
            raise CtkError(self._doing, because=f"/{whole} is a folder, and a file is to be written there")
        return os.path.join(self.folder("/" + above), name)

    def put(
        self,
        above: str,
        entry: Entry,
        content: Content | None = None,
        key: tuple[int, int] | None = None,
        *,
        keep_owner: bool = False,
    ) -> str:
        """One more member, `entry.name` below the real path `above`, whose folder was put before. Its real path.

        `key` tells hard links to one file. A folder may be one of the image, through a link, too.
        """
        path = os.path.join(above, os.fsdecode(entry.name))
        entry = self._change.made(entry, keep_owner=keep_owner)
        found = None if above in self._new_folders else self._look(path, follow=False)
        kind = 0 if found is None or found.missing else found.kind
        if entry.kind == DIRECTORY and kind == stat.S_IFLNK and path not in self._members:
            through = self._look(path)
            if not through.missing and through.kind == stat.S_IFDIR:
                return through.path
        if entry.kind == DIRECTORY and kind not in (0, stat.S_IFDIR, stat.S_IFLNK):
            raise CtkError(self._doing, because=f"/{path} is a file in the image, and a folder is to be copied there")
        if entry.kind != DIRECTORY and kind == stat.S_IFDIR:
            raise CtkError(self._doing, because=f"/{path} is a folder in the image, and a file is to be copied there")
        if entry.kind == DIRECTORY and kind == 0:
            self._new_folders.add(path)
        self._put(path, entry, content, key)
        return path

    def _put(self, path: str, entry: Entry, content: Content | None = None, key: tuple[int, int] | None = None) -> None:
        entry.name = os.fsencode(path)
        before = self._members.get(path)
        if before is not None and (before.kind == DIRECTORY) != (entry.kind == DIRECTORY):
            raise CtkError(self._doing, because=f"/{path} is a file in one source, and a folder in another")
        self._members[path] = fit(entry, self._doing)
        self._contents.pop(entry.name, None)
        self._keys.pop(path, None)
        if content is not None:
            self._contents[entry.name] = content
        if key is not None:
            self._keys[path] = key

    def all(self) -> Iterator[Entry]:
        """The members in order, a folder before what is in it, with the image's folders above them."""
        for path in list(self._members):
            while path := path.rpartition("/")[0]:
                if path not in self._members:
                    self._members[path] = self._of_image(path)
        first: dict[tuple[int, int], str] = {}
        for path in sorted(self._members, key=lambda one: os.fsencode(one).split(b"/")):
            entry, key = self._members[path], self._keys.get(path)
            if entry.kind == FILE and key is not None and first.setdefault(key, path) != path:
                entry.kind, entry.link, entry.size_bytes = HARD_LINK, os.fsencode(first[key]), 0
            yield entry

    def content(self, entry: Entry) -> Iterator[bytes]:
        """The content of a member that is a file."""
        return self._contents[entry.name]()

    def _new(self, path: str) -> Entry:
        entry = Entry(os.fsencode(path), DIRECTORY, 0)
        entry.mode, entry.mtime_ns = 0o755, self._change.now_s * SECOND_NS
        return entry

    def _of_image(self, path: str) -> Entry:
        """A folder of the image as it is: readers that take a layer by itself need not make one up."""
        with ExitStack() as stack:
            found = merged.find(stack, self._roots, path)
            if found.missing or found.kind != stat.S_IFDIR:
                return self._new(path)
            entry = of_file(os.fsencode(path), os.fstat(found.where[0]))
            assert entry is not None
            entry.xattrs = walk.xattrs(f"/proc/self/fd/{found.where[0]}/.")
        return fit(entry, self._doing)

    def _look(self, path: str, *, follow: bool = True) -> merged.Found:
        """Its descriptors are closed."""
        try:
            with ExitStack() as stack:
                return merged.find(stack, self._roots, path, follow=follow)
        except OSError as error:
            raise CtkError(self._doing, because=f"/{path.strip('/')}: {reason(error)}") from None

    def _find(self, path: str) -> tuple[str, tuple[str, ...]]:
        found = self._look(path)
        if not found.missing and found.kind != stat.S_IFDIR:
            raise CtkError(self._doing, because=f"/{found.path} is a file in the image, and a folder is needed there")
        return found.path, found.missing
