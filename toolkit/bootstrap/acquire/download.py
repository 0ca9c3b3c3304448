"""Fetch a lock's packages, and hand every one on the moment it is there and checked.

Two kinds of threads: fetchers wait for the network (or re-hash what the cache has), consumers are the cores that
unpack. The biggest packages go first, so that none is left alone at the end.
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

# Connections to one mirror: browsers take six, apt one. More than eight gains nothing on any line tried and looks like
# an attack to some mirrors.
_MOST_FETCHERS = 8
# Fetched packages that wait for a core hold a descriptor each; the usual limit of a process is 1024.
_WAITING = 64
_TOLD_EVERY_S = 0.05

Consume = Callable[[Package, int], None]


class _Stop(Exception):
    """Another thread has failed."""


class Download:
    """The packages of `lock`, fetched by `fetchers` threads and given to `consume(package, fd)` in `consumers` threads.

    `consume` must not keep the descriptor. `run` blocks until all is done, and raises the first error of any thread
    after all threads have stopped; on KeyboardInterrupt and the like it stops them, too. `folder` is asked after the
    cache, and gets every package. With `repacked`, a package's copy there may come in the place of the cache's.
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
        self._told_s = 0.0
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
            # A consumer writes into the target: nobody may remove that before it has stopped. A fetcher may hang in
            # the network a while longer and touches nothing but the cache.
            for thread in threads[self._fetchers :]:
                if thread.ident is not None:
                    thread.join()
            raise
        finally:
            self._drain()
        if self._errors:
            raise self._errors[0]

    def reopen(self, package: Package) -> int:
        """A descriptor of a package's .deb as the archive has it, once more, its size and hash checked."""
        fd = self._cache.open(package.sha256, package.size_bytes)
        if fd is None and self._folder is not None:
            fd = self._folder.open(package, self._cache)
        return self._fetched(package) if fd is None else fd

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
                fd = self._one(package)
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

    def _one(self, package: Package) -> int:
        """A descriptor of the package's .deb, its size and hash checked."""
        fd = self._repacked.open(package) if self._repacked else None
        if fd is None:
            fd = self._cache.open(package.sha256, package.size_bytes)
            if fd is not None and self._repacked:
                self._repacked.cached(package)
        if fd is None and self._folder is not None:
            fd = self._folder.open(package, self._cache)
        if fd is None:
            fd = self._fetched(package)
        else:
            self._tell(package, package.size_bytes, cached=True)
        if self._folder is not None:
            try:
                self._folder.keep(package, fd)
            except BaseException:
                os.close(fd)
                raise
        return fd

    def _fetched(self, package: Package) -> int:
        url = f"{self._lock.sources[package.source].mirror}/{quoted(package.filename)}"
        doing = f"check package {package.name!r} ({url})"
        told = 0

        def passing(chunks: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal told
            for chunk in chunks:
                told += len(chunk)
                self._tell(package, len(chunk))
                yield chunk

        def store(chunks: Iterator[bytes]) -> int:
            nonlocal told
            if told:
                self._tell(package, -told)  # an earlier try came to nothing
                told = 0
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

    def _tell(self, package: Package, count: int, *, cached: bool = False) -> None:
        with self._state:
            self._done_bytes += count
            if cached:
                self.cached_bytes += count
            else:
                self.fetched_bytes += count
            done = self._done_bytes
            now = time.monotonic()
            if now - self._told_s < _TOLD_EVERY_S and done < self.total_bytes:
                return
            self._told_s = now
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
    """A Filename as a path of a URL: `+` and `~` as they are (mirrors differ in what they make of %2B), `%` not."""
    from urllib.parse import quote

    return quote(filename, safe="/+~:=@,!$&'()*;-._")
