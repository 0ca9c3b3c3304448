"""The store's folder, its lock, and the room on its disk.

    IMAGES/oci-layout, index.json, blobs/    an OCI image layout (image-spec 1.1, image-layout.md); index.json: names
    IMAGES/parts/ALGORITHM-HEX               what has come of a blob; who holds its flock(2) is fetching it
    IMAGES/layers/HEX.FORM/                  a laid-out layer, by the hex part of its diff id (layers.py)
    IMAGES/making/                           layers being laid out, and trees being removed
    IMAGES/leases/                           what is in use, and by whom (leases.py)
    IMAGES/builds/KEY                        which layer a step of a build has made (builds.py)
    IMAGES/lock                              flock(2)

The lock is held shared to say that something is in use, exclusive to change a name or to remove anything; each for
moments. Fetching and laying out don't hold it.

All of it is 0700: a layer holds setuid files, which a user of the host could run otherwise (CVE-2021-41091).
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from toolkit import places
from toolkit.errors import CtkError, NotFound, reason
from toolkit.image import digest as digests
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layout import index_json
from toolkit.kernel import atomic, ours

BLOBS, PARTS, LAYERS, MAKING, LEASES, BUILDS = "blobs", "parts", "layers", "making", "leases", "builds"
_LOCK = "lock"
_FOLDERS = (BLOBS, f"{BLOBS}/sha256", f"{BLOBS}/sha512", PARTS, LAYERS, MAKING, LEASES, BUILDS)
_SLACK_BYTES = 16 << 20  # a disk is not filled to its last block


class Place:
    """The folder of a store. It is made when something is first written to it; reading makes nothing."""

    def __init__(self, folder: str = "") -> None:
        self.folder = os.path.abspath(folder or places.image_store())
        self._ready = False

    def path(self, *words: str) -> str:
        """A path in the store."""
        return os.path.join(self.folder, *words)

    def blob(self, digest: str) -> str:
        """Where the blob of this digest is, or would be."""
        algorithm, encoded = digests.split(digest)
        return self.path(BLOBS, algorithm, encoded)

    def part(self, digest: str) -> str:
        """Where it is while it comes."""
        return self.path(PARTS, digest.replace(":", "-"))

    def prepare(self) -> None:
        """Make the store, if it is not there. Raises CtkError if it can't be, or if somebody else may write to it."""
        if self._ready:
            return
        hint = "CTK_IMAGES names another folder"
        try:
            fd = ours.open_folder(self.folder, f"use the image store {self.folder!r}", make=True, hint=hint)
            try:
                here = f"/proc/self/fd/{fd}"
                if os.fstat(fd).st_uid == os.geteuid() and os.fstat(fd).st_mode & 0o077:
                    os.chmod(here, 0o700)
                for name in _FOLDERS:
                    if not os.path.isdir(f"{here}/{name}"):
                        ours.make_private(f"{here}/{name}")
                self._make_layout(here)
            finally:
                os.close(fd)
        except OSError as error:
            raise self.failed(error) from None
        self._ready = True

    def _make_layout(self, here: str) -> None:
        """The files of an empty layout. Raises OSError."""
        wanted = {index_json.FILE: index_json.write([]), index_json.MARKER: index_json.MARKER_BYTES}
        if all(os.path.lexists(f"{here}/{name}") for name in wanted):
            return
        with _flock(f"{here}/{_LOCK}", fcntl.LOCK_EX):  # half-written files of who has no lock are removed
            for name, data in wanted.items():
                if not os.path.lexists(f"{here}/{name}"):
                    atomic.create(f"{here}/{name}", data)

    @property
    def exists(self) -> bool:
        """Whether there is a store."""
        return os.path.isfile(self.path(index_json.FILE))

    def check_room(self, wanted: Iterable[Descriptor], *, laid_out_bytes: int = 0) -> None:
        """Raise CtkError if the disk has clearly too little room for those blobs that are not here, and for layers."""
        self.prepare()
        missing = {one.digest: one.size_bytes for one in wanted if not os.path.exists(self.blob(one.digest))}
        come = 0
        for digest in missing:
            try:
                come += os.stat(self.part(digest)).st_size
            except OSError:
                pass
        needed = sum(missing.values()) - come + laid_out_bytes
        try:
            about = os.statvfs(self.folder)
        except OSError as error:
            raise self.failed(error) from None
        free = about.f_bavail * about.f_frsize
        slack = min(_SLACK_BYTES, about.f_blocks * about.f_frsize // 50)
        if needed > 0 and needed + slack > free:
            raise CtkError(
                f"write to the image store {self.folder!r}",
                because=f"no space left on device: {_mib(needed)} are needed, {_mib(free)} are free",
                hint="`ctk image prune --all` makes room, or name another folder with CTK_IMAGES",
            )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While something is marked as in use: nothing is removed meanwhile. Raises CtkError."""
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While names are changed or things removed: nobody else does either. Raises CtkError."""
        with self._locked(fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self.prepare()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_flock(self.path(_LOCK), how))
            except OSError as error:
                raise self.failed(error) from None
            yield

    def failed(self, error: OSError) -> CtkError:
        """What to raise for an error of the system's while the store was written."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = f"{'`ctk image prune --all` makes room, or ' if full else ''}name another folder with CTK_IMAGES"
        return CtkError(f"write to the image store {self.folder!r}", because=reason(error), hint=hint)

    def missing(self, what: str) -> NotFound:
        """What to raise where something is not in the store."""
        return NotFound(f"find {what}", because="it is not in the store", hint="`ctk images` lists what is")


@contextmanager
def _flock(path: str, how: int) -> Iterator[None]:
    """Hold flock(2) on a file, which is made if it is not there. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def lock_file(path: str, *, wait: bool = True) -> int | None:
    """A descriptor of the file at `path`, which is made if it is not there, with its flock(2) held exclusively.

    Who held it before may have renamed or removed the file meanwhile: so this is the one that has the name now.
    None if another holds it, unless `wait`. Raises OSError.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def is_at(fd: int, path: str) -> bool:
    """Whether `path` is still the file that `fd` is open on. Raises OSError."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _mib(size_bytes: int) -> str:
    return f"{-(-size_bytes >> 20)} MiB"
