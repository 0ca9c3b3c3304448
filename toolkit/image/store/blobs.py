"""Blobs: taken in pieces, checked on the way, and named when whole; hashed again when they are read.

What comes goes to a file in `parts/`, whose flock(2) whoever fetches it holds. A second one waits there, and then finds
the blob. A killed or broken transfer leaves the part, and the next one goes on behind it.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from toolkit.errors import CtkError, Untrusted
from toolkit.events import Emit, Note, silent
from toolkit.image import digest as digests
from toolkit.image.document import fields
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.store.place import Place, is_at, lock_file
from toolkit.kernel import atomic, reading

_READ_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOENT)  # another file system, or one without links
_LINK = ".link"  # a name in parts/ for the moment between link(2) and rename(2), which replaces a damaged blob


class Part:
    """A blob on its way in. If it is `there` already, nothing is to be done.

    `offset` is how many of its bytes there are: who resumes goes on from there.
    """

    def __init__(self, place: Place, descriptor: Descriptor, fd: int) -> None:
        self.there = fd < 0
        self.offset = 0
        self.resumed = False
        self._place = place
        self._descriptor = descriptor
        self._fd = fd
        self._named = fd >= 0  # whether parts/ has it
        self._hash = digests.hasher(descriptor.digest)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Take the bytes from `offset` on. Raises Untrusted for more than the descriptor states, CtkError."""
        for piece in pieces:
            if self.offset + len(piece) > self._descriptor.size_bytes:
                self.drop()
                raise self._wrong(f"more than the {self._descriptor.size_bytes} bytes that its descriptor states came")
            try:
                atomic.write(self._fd, piece)
            except OSError as error:
                if error.errno in _FULL:
                    self.drop()  # so that others on this disk have room
                raise self._place.failed(error) from None
            self._hash.update(piece)
            self.offset += len(piece)

    def passing(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The whole blob for one who reads along: what there is, then `pieces` as `write` takes them.

        Raises as `write`.
        """
        at, end = 0, self.offset
        while at < end:
            try:
                piece = os.pread(self._fd, min(_READ_BYTES, end - at), at)
            except OSError as error:
                raise self._place.failed(error) from None
            at += len(piece)
            yield piece
        for piece in pieces:
            self.write((piece,))
            yield piece

    def restart(self) -> None:
        """Forget what has come, because it can't be gone on with. Raises CtkError."""
        self._keep(0)
        self._hash = digests.hasher(self._descriptor.digest)
        self.offset, self.resumed = 0, False

    def resume(self) -> None:
        """Hash what an earlier transfer has left, so that this one goes on behind it. Raises CtkError."""
        try:
            if os.fstat(self._fd).st_size > self._descriptor.size_bytes:
                self._keep(0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            while piece := os.read(self._fd, _READ_BYTES):
                self._hash.update(piece)
                self.offset += len(piece)
        except OSError as error:
            raise self._place.failed(error) from None
        self.resumed = self.offset > 0

    def check(self) -> None:
        """Whether what has come is the blob. Raises Untrusted: then nothing of it is kept, unless it was only short."""
        wanted = self._descriptor
        if self.offset != wanted.size_bytes:
            raise self._wrong(f"{self.offset} bytes came, and its descriptor states {wanted.size_bytes}")
        found = digests.text_of(wanted.digest, self._hash)
        if found != wanted.digest:
            self.drop()
            again = "; a part of it was from an earlier try, and is dropped now: try again" if self.resumed else ""
            raise self._wrong(f"its digest is {found}{again}")

    def finish(self) -> None:
        """Check it and give it its name. Raises Untrusted, as `check`."""
        self.check()
        digest = self._descriptor.digest
        try:
            os.fsync(self._fd)
            os.rename(self._place.part(digest), self._place.blob(digest))
        except OSError as error:
            raise self._place.failed(error) from None
        self.there, self._named = True, False

    def link(self, fd: int) -> None:
        """Give the blob's name to the file `fd`, which has been hashed, instead of what has come. Raises OSError."""
        new = f"{self._place.part(self._descriptor.digest)}{_LINK}"
        try:
            os.unlink(new)  # a killed one's: we hold the lock
        except FileNotFoundError:
            pass
        # Without a dir_fd Python calls link(2), which does not follow (bpo-37612); the path is absolute anyway.
        os.link(f"/proc/self/fd/{fd}", new, src_dir_fd=fd, follow_symlinks=True)
        os.rename(new, self._place.blob(self._descriptor.digest))
        self.drop()
        self.there = True

    def drop(self) -> None:
        """Remove what has come. No more can be taken then."""
        if not self._named:
            return  # another's may have the name by now
        self._named = False
        try:
            os.unlink(self._place.part(self._descriptor.digest))
        except OSError:
            pass

    def close(self) -> None:
        """Give up the lock; what has come stays for the next try, unless it is nothing."""
        if self._fd < 0:
            return
        if not self.offset:
            self.drop()
        os.close(self._fd)
        self._fd = -1

    def _keep(self, size_bytes: int) -> None:
        try:
            os.ftruncate(self._fd, size_bytes)
            os.lseek(self._fd, 0, os.SEEK_SET)
        except OSError as error:
            raise self._place.failed(error) from None

    def _wrong(self, because: str) -> Untrusted:
        return Untrusted(f"take the blob {self._descriptor.digest}", because=because)


class Blobs:
    """The blobs of a store."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def has(self, descriptor: Descriptor) -> bool:
        """Whether there is a blob of this digest and size. A small one is hashed; a large one is when it is read."""
        try:
            found = os.lstat(self._place.blob(descriptor.digest))
        except OSError:
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_size != descriptor.size_bytes:
            return False
        if found.st_size > fields.LIMIT_BYTES:
            return True
        try:
            os.close(self.open(descriptor, drop=False))
        except CtkError:
            return False
        return True

    def size(self, digest: str) -> int:
        """The size of the file of this blob in bytes; -1 if there is none."""
        try:
            return os.lstat(self._place.blob(digest)).st_size
        except OSError:
            return -1

    @contextmanager
    def receiving(self, descriptor: Descriptor, *, resume: bool = True, emit: Emit = silent) -> Iterator[Part]:
        """A blob's way in. It gets its name at the end of the block, and what was taken is checked then.

        Waits while another process fetches the same; afterwards it is `there`. Without `resume` it starts at 0. After
        an exception what has come is kept for the next try. Raises Untrusted, CtkError.
        """
        self._place.prepare()
        part = Part(self._place, descriptor, -1 if self.has(descriptor) else self._lock(descriptor, emit))
        try:
            if not part.there and self.has(descriptor):  # another has fetched it while we waited
                part.drop()
                part.there = True
            if not part.there:
                if resume:
                    part.resume()
                else:
                    part.restart()
            yield part
            if not part.there:
                part.finish()
        finally:
            part.close()

    def put(self, descriptor: Descriptor, pieces: Iterator[bytes]) -> None:
        """Take a whole blob from its first byte on, unless it is there. Raises Untrusted, CtkError."""
        with self.receiving(descriptor, resume=False) as part:
            if not part.there:
                part.write(pieces)

    def adopt(self, descriptor: Descriptor, fd: int) -> None:
        """Take a whole file of ours that nobody writes to any more, without a copy of its bytes where that can be.

        It is hashed through `fd`, and this very file gets the blob's name as one more (link(2)); on another file
        system its bytes are copied. Raises Untrusted, CtkError.
        """
        with self.receiving(descriptor, resume=False) as part:
            if part.there:
                return
            try:
                if (
                    os.fstat(fd).st_size == descriptor.size_bytes
                    and hash_of(fd, descriptor.digest) == descriptor.digest
                ):
                    part.link(fd)
                    return
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise self._place.failed(error) from None
            os.lseek(fd, 0, os.SEEK_SET)
            part.write(reading.pieces(fd))

    def open(self, descriptor: Descriptor, *, drop: bool = True) -> int:
        """A descriptor (at offset 0) of the blob, hashed just now through this very descriptor.

        Raises NotFound if it is not there, Untrusted if it is not what its name says. With `drop` it is removed then,
        so that the next pull fetches it again.
        """
        path = self._place.blob(descriptor.digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            raise self._place.missing(f"the blob {descriptor.digest}") from None
        try:
            found = os.fstat(fd)
            whole = stat.S_ISREG(found.st_mode) and found.st_size == descriptor.size_bytes
            if not whole or hash_of(fd, descriptor.digest) != descriptor.digest:
                if drop and is_at(fd, path):
                    os.unlink(path)
                because = "it is not what its digest says any more: the disk is at fault, or somebody has changed it"
                raise Untrusted(f"read {path!r}", because=because, hint="pull the image again, which fetches it anew")
            os.lseek(fd, 0, os.SEEK_SET)
        except OSError as error:
            os.close(fd)
            raise self._place.failed(error) from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextmanager
    def pieces(self, descriptor: Descriptor, start: int = 0) -> Iterator[Iterator[bytes]]:
        """The bytes of a blob from an offset on; `open` has hashed it just now. Raises NotFound, Untrusted."""
        with open(self.open(descriptor), "rb", buffering=0) as file:
            file.seek(start)
            yield iter(lambda: file.read(_READ_BYTES), b"")

    def document(self, digest: str) -> bytes:
        """The bytes of a manifest, index or configuration, verified. Raises NotFound, Untrusted, CtkError.

        A damaged one stays where it is: `has` says that it is not there, so the next pull replaces it.
        """
        try:
            size_bytes = os.lstat(self._place.blob(digest)).st_size
        except OSError:
            raise self._place.missing(f"the document {digest}") from None
        if size_bytes > fields.LIMIT_BYTES:
            because = f"it has {size_bytes} bytes, and {fields.LIMIT_BYTES} is the limit"
            raise CtkError(f"read the document {digest}", because=because)
        with open(self.open(Descriptor("", digest, size_bytes), drop=False), "rb") as file:
            return digests.verify(file.read(), digest, f"read the document {digest}")

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        """Digest and status of each file in the folders of blobs that has a digest's name."""
        for algorithm in ("sha256", "sha512"):
            try:
                with os.scandir(self._place.path("blobs", algorithm)) as entries:
                    found = [(f"{algorithm}:{entry.name}", entry.stat(follow_symlinks=False)) for entry in entries]
            except FileNotFoundError:
                continue
            yield from ((name, status) for name, status in sorted(found) if digests.is_digest(name))

    def _lock(self, descriptor: Descriptor, emit: Emit) -> int:
        path = self._place.part(descriptor.digest)
        try:
            fd = lock_file(path, wait=False)
            if fd is None:
                emit(Note(f"wait for another ctk, which fetches {descriptor.digest}"))
                fd = lock_file(path)
        except OSError as error:
            raise self._place.failed(error) from None
        assert fd is not None
        return fd


def hash_of(fd: int, digest: str) -> str:
    """The digest, of `digest`'s algorithm, of a whole file by its descriptor. Raises OSError."""
    state = digests.hasher(digest)
    buffer = bytearray(_READ_BYTES)
    view = memoryview(buffer)
    os.lseek(fd, 0, os.SEEK_SET)
    while count := os.readv(fd, [buffer]):
        state.update(view[:count])
    return digests.text_of(digest, state)
