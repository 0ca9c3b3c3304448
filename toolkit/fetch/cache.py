"""A folder of files named by their SHA-256, shared by every build of this user.

A file gets in by a rename of a finished, checked one, so no reader ever sees half a file, however many builds run at
once. What comes out is hashed again through the very descriptor that is handed out: the folder is 0700, but disks rot
and people copy caches about.

    CACHE/files/ab/abcdef…    the files
    CACHE/files/ab/abcdef….X  worked out from one (`note`, bootstrap/acquire/repacked.py), never looked at without it
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

FOLDERS = ("files", "trees", "asks", "logs", "building", "trees.new")  # that ctk makes in a cache
_READ_BYTES = 1 << 20
_STALE_S = 24 * 3600


class Cache:
    """Content-addressed files below `folder`, which is made (0700) when first written to."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.join(folder, "files")
        self._ready = False

    def path(self, sha256: str) -> str:
        """Where the file with this hash is, or would be."""
        return os.path.join(self.folder, sha256[:2], sha256)

    def open(self, sha256: str, size_bytes: int) -> int | None:
        """A descriptor (at offset 0) of the file with this hash, hashed just now; None when there is no such file.

        A file that does not match its name any more is removed and counts as missing.
        """
        path = self.path(sha256)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            if os.fstat(fd).st_size == size_bytes and hash_of(fd) == sha256:
                os.lseek(fd, 0, os.SEEK_SET)
                os.utime(fd)  # used now: the longest unused are pruned first
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
        """Raise CtkError when the disk has clearly too little room for those files (hash, size) that aren't here."""
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
        """Write `chunks` as the file with this hash; a descriptor of it at offset 0.

        Hashes while it writes. Raises Untrusted when size or hash differ (nothing is kept then), CtkError when the
        disk is full or the folder can't be written.
        """
        return self._take(chunks, size_bytes, lambda got, size: check(doing, got, size, sha256, size_bytes))[0]

    def add(self, chunks: Iterable[bytes], size_bytes: int) -> tuple[int, str]:
        """The same for a file that nobody has promised anything of: its descriptor, and its hash. Raises CtkError."""
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
        """A new file of the cache's, which gets its name when it is whole. Raises OSError.

        Until then its name is in the folder of all, with our pid: so `prepare` and `ctk gc` find what is left of it.
        """
        return atomic.Writing(os.path.join(self.folder, f"tmp.{os.getpid()}.{os.urandom(6).hex()}"))

    def note(self, sha256: str, kind: str, data: bytes) -> None:
        """Keep something worked out from the file with this hash. A cache that can't be written is no error."""
        try:
            with self.writing() as new:
                atomic.write(new.fd, hashlib.sha256(data).digest() + data)
                new.name(f"{self.path(sha256)}.{kind}")
        except OSError:
            pass

    def noted(self, sha256: str, kind: str) -> bytes | None:
        """What `note` kept, if it is there and whole. Anybody who may write here may have changed it knowingly."""
        try:
            with open(f"{self.path(sha256)}.{kind}", "rb") as file:
                data = file.read()
        except OSError:
            return None
        return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None

    def prepare(self) -> None:
        """Make the folder, and clear it of what killed builds left. Raises OSError, CtkError if others may write."""
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
                    pass  # another build's, which has just got its name
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
    """Raise CtkError when somebody else may write to the cache `folder` or to one of its own folders.

    Hashes are no help against it: cached trees and locks are believed because nobody else could have put them there,
    and an open file may change after it was hashed. A folder like /tmp will do, whose sticky bit keeps ours ours.
    """
    try:
        about = os.stat(folder)
        inside = [entry for entry in os.scandir(folder) if not entry.is_file(follow_symlinks=False)]
    except OSError:
        return  # not there: we make it
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
        because="somebody else may write to it",
        hint=f"remove it, or `chmod go-w {quote(path)}`; CTK_CACHE names another folder",
    )


def _mib(size_bytes: int) -> str:
    return f"{-(-size_bytes >> 20)} MiB"


def hash_of(fd: int, end: int = 1 << 63) -> str:
    """SHA-256 (hex) of a whole file, or of its first `end` bytes, by its descriptor; leaves the offset behind them."""
    digest = hashlib.sha256()
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    os.lseek(fd, 0, os.SEEK_SET)
    while end > 0 and (count := os.readv(fd, (view[:end],))):
        digest.update(view[:count])
        end -= count
    return digest.hexdigest()


def check(doing: str, got_sha256: str, got_size: int, sha256: str, size_bytes: int) -> None:
    """Raise Untrusted unless what came is what the signed index promised."""
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
        "try again in some minutes, or take another --mirror",
    )
