"""Packages of the cache with their files compressed by zstd, for the builds after the next.

Debian's packages are compressed with xz, which takes ten times as long to undo as zstd (bookworm's minbase: 1.8 s of
processor time in place of 0.2, for a third more bytes). The copy is written while a package of the cache is unpacked:
that is its second use at least, so who builds a suite once pays nothing.

    CACHE/files/ab/abcdef….zst    a package as deb(5) has it, with a last member "_sha256": the SHA-256 of all before it

It stands for what was verified when it was written, and is hashed again before it is used, as the cached trees are.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

from toolkit.bootstrap.facts.model import Package
from toolkit.deb.archive import Deb
from toolkit.fetch.cache import Cache, hash_of

KIND = "zst"
_LEVEL = 1  # 3 is a tenth smaller and takes half as long again to write
_NAME = b"_sha256"  # deb(5): members whose names begin with "_" are ignored
_DIGEST_BYTES = 64
_TAIL_BYTES = 60 + _DIGEST_BYTES

Write = Callable[[bytes], object]


class Repacked:
    """The repacked packages of one cache, for one build. Any thread may call."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._cached: set[str] = set()

    def open(self, package: Package) -> int | None:
        """A descriptor of the package's copy, hashed just now; None if there is none that is whole."""
        path = f"{self._cache.path(package.sha256)}.{KIND}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, fd)
            end = os.fstat(fd).st_size - _TAIL_BYTES
            if end > 0 and os.pread(fd, _TAIL_BYTES, end) == _tail(hash_of(fd, end)):
                os.utime(fd)  # used now: the longest unused are pruned first
                undo.pop_all()
                return fd
        with contextlib.suppress(OSError):
            os.unlink(path)
        return None

    def cached(self, package: Package) -> None:
        """Note that the package lay in the cache before this build."""
        self._cached.add(package.sha256)

    @contextlib.contextmanager
    def writing(self, package: Package, deb: Deb) -> Iterator[Write | None]:
        """What takes the blocks of the package's tar stream, to be kept when the block ends well; None for no copy.

        A copy that can't be written is no error.
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
    """A file that is written to until that fails; then it takes anything."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = 0
        self.failed = False

    def write(self, data: bytes) -> None:
        while data and not self.failed:
            try:
                count = os.write(self._fd, data)
            except OSError:  # no space, most often
                self.failed = True
                return
            self.size += count
            data = data[count:]


def _member(name: bytes, size: int) -> bytes:
    """A header of ar(5)'s common format."""
    return b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", size)


def _tail(digest: str) -> bytes:
    return _member(_NAME, _DIGEST_BYTES) + digest.encode()
