"""Process the segments of a stream on several cores, in order, with a bounded number of them in memory."""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
U = TypeVar("U")

# zstd's own default. A minbase (121 MB): -1 49 MB, 0.38 s of processor time; -3 42 MB, 0.53 s (docs/performance.md).
LEVEL = 3


def side_by_side(work: Callable[[T], U], items: Iterable[T], threads: int = 0) -> Iterator[U]:
    """`work(item)` of every item, in order, with one thread a core; at most twice that many results are waiting."""
    from concurrent.futures import ThreadPoolExecutor  # it brings logging with it, which `ahead` does without

    threads = threads or len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="archive")
    pending: deque[Future[U]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def zstd(segments: Iterable[bytes], threads: int = 0) -> Iterator[bytes]:
    """Each segment as a zstd frame of its own (RFC 8878); any reader takes consecutive frames for one stream.

    The frames depend on the segments only, not on the number of threads.
    """
    return side_by_side(zstd_frame, segments, threads)


def zstd_frame(segment: bytes) -> bytes:
    """One frame that holds its size and checksum. Each call has its own context: threads must not share one."""
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(segment)


def gzip(segments: Iterable[bytes], threads: int = 0) -> Iterator[bytes]:
    """Each segment as a gzip member (RFC 1952) without name and time; readers take several for one stream."""
    return side_by_side(_gzip_member, segments, threads)


def _gzip_member(segment: bytes) -> bytes:
    import zlib

    machine = zlib.compressobj(6, zlib.DEFLATED, 31)
    return machine.compress(segment) + machine.flush()


def _bz2_stream(segment: bytes) -> bytes:
    import bz2

    return bz2.compress(segment)


def _xz_stream(segment: bytes) -> bytes:
    import lzma

    return lzma.compress(segment)


_BY_ENDING = {
    ".gz": _gzip_member, ".tgz": _gzip_member, ".bz2": _bz2_stream, ".tbz2": _bz2_stream, ".xz": _xz_stream,
    ".txz": _xz_stream, ".zst": zstd_frame, ".tzst": zstd_frame,
}  # fmt: skip


def by_ending(path: str, segments: Iterable[bytes]) -> Iterable[bytes]:
    """Each segment compressed as the ending of the file's name says; as it is for any other name."""
    work = _BY_ENDING.get(os.path.splitext(path)[1])
    return segments if work is None else side_by_side(work, segments)


def ahead(items: Iterable[T], depth: int = 4) -> Generator[T, None, None]:
    """The same items, produced by another thread, up to `depth` of them ahead."""
    line: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[bool, T | BaseException | None]) -> None:
        while not stop.is_set():
            try:
                line.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put((True, item))
                if stop.is_set():
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=produce, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = line.get()
            if not more:
                if isinstance(item, BaseException):
                    raise item
                return
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()
