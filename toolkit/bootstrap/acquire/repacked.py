"""zstd copies of cached packages, written at a package's second use.

Debian's packages are compressed with xz, which takes ten times as long to decompress as zstd (bookworm's minbase: 1.8 s
of processor time in place of 0.2, for a third more bytes). A copy is written while a package from the cache is
unpacked, that is, at its second use or later; a suite that is built once costs nothing extra.

    CACHE/files/ab/abcdef….zst    a .deb (deb(5)) whose last member, "_sha256", is the SHA-256 of all before it

The package was verified when its copy was written; the copy is hashed again before it is used, like a cached tree.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

from toolkit.bootstrap.facts.model import Package
from toolkit.deb.archive import Deb
from toolkit.fetch.cache import Cache, hash_of

KIND = "zst"
_LEVEL = 1  # level 3 is a tenth smaller and takes half as long again to write
_NAME = b"_sha256"  # deb(5): members whose names begin with "_" are ignored
_DIGEST_BYTES = 64
_TAIL_BYTES = 60 + _DIGEST_BYTES

Write = Callable[[bytes], object]


class Repacked:
    """The repacked packages of a cache, for one build. Thread-safe."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._cached: set[str] = set()

    def open(self, package: Package) -> int | None:
        """A descriptor of the package's copy, its hash checked; None without an intact copy."""
        path = f"{self._cache.path(package.sha256)}.{KIND}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, fd)
            end = os.fstat(fd).st_size - _TAIL_BYTES
            if end > 0 and os.pread(fd, _TAIL_BYTES, end) == _tail(hash_of(fd, end)):
                os.utime(fd)  # mark it as used: the least recently used are pruned first
                undo.pop_all()
                return fd
        with contextlib.suppress(OSError):
            os.unlink(path)
        return None

    def cached(self, package: Package) -> None:
        """Note that the package was in the cache before this build."""
        self._cached.add(package.sha256)

    @contextlib.contextmanager
    def writing(self, package: Package, deb: Deb) -> Iterator[Write | None]:
        """A function to write the blocks of the package's tar stream to; None if no copy is to be made.

        The copy is stored when the `with` block ends without an exception. Failing to write it is not an error.
        """
        if package.sha256 not in self._cached or not deb.slow:
            yield None
            return
        import zstandard

        with contextlib.ExitStack() as undo:
            try:
                new = undo.enter_context(self._cache.writing())
            except OSError:
                yield None
                return
            out = _Out(new.fd)
            machine = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
            head = deb.head()
            out.write(head + _member(b"data.tar.zst", 0))
            yield lambda block: out.write(machine.compress(block))
            out.write(machine.flush())
            size = out.size - len(head) - 60
            out.write(b"\n" * (size % 2))
            if not out.failed:
                os.pwrite(new.fd, _member(b"data.tar.zst", size), len(head))
                out.write(_tail(hash_of(new.fd)))
            if not out.failed:
                with contextlib.suppress(OSError):
                    new.name(f"{self._cache.path(package.sha256)}.{KIND}")


class _Out:
    """A file that ignores all writes after the first that fails."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = 0
        self.failed = False

    def write(self, data: bytes) -> None:
        while data and not self.failed:
            try:
                count = os.write(self._fd, data)
            except OSError:  # usually ENOSPC
                self.failed = True
                return
            self.size += count
            data = data[count:]


def _member(name: bytes, size: int) -> bytes:
    """A member header of ar(5)'s common format."""
    return b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", size)


def _tail(digest: str) -> bytes:
    return _member(_NAME, _DIGEST_BYTES) + digest.encode()
