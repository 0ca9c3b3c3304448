"""A folder of files named by their SHA-256, shared by all builds of this user.

A file is renamed into it when it is complete and checked, so no reader ever sees half a file, however many builds run
at once. A file is hashed again when it is opened, through the descriptor that is returned: the folder is 0700, but
disks fail and people copy caches.

    CACHE/files/ab/abcdef…    the files
    CACHE/files/ab/abcdef….X  derived from one (`note`, bootstrap/acquire/repacked.py), never used without it
    CACHE/files/tmp.…         being written; left-overs older than a day are removed
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable

from toolkit.errors import CtkError, Untrusted, reason
from toolkit.kernel import atomic, ours
from toolkit.text import quote

FOLDERS = ("files", "trees", "asks", "logs", "building", "trees.new")  # the folders that ctk makes in a cache
_READ_BYTES = 1 << 20
_STALE_S = 24 * 3600


class Cache:
    """Content-addressed files below `folder`, which is made (0700) at the first write."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, "files")
        self._ready = False

    def path(self, sha256: str) -> str:
        """The path of the file with this hash, whether it exists or not."""
        return os.path.join(self.folder, sha256[:2], sha256)

    def open(self, sha256: str, size_bytes: int) -> int | None:
        """A descriptor (at offset 0) of the file with this hash, hashed again just now; None if there is no such file.

        A file that no longer matches its name is removed and counts as missing.
        """
        path = self.path(sha256)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            if os.fstat(fd).st_size == size_bytes and hash_of(fd) == sha256:
                os.lseek(fd, 0, os.SEEK_SET)
                os.utime(fd)  # used now: the least recently used are pruned first
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        try:
            os.unlink(path)
        except OSError:
            pass
        return None

    def check_room(self, wanted: Iterable[tuple[str, int]]) -> None:
        """Raise CtkError if the disk clearly has too little room for those files (hash, size) that aren't cached."""
        missing = sum(size for sha256, size in wanted if not os.path.exists(self.path(sha256)))
        try:
            self.prepare()
            about = os.statvfs(self.folder)
        except OSError as error:
            raise self._failed(error) from None
        free = about.f_bavail * about.f_frsize
        if missing > free:
            raise CtkError(
                f"download to the cache {self.folder!r}",
                because=f"no space left on device: {_mib(missing)} are needed, {_mib(free)} are free",
                hint="free some space, or name another folder with CTK_CACHE",
            )

    def store(self, chunks: Iterable[bytes], sha256: str, size_bytes: int, *, doing: str) -> int:
        """Write `chunks` as the file with this hash; returns a descriptor of it at offset 0.

        The hash is computed during the write. Raises Untrusted if size or hash differ (nothing is kept then), CtkError
        if the disk is full or the folder can't be written.
        """
        return self._take(chunks, size_bytes, lambda got, size: check(doing, got, size, sha256, size_bytes))[0]

    def add(self, chunks: Iterable[bytes], size_bytes: int) -> tuple[int, str]:
        """The same for a file whose hash is not known before; returns its descriptor and its hash. Raises CtkError."""
        return self._take(chunks, size_bytes, None)

    def _take(
        self, chunks: Iterable[bytes], size_bytes: int, agree: Callable[[str, int], None] | None
    ) -> tuple[int, str]:
        try:
            self.prepare()
            new = self.writing()
        except OSError as error:
            raise self._failed(error) from None
        with new:
            digest = hashlib.sha256()
            done = 0
            for chunk in chunks:
                digest.update(chunk)
                done += len(chunk)
                try:
                    atomic.write(new.fd, chunk)
                except OSError as error:
                    raise self._failed(error, needed=size_bytes - done) from None
            sha256 = digest.hexdigest()
            if agree is not None:
                agree(sha256, done)
            try:
                ours.make_private(os.path.dirname(self.path(sha256)))
                new.name(self.path(sha256))
            except OSError as error:
                raise self._failed(error) from None
            os.lseek(new.fd, 0, os.SEEK_SET)
            return new.take(), sha256

    def writing(self) -> atomic.Writing:
        """A new file of the cache, which gets its final name when it is complete. Raises OSError.

        Until then it has a temporary name with our pid in the top folder, where `prepare` and `ctk gc` find left-overs.
        """
        return atomic.Writing(os.path.join(self.folder, f"tmp.{os.getpid()}.{os.urandom(6).hex()}"))

    def note(self, sha256: str, kind: str, data: bytes) -> None:
        """Keep data derived from the file with this hash. A cache that can't be written is not an error."""
        try:
            with self.writing() as new:
                atomic.write(new.fd, hashlib.sha256(data).digest() + data)
                new.name(f"{self.path(sha256)}.{kind}")
        except OSError:
            pass

    def noted(self, sha256: str, kind: str) -> bytes | None:
        """The data that `note` kept, if it exists and is intact. Not authenticated: who can write here can forge it."""
        try:
            with open(f"{self.path(sha256)}.{kind}", "rb") as file:
                data = file.read()
        except OSError:
            return None
        return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None

    def prepare(self) -> None:
        """Make the folder, and remove what killed builds left. Raises OSError, CtkError if others can write to it."""
        if self._ready:
            return
        ours.make_private(self.folder)
        check_private(os.path.dirname(self.folder))
        now = time.time()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not entry.name.startswith("tmp."):
                    continue
                try:
                    if now - entry.stat(follow_symlinks=False).st_mtime > _STALE_S:
                        os.unlink(entry.path)
                except FileNotFoundError:
                    pass  # another build's, which was just renamed
        self._ready = True

    def _failed(self, error: OSError, needed: int = 0) -> CtkError:
        because = reason(error)
        if needed:
            because += f" ({needed} bytes more were needed for this file)"
        return CtkError(
            f"write to the cache {self.folder!r}",
            because=because,
            hint="free some space, or name another folder with CTK_CACHE",
        )


def check_private(folder: str) -> None:
    """Raise CtkError if other users can write to the cache `folder` or to one of its own folders.

    Hashes do not protect against that: cached trees and locks are trusted because nobody else could have put them
    there, and an open file may change after it was hashed. A sticky folder like /tmp above it is fine: others can't
    rename or remove our folder in it.
    """
    try:
        about = os.stat(folder)
        inside = [entry for entry in os.scandir(folder) if not entry.is_file(follow_symlinks=False)]
    except OSError:
        return  # it does not exist: we make it
    if about.st_mode & stat.S_ISVTX:
        inside = [entry for entry in inside if entry.name in FOLDERS]
    elif about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise _shared(folder)
    for entry in inside:
        info = entry.stat(follow_symlinks=False)
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise _shared(entry.path)


def _shared(path: str) -> CtkError:
    return CtkError(
        f"use the cache {path!r}",
        because="other users can write to it",
        hint=f"remove it, or `chmod go-w {quote(path)}`; CTK_CACHE names another folder",
    )


def _mib(size_bytes: int) -> str:
    return f"{-(-size_bytes >> 20)} MiB"


def hash_of(fd: int, end: int = 1 << 63) -> str:
    """SHA-256 (hex) of a whole file, or of its first `end` bytes, by its descriptor; leaves the offset after them."""
    digest = hashlib.sha256()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    os.lseek(fd, 0, os.SEEK_SET)
    while end > 0 and (count := os.readv(fd, (view[:end],))):
        digest.update(view[:count])
        end -= count
    return digest.hexdigest()


def check(doing: str, got_sha256: str, got_size: int, sha256: str, size_bytes: int) -> None:
    """Raise Untrusted unless size and hash are those of the signed index."""
    if got_size != size_bytes:
        because = f"it has {got_size} bytes, the signed index states {size_bytes}"
    elif got_sha256 != sha256:
        because = f"its SHA-256 is {got_sha256}, the signed index states {sha256}"
    else:
        return
    raise Untrusted(
        doing,
        because=because,
        hint="the mirror, or something between, changed the file; or the mirror is in the middle of an update: "
        "try again in some minutes, or use another --mirror",
    )
