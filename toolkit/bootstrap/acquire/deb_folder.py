"""`--cache-dir`: a folder of .deb files under their usual names, like the caches of debootstrap and APT.

It is a second cache beside ctk's own. A package found in it is copied into ctk's cache and checked there; a package
missing from it is added.
"""

import os
import stat
from collections.abc import Iterator

from toolkit.bootstrap.facts.model import Package
from toolkit.errors import CtkError, NotFound, Untrusted, reason
from toolkit.fetch.cache import Cache, hash_of
from toolkit.kernel import atomic
from toolkit.text import quote


def deb_name(package: Package) -> str:
    """The file's name in APT's folder. The colon of an epoch is written %3a, as debootstrap and APT do."""
    return f"{package.name}_{package.version}_{package.architecture}.deb".replace(":", "%3a")


class DebFolder:
    """The folder `path`. Raises NotFound if it does not exist. Any thread may use it."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        if not os.path.isdir(self.path):
            raise NotFound(f"use --cache-dir {path!r}", because="there is no such folder", hint=f"mkdir {quote(path)}")

    def open(self, package: Package, cache: Cache) -> int | None:
        """Copy the package into `cache`, which checks it; return a descriptor of the copy, at offset 0.

        None if it isn't here or its hash differs. Raises CtkError if the cache can't be written.
        """
        fd = self._there(package)
        if fd is None:
            return None
        try:
            return cache.store(_chunks(fd), package.sha256, package.size_bytes, doing=f"read {self._name(package)!r}")
        except Untrusted:
            return None  # `keep` replaces it
        finally:
            os.close(fd)

    def keep(self, package: Package, deb: int) -> None:
        """Add the package, unless it is there; a file of that name with other contents is replaced. Raises CtkError."""
        fd = self._there(package)
        if fd is not None:
            try:
                if hash_of(fd) == package.sha256:
                    return
            finally:
                os.close(fd)
        path = self._name(package)
        try:
            with atomic.Writing(atomic.beside(path), mode=0o666) as new:
                for chunk in _chunks(deb):
                    atomic.write(new.fd, chunk)
                new.close()
                new.name(path)
        except OSError as error:
            raise CtkError(
                f"keep {deb_name(package)!r} in --cache-dir {self.path!r}",
                because=reason(error),
                hint="name a folder that you may write to, with room in it",
            ) from None

    def _name(self, package: Package) -> str:
        return os.path.join(self.path, deb_name(package))

    def _there(self, package: Package) -> int | None:
        """A descriptor of the file with the package's name and size; None without one."""
        try:
            fd = os.open(self._name(package), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        about = os.fstat(fd)
        if stat.S_ISREG(about.st_mode) and about.st_size == package.size_bytes:
            return fd
        os.close(fd)
        return None


def _chunks(fd: int) -> Iterator[bytes]:
    """Read the whole file. The offset of the descriptor does not change: other users share it."""
    position = 0
    while chunk := os.pread(fd, 1 << 20, position):
        position += len(chunk)
        yield chunk
