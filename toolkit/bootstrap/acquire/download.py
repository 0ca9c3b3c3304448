"""Fetch the packages of a lock, and pass each one on as soon as it has been fetched and checked.

There are two kinds of threads. Fetchers wait for the network (or re-hash what the cache has); consumers, one per core,
unpack. The biggest packages go first, so that no big one is left for the end.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator

from toolkit.bootstrap.acquire.deb_folder import DebFolder
from toolkit.bootstrap.acquire.repacked import Repacked
from toolkit.bootstrap.facts.model import Lock, Package
from toolkit.errors import CtkError, NotFound, Unreachable
from toolkit.events import Emit, Progressed
from toolkit.fetch.cache import Cache
from toolkit.fetch.http import Client

# Connections to one mirror: browsers use six, apt one. More than eight was no faster on any connection tried, and some
# mirrors take it for an attack.
_MOST_FETCHERS = 8
# Each fetched package that waits for a core holds a descriptor; the usual limit of a process is 1024.
_WAITING = 64
_REPORT_EVERY_S = 0.05

Consume = Callable[[Package, int], None]


class _Stop(Exception):
    """Another thread has failed."""


class Download:
    """The packages of `lock`, fetched by `fetchers` threads and given to `consume(package, fd)` in `consumers` threads.

    `consume` must not keep the descriptor. `run` blocks until all is done. It raises the first error of any thread
    once all threads have stopped; KeyboardInterrupt and the like stop them too. `folder` is looked at after the cache,
    and every package is added to it. With `repacked`, `consume` may get the copy there in place of the cache's.
    """

    def __init__(
        self,
        client: Client,
        cache: Cache,
        lock: Lock,
        consume: Consume,
        emit: Emit,
        *,
        fetchers: int = 0,
        consumers: int = 0,
        folder: DebFolder | None = None,
        repacked: Repacked | None = None,
    ) -> None:
        self._client = client
        self._cache = cache
        self._repacked = repacked
        self._lock = lock
        self._consume = consume
        self._emit = emit
        self._folder = folder
        cores = len(os.sched_getaffinity(0))
        self._fetchers = min(fetchers or max(4, cores), _MOST_FETCHERS, max(1, len(lock.packages)))
        self._consumers = max(1, min(consumers or cores, len(lock.packages)))
        self._todo: queue.SimpleQueue[Package] = queue.SimpleQueue()
        self._landed: queue.Queue[tuple[Package, int] | None] = queue.Queue(_WAITING)
        self._state = threading.Lock()
        self._errors: list[BaseException] = []
        self._stopped = threading.Event()
        self._fetching = 0
        self.fetched_bytes = 0  # over the network
        self.cached_bytes = 0
        self._done_bytes = 0
        self.fetched_at = 0.0  # monotonic seconds when the last package had landed
        self._reported_s = 0.0
        self.total_bytes = sum(package.size_bytes for package in lock.packages)

    def run(self) -> None:
        self._cache.check_room((package.sha256, package.size_bytes) for package in self._lock.packages)
        for package in sorted(self._lock.packages, key=lambda one: (-one.size_bytes, one.name)):
            self._todo.put(package)
        self._fetching = self._fetchers
        threads = [self._thread("fetch", self._fetch_loop) for _ in range(self._fetchers)]
        threads += [self._thread("unpack", self._consume_loop) for _ in range(self._consumers)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop()
            # Consumers write into the target, so they must have stopped before the caller removes it. A fetcher may
            # wait for the network a while longer; it writes to the cache only.
            for thread in threads[self._fetchers :]:
                if thread.ident is not None:
                    thread.join()
            raise
        finally:
            self._drain()
        if self._errors:
            raise self._errors[0]

    def reopen(self, package: Package) -> int:
        """Open a package's .deb again, as the archive has it. Size and hash are checked."""
        fd = self._cache.open(package.sha256, package.size_bytes)
        if fd is None and self._folder is not None:
            fd = self._folder.open(package, self._cache)
        return self._fetch(package) if fd is None else fd

    def _thread(self, name: str, loop: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                loop()
            except _Stop:
                pass
            except BaseException as error:
                with self._state:
                    if not self._stopped.is_set():
                        self._errors.append(error)
                self._stop()

        return threading.Thread(target=run, name=name, daemon=True)

    def _stop(self) -> None:
        self._stopped.set()
        self._client.cancel()

    def _fetch_loop(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    package = self._todo.get_nowait()
                except queue.Empty:
                    return
                fd = self._open(package)
                try:
                    self._hand_on((package, fd))
                except BaseException:
                    os.close(fd)
                    raise
        finally:
            with self._state:
                self._fetching -= 1
                last = self._fetching == 0
            if last:
                self.fetched_at = time.monotonic()
                for _ in range(self._consumers):
                    self._hand_on(None)

    def _hand_on(self, item: tuple[Package, int] | None) -> None:
        while True:
            try:
                self._landed.put(item, timeout=0.2)
                return
            except queue.Full:
                if self._stopped.is_set():
                    raise _Stop from None

    def _consume_loop(self) -> None:
        while True:
            try:
                item = self._landed.get(timeout=0.2)
            except queue.Empty:
                if self._stopped.is_set():
                    return
                continue
            if item is None:
                return
            package, fd = item
            try:
                if self._stopped.is_set():
                    return
                self._consume(package, fd)
            finally:
                os.close(fd)

    def _open(self, package: Package) -> int:
        """A descriptor of the package's .deb. Size and hash are checked."""
        fd = self._repacked.open(package) if self._repacked else None
        if fd is None:
            fd = self._cache.open(package.sha256, package.size_bytes)
            if fd is not None and self._repacked:
                self._repacked.cached(package)
        if fd is None and self._folder is not None:
            fd = self._folder.open(package, self._cache)
        if fd is None:
            fd = self._fetch(package)
        else:
            self._report(package, package.size_bytes, cached=True)
        if self._folder is not None:
            try:
                self._folder.keep(package, fd)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def _fetch(self, package: Package) -> int:
        url = f"{self._lock.sources[package.source].mirror}/{quoted(package.filename)}"
        doing = f"check package {package.name!r} ({url})"
        reported = 0

        def passing(chunks: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal reported
            for chunk in chunks:
                reported += len(chunk)
                self._report(package, len(chunk))
                yield chunk

        def store(chunks: Iterator[bytes]) -> int:
            nonlocal reported
            if reported:
                self._report(package, -reported)  # take back what an earlier attempt has counted
                reported = 0
            return self._cache.store(passing(chunks), package.sha256, package.size_bytes, doing=doing)

        try:
            return self._client.receive(url, store, limit=package.size_bytes, exact=package.size_bytes)
        except NotFound as error:
            raise Unreachable(
                f"fetch package {package.name!r}",
                because=f"{url}: {error.because}",
                hint="the mirror may have been updated meanwhile: try again; or take another --mirror",
            ) from None
        except CtkError:
            if self._stopped.is_set():
                raise _Stop from None
            raise

    def _report(self, package: Package, count: int, *, cached: bool = False) -> None:
        with self._state:
            self._done_bytes += count
            if cached:
                self.cached_bytes += count
            else:
                self.fetched_bytes += count
            done = self._done_bytes
            now = time.monotonic()
            if now - self._reported_s < _REPORT_EVERY_S and done < self.total_bytes:
                return
            self._reported_s = now
        self._emit(Progressed("download", done, self.total_bytes, "bytes", package.name))

    def _drain(self) -> None:
        while True:
            try:
                item = self._landed.get_nowait()
            except queue.Empty:
                return
            if item is not None:
                os.close(item[1])


def quoted(filename: str) -> str:
    """A Filename as the path of a URL. `%` is quoted; `+` and `~` are not, because mirrors differ about %2B."""
    from urllib.parse import quote

    return quote(filename, safe="/+~:=@,!$&'()*;-._")
