"""What COPY takes: files of the build's folder, or of another image's layers.

A source is a pattern (Go's filepath.Match, each component by itself). Links are followed up to what was named, inside
the folder or image; those below it are copied as they are.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from toolkit.archive import walk
from toolkit.archive.entries import FILE, SYMLINK, Entry, of_file
from toolkit.errors import SystemCall
from toolkit.image.build.glob import Pattern, Text, has_wildcards
from toolkit.image.build.ignore import Ignored
from toolkit.image.layer import merged
from toolkit.kernel import beneath

_NO_LINKS = beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_SYMLINKS | beneath.RESOLVE_NO_MAGICLINKS


class Item(NamedTuple):
    """A file to be copied. `entry.name` is its path below what was named, b"" for that itself.

    `path` is that below the tree's root, `key` its device and inode, which a hard link shares, `links` how many.
    """

    entry: Entry
    path: str
    key: tuple[int, int]
    links: int


class Named(NamedTuple):
    """What a source means: a folder, or one file; as it was called, and its path without links."""

    name: str
    is_folder: bool
    path: str


class Tree:
    """Folders on top of each other, the topmost first; `ignored` are patterns of what is not there."""

    def __init__(self, stack: ExitStack, folders: list[str], ignored: Ignored) -> None:
        self._ignored = ignored
        self.roots = []
        for folder in folders:
            self.roots.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, self.roots[-1])

    def named(self, pattern: str) -> list[Named]:
        """What a source means, in order; nothing if there is no such file. Raises OSError, re.error."""
        path = os.path.normpath("/" + pattern).strip("/")
        if not has_wildcards(path):
            found = self._found(path, path.rpartition("/")[2])
            return [found] if found else []
        paths = [""]
        for word in path.split("/"):
            paths = [inner for above in paths for inner in self._matching(above, word)]
        return [found for one in paths if (found := self._found(one, one.rpartition("/")[2]))]

    def _matching(self, above: str, word: str) -> Iterator[str]:
        if not has_wildcards(word):
            yield os.path.join(above, word)
            return
        pattern = Pattern(word)
        with ExitStack() as stack:
            folder = merged.find(stack, self.roots, above)
            if folder.missing or folder.kind != stat.S_IFDIR:
                return
            for name in merged.names(folder.where):
                with ExitStack() as inner:
                    there = pattern.matches(Text(name)) and merged.look(inner, folder.where, name) is not None
                if there:
                    yield os.path.join(above, name)

    def _found(self, path: str, name: str) -> Named | None:
        try:
            with ExitStack() as stack:
                found = merged.find(stack, self.roots, path)
        except NotADirectoryError:
            return None
        if found.missing or (found.kind != stat.S_IFDIR and self._is_out(found.path)):
            return None
        if found.kind == stat.S_IFDIR and not self._ignored.may_take and self._is_out(found.path):
            return None
        return Named(name, found.kind == stat.S_IFDIR, found.path)

    def _is_out(self, path: str) -> bool:
        return self._ignored.is_out(self._marks(path))

    def _marks(self, path: str) -> tuple[bool, ...]:
        marks = self._ignored.top
        words = path.split("/") if path else []
        for number in range(len(words)):
            marks = self._ignored.marks("/".join(words[: number + 1]), marks)
        return marks

    def items(self, named: Named) -> Iterator[Item]:
        """The file, or the folder and all that is in it, each folder before what it has. Raises OSError."""
        path = named.path
        with ExitStack() as stack:
            found = merged.find(stack, self.roots, path)
            if found.kind != stat.S_IFDIR:
                item = _item(found.where[0], os.path.basename(path), path, b"")
                if item:
                    yield item
                return
            yield _folder(found.where[0], path, b"")
            yield from self._inside(found.where, path, b"", self._marks(path))

    def _inside(self, where: list[int], path: str, name: bytes, marks: tuple[bool, ...]) -> Iterator[Item]:
        walk.check_depth(name)
        for word in merged.names(where):
            inner, called = os.path.join(path, word), os.path.join(name, os.fsencode(word))
            here = self._ignored.marks(inner, marks)
            out = self._ignored.is_out(here)
            with ExitStack() as stack:
                looked = merged.look(stack, where, word)
                if looked is None:
                    continue
                kind, found = looked
                if kind != stat.S_IFDIR:
                    item = None if out else _item(found[0], word, inner, called)
                    if item:
                        yield item
                elif not out:
                    yield _folder(found[0], inner, called)
                    yield from self._inside(found, inner, called, here)
                elif self._ignored.may_take:
                    yield from _with_folder(_folder(found[0], inner, called), self._inside(found, inner, called, here))

    def open(self, item: Item) -> int:
        """A descriptor of a file, which is the one that was found. Raises OSError."""
        for root in self.roots:
            try:
                fd = beneath.openat2(root, item.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, 0, _NO_LINKS)
            except (OSError, SystemCall):
                continue
            about = os.fstat(fd)
            if (about.st_dev, about.st_ino) == item.key:
                return fd
            os.close(fd)
        raise OSError(errno.ESTALE, "it was changed while it was read", item.path)

    def content(self, item: Item) -> Iterator[bytes]:
        """The bytes of a file, exactly its size. Raises OSError, also if it has become shorter."""
        with open(self.open(item), "rb", buffering=0) as file:
            left = item.entry.size_bytes
            while left:
                piece = file.read(min(left, 1 << 20))
                if not piece:
                    raise OSError(errno.EIO, "it became shorter while it was read", item.path)
                left -= len(piece)
                yield piece


def _with_folder(folder: Item, inside: Iterator[Item]) -> Iterator[Item]:
    """A folder that is left out, if something in it is not."""
    first = next(inside, None)
    if first is not None:
        yield folder
        yield first
        yield from inside


def _folder(fd: int, path: str, name: bytes) -> Item:
    about = os.fstat(fd)
    entry = of_file(name, about)
    assert entry is not None
    entry.xattrs = walk.xattrs(f"/proc/self/fd/{fd}/.")
    return Item(entry, path, (about.st_dev, about.st_ino), 1)


def _item(fd: int, word: str, path: str, name: bytes) -> Item | None:
    """None for a socket."""
    about = os.stat(word, dir_fd=fd, follow_symlinks=False)
    entry = of_file(name, about)
    if entry is None:
        return None
    if entry.kind == SYMLINK:
        entry.link = os.fsencode(os.readlink(word, dir_fd=fd))
    else:
        entry.xattrs = walk.xattrs(b"/proc/self/fd/%d/%s" % (fd, os.fsencode(word)))
    return Item(entry, path, (about.st_dev, about.st_ino), about.st_nlink if entry.kind == FILE else 1)
