"""A tar stream becomes files: below one folder, whatever its names and links say.

Each parent folder is opened anew by the kernel's own rules: on the host without any symbolic link on the way below the
folder (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS), in a container with its root as `/` (RESOLVE_IN_ROOT).

Nor is the target itself followed on the host if it is a link (docker cp does): the last copy may have brought it, and
with it a container would choose where the next one goes. Whoever means what it leads to writes a `/` after it.
"""

import errno
import os
import stat as st
import tarfile

from toolkit.errors import CtkError, SystemCall
from toolkit.kernel import beneath
from toolkit.runtime.comfort import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_STRICT = beneath.RESOLVE_BENEATH | beneath.RESOLVE_NO_SYMLINKS | beneath.RESOLVE_NO_MAGICLINKS
_FOLDER = os.O_PATH | os.O_DIRECTORY
_LONGEST_HEADER_BYTES = 1 << 20
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


class _Entry(tarfile.TarInfo):
    """An entry whose long names and attributes have a limit: tarfile reads each of them whole, up to 8 GiB."""

    def _proc_member(self, archive: tarfile.TarFile) -> "tarfile.TarInfo":
        if self.type in _HEADERS and self.size > _LONGEST_HEADER_BYTES:
            raise tarfile.ReadError(f"it has a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


class Place:
    """Where paths are looked up: on the host (`root` -1), or in a container, whose root `root` is a descriptor of."""

    def __init__(self, root: int = -1) -> None:
        self.root = root

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """Open a path as whoever names it sees it. Raises OSError."""
        if self.root < 0:
            return os.open(path, flags | os.O_CLOEXEC)
        try:
            return beneath.open_beneath(self.root, path, flags)
        except SystemCall as error:
            raise OSError(error.errno, os.strerror(error.errno), path) from None

    def kind(self, path: str, flags: int = 0) -> int:
        """The file's type (S_IFMT), 0 if there is none. Raises OSError."""
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

    `contents`: not the first entry itself, but what is in it; `owners`: keep owners, and setuid bits.
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
        self.rename: "str | None" = None  # of the first word of each name: None keeps it, "" drops it
        self.folders: "list[tuple[list[str], tarfile.TarInfo]]" = []  # whose mode and time are set at the end
        self.skipped = 0

    def unpack(self, stream: "BinaryIO", *, plain: bool = False) -> None:
        """All of the stream; `plain`: names are as they are, into a folder that is there. Raises CtkError, OSError."""
        with tarfile.open(mode="r|", fileobj=stream, errors="surrogateescape", tarinfo=_Entry) as archive:
            for number, entry in enumerate(archive):
                archive.members.clear()  # type: ignore[attr-defined]  # it keeps them all, and they may be millions
                if number == 0 and self._begin(entry, plain):
                    self._onto(archive, entry)
                    return
                self._entry(archive, entry)
        for words, entry in reversed(self.folders):
            self._finish_folder(words, entry)
        if self.skipped:
            self.say(f"left out {self.skipped} device nodes: they are not copied")

    def _begin(self, first: tarfile.TarInfo, plain: bool) -> bool:
        """Decide where things go; True if the one file that there is replaces what is at the target."""
        target, doing = self.target, f"copy to {self.target!r}"
        there = self.place.kind(target, self.unfollowed)
        if there == st.S_IFLNK and not first.issym():
            raise CtkError(
                doing,
                because="it is a symbolic link, which a copy may have brought here",
                hint=f"remove it, or write {target + '/'!r} if the folder is meant that it leads to",
            )
        if plain and there != st.S_IFDIR:
            raise CtkError(doing, because="a tar is unpacked into a folder, and there is none of that name")
        if there == st.S_IFDIR:
            self.base_fd = self.place.open(target, _FOLDER | self.unfollowed)
            self.base = target
            self.rename = "" if self.contents and first.isdir() else None
            return False
        if there and there != st.S_IFLNK:
            if first.isdir():
                raise CtkError(doing, because="a folder can't replace a file")
            if there != st.S_IFREG:
                raise CtkError(doing, because="it is there and is no regular file")
            return first.isreg()
        if target.endswith("/") and not first.isdir():
            raise CtkError(doing, because="no such folder", hint="make it first, or leave the '/' away")
        self.base, _, name = target.rstrip("/").rpartition("/")
        self.base = self.base or ("/" if target.startswith("/") else ".")
        self.rename = name
        if self.place.kind(self.base) != st.S_IFDIR:
            raise CtkError(doing, because=f"there is no folder {self.base!r}")
        self.base_fd = self.place.open(self.base, _FOLDER)
        return False

    def _onto(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        fd = self.place.open(self.target, os.O_PATH | self.unfollowed)
        try:
            if not st.S_ISREG(os.fstat(fd).st_mode):
                raise CtkError(f"copy to {self.target!r}", because="it is no regular file any more")
            _check_size(fd, entry)
            with open(os.open(names.of_fd(fd), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC), "wb") as file:
                self._fill(archive, entry, file)
        finally:
            os.close(fd)

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

    def _entry(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        words = self._words(entry.name)
        if not words:
            return  # the base itself
        if entry.isdir():
            known = self._is_there(words)
            os.close(self._parent(words))
            if not known:
                self.folders.append((words, entry))
            return
        parent = self._parent(words[:-1])
        try:
            self._make(archive, entry, parent, words[-1])
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

    def _make(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, parent: int, name: str) -> None:
        if entry.isreg():
            _check_size(parent, entry)
            with open(_new_file(parent, name), "wb") as file:
                self._fill(archive, entry, file)
            return
        if entry.isdev() and not entry.isfifo():
            self.skipped += 1
            return
        _unlink(parent, name)
        if entry.islnk():
            link = self._words(entry.linkname)
            folder = self._parent(link[:-1])
            try:
                os.link(link[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(folder)
            return
        if entry.issym():
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif entry.isfifo():
            os.mkfifo(name, entry.mode & 0o777, dir_fd=parent)
        if self.owners:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)

    def _fill(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, file: "BinaryIO") -> None:
        source = archive.extractfile(entry)
        assert source is not None
        while data := source.read(1 << 20):
            file.write(data)
        file.flush()
        self._adorn(file.fileno(), entry)

    def _adorn(self, fd: int, entry: tarfile.TarInfo) -> None:
        if self.owners:
            os.fchown(fd, entry.uid, entry.gid)
        # Without its owner a setuid file would be ours: a stranger's program with our rights.
        os.fchmod(fd, entry.mode & (0o7777 if self.owners else 0o1777))
        os.utime(fd, (entry.mtime, entry.mtime))

    def _finish_folder(self, words: "list[str]", entry: tarfile.TarInfo) -> None:
        fd = self._parent(words)
        try:
            folder = os.open(names.of_fd(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._adorn(folder, entry)
            finally:
                os.close(folder)
        finally:
            os.close(fd)


def _check_size(fd: int, entry: tarfile.TarInfo) -> None:
    """A file of holes only costs nothing to make, and may be longer than any disk. Raises CtkError."""
    status = os.fstatvfs(fd)
    whole = status.f_blocks * status.f_frsize
    if 0 < whole < entry.size:
        because = f"it has {entry.size} bytes, and the file system that it would go to {whole}"
        raise CtkError(f"copy {entry.name!r}", because=because)


def _new_file(parent: int, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o600, dir_fd=parent)
    except FileExistsError:
        pass
    try:
        os.unlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A mount point, as /etc/hosts often is: its content is replaced.
        there = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            if not st.S_ISREG(os.fstat(there).st_mode):
                raise
            return os.open(names.of_fd(there), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        finally:
            os.close(there)
    return os.open(name, flags, 0o600, dir_fd=parent)


def _unlink(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
