"""Unpack a tar stream below one folder, whatever its names and links are.

Each parent folder is opened again with openat2(2): on the host without any symbolic link below the folder
(RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS), in a container with its root as `/` (RESOLVE_IN_ROOT).

On the host the target itself is not followed either if it is a link (docker cp follows it): an earlier copy may have
brought it, and so a container could choose where the next one goes. To mean its target, write a `/` after it.
"""

import errno
import os
import stat as st

from toolkit.archive.entries import DIRECTORY, FILE, HARD_LINK, KINDS, SYMLINK, Entry, Hole
from toolkit.archive.extract import SKIP, Extractor, Policy
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import CtkError, SystemCall
from toolkit.kernel import beneath
from toolkit.runtime.comfort import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_STRICT = beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_SYMLINKS | beneath.RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_PATH | os.O_DIRECTORY
_PIECE_BYTES = 1 << 18


class Place:
    """Where paths are looked up: on the host (`root` -1), or in a container (`root` is a descriptor of its root)."""

    def __init__(self, root: int = -1) -> None:
        self.root = root

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """Open a path as seen from that side. Raises OSError."""
        if self.root < 0:
            return os.open(path, flags | os.O_CLOEXEC)
        try:
            return beneath.open_beneath(self.root, path, flags)
        except SystemCall as error:
            raise OSError(error.errno, os.strerror(error.errno), path) from None

    def kind(self, path: str, flags: int = 0) -> int:
        """The file's type (S_IFMT), 0 if it does not exist. Raises OSError."""
        try:
            fd = self.open(path, os.O_PATH | flags)
        except FileNotFoundError:
            return 0
        try:
            return st.S_IFMT(os.fstat(fd).st_mode)
        finally:
            os.close(fd)


class Unpacker:
    """Unpacks one stream to `target` in `place`, by the rules of `docker cp`.

    `contents`: not the first entry itself but its contents; `owners`: keep owners, and setuid bits.
    """

    def __init__(
        self, place: Place, target: str, *, contents: bool, owners: bool, say: "Callable[[str], None]"
    ) -> None:
        self.place = place
        self.target = target
        self.unfollowed = os.O_NOFOLLOW if place.root < 0 and not target.endswith("/") else 0
        self.contents = contents
        self.owners = owners
        self.say = say
        self.base = ""
        self.base_fd = -1
        self.rename: "str | None" = None  # replaces the first component of each name: None keeps it, "" drops it
        self.folders: "list[tuple[list[str], Entry]]" = []  # folders whose mode and time are set at the end
        policy = Policy(owners=owners, xattrs=(), refuse_xattrs=False, devices=SKIP, replace=True, check_size=True)
        self.extractor = Extractor(policy, f"copy to {target!r}")

    def unpack(self, stream: "BinaryIO", *, plain: bool = False) -> None:
        """Unpack the stream; `plain`: with unchanged names, into an existing folder. Raises CtkError, OSError."""
        archive = AnyTar(iter(lambda: stream.read(_PIECE_BYTES), b""), f"the tar for {self.target!r}")
        onto = False
        for number, entry in enumerate(archive):
            entry.xattrs = {}
            if number == 0 and self._begin(entry, plain):
                self._onto(archive, entry)
                onto = True
            elif not onto:
                self._member(archive, entry)
        for words, entry in reversed(self.folders):
            self._finish_folder(words, entry)
        if self.extractor.left_out:
            self.say(f"left out {self.extractor.left_out} device nodes: they are not copied")

    def _begin(self, first: Entry, plain: bool) -> bool:
        """Decide where the members go; True if the single file replaces the file at the target."""
        target, doing = self.target, f"copy to {self.target!r}"
        there = self.place.kind(target, self.unfollowed)
        if there == st.S_IFLNK and first.kind != SYMLINK:
            raise CtkError(
                doing,
                because="it is a symbolic link, which a copy may have brought here",
                hint=f"remove it, or write {target + '/'!r} for the folder that it points to",
            )
        if plain and there != st.S_IFDIR:
            raise CtkError(doing, because="a tar is unpacked into a folder, but there is no folder of that name")
        if there == st.S_IFDIR:
            self.base_fd = self.place.open(target, _FOLDER | self.unfollowed)
            self.base = target
            self.rename = "" if self.contents and first.kind == DIRECTORY else None
            return False
        if there and there != st.S_IFLNK:
            if first.kind == DIRECTORY:
                raise CtkError(doing, because="a folder can't replace a file")
            if there != st.S_IFREG:
                raise CtkError(doing, because="it exists and is not a regular file")
            return first.kind == FILE
        if target.endswith("/") and first.kind != DIRECTORY:
            raise CtkError(doing, because="no such folder", hint="make it first, or leave out the '/'")
        self.base, _, name = target.rstrip("/").rpartition("/")
        self.base = self.base or ("/" if target.startswith("/") else ".")
        self.rename = name
        if self.place.kind(self.base) != st.S_IFDIR:
            raise CtkError(doing, because=f"there is no folder {self.base!r}")
        self.base_fd = self.place.open(self.base, _FOLDER)
        return False

    def _onto(self, archive: AnyTar, entry: Entry) -> None:
        fd = self.place.open(self.target, os.O_PATH | self.unfollowed)
        try:
            if not st.S_ISREG(os.fstat(fd).st_mode):
                raise CtkError(f"copy to {self.target!r}", because="it is no longer a regular file")
            self.extractor.check_size(fd, entry)
            self._refill(fd, entry, archive.content(entry))
        finally:
            os.close(fd)

    def _refill(self, fd: int, entry: Entry, pieces: "Iterator[memoryview | Hole]") -> None:
        """Replace the contents of the file that `fd` (O_PATH) is open on."""
        file = os.open(names.of_fd(fd), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            self.extractor.fill(file, entry, pieces)
        finally:
            os.close(file)

    def _words(self, name: str) -> "list[str]":
        words = names.words(name)
        if self.rename is not None:
            words = ([self.rename] if self.rename else []) + words[1:]
        return words

    def _parent(self, words: "list[str]") -> int:
        """The folder `words` below the base (O_PATH), made if it is missing. Raises OSError, SystemCall."""
        if self.place.root >= 0:
            return beneath.make_directories(self.place.root, "/".join([self.base, *words]))
        current = os.dup(self.base_fd)
        for word in words:
            try:
                found = beneath.openat2(current, word, _FOLDER, 0, _STRICT)
            except SystemCall as error:
                if error.errno != errno.ENOENT:
                    os.close(current)
                    raise
                os.mkdir(word, 0o755, dir_fd=current)
                found = beneath.openat2(current, word, _FOLDER, 0, _STRICT)
            os.close(current)
            current = found
        return current

    def _member(self, archive: AnyTar, entry: Entry) -> None:
        words = self._words(os.fsdecode(entry.name))
        if not words or entry.kind not in KINDS:
            return  # the base itself, or not a file (for example a volume's name)
        if entry.kind == DIRECTORY:
            known = self._is_there(words)
            os.close(self._parent(words))
            if not known:
                self.folders.append((words, entry))
            return
        parent = self._parent(words[:-1])
        try:
            if entry.kind == FILE:
                self._file(parent, words[-1], entry, archive.content(entry))
            elif entry.kind == HARD_LINK:
                self._link(parent, words[-1], os.fsdecode(entry.link))
            else:
                self.extractor.put(parent, words[-1], entry, ())
        finally:
            os.close(parent)

    def _is_there(self, words: "list[str]") -> bool:
        parent = self._parent(words[:-1])
        try:
            return st.S_ISDIR(os.stat(words[-1], dir_fd=parent, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False
        finally:
            os.close(parent)

    def _file(self, parent: int, name: str, entry: Entry, pieces: "Iterator[memoryview | Hole]") -> None:
        try:
            file = self.extractor.new_file(parent, name, entry)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A mount point, as /etc/hosts often is: replace its contents.
            there = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                if not st.S_ISREG(os.fstat(there).st_mode):
                    raise
                self._refill(there, entry, pieces)
            finally:
                os.close(there)
            return
        try:
            self.extractor.fill(file, entry, pieces)
        finally:
            os.close(file)

    def _link(self, parent: int, name: str, target: str) -> None:
        words = self._words(target)
        if not words:
            raise CtkError(self.extractor.doing, because=f"{name!r} is a hard link to the folder itself")
        folder = self._parent(words[:-1])
        try:
            self.extractor.link(folder, words[-1], parent, name)
        finally:
            os.close(folder)

    def _finish_folder(self, words: "list[str]", entry: Entry) -> None:
        fd = self._parent(words)
        try:
            folder = os.open(names.of_fd(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.extractor.finish(folder, entry)
            finally:
                os.close(folder)
        finally:
            os.close(fd)
