"""Copy an image from any source to any destination.

Nothing is changed on the way: the bytes of every manifest and blob are those of the source, so that the digest is the
same in both places. What the destination has is not moved again. Blobs come side by side, the largest first.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping

from toolkit.errors import Interrupted
from toolkit.events import Emit, Finished, Progressed, Started
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Aborted, Destination, Source
from toolkit.image.store.store import StoreDestination
from toolkit.image.transfer.tree import Tree, missing

JOBS = 3
STAGE = "blobs"


_TRIES = 3
_BACK_OFF_S = 0.5


class Progress:
    """Counts the bytes of all threads, and says so ten times a second at most."""

    def __init__(self, stage: str, total_bytes: int, emit: Emit) -> None:
        self._stage, self._total, self._emit = stage, total_bytes, emit
        self._lock = threading.Lock()
        self._done = 0
        self._said = 0.0

    def counted(self, pieces: Iterator[bytes], item: str) -> Iterator[bytes]:
        """The same pieces, counted as they pass."""
        for piece in pieces:
            yield piece
            self.add(len(piece), item)

    def add(self, size_bytes: int, item: str) -> None:
        """So many bytes more."""
        with self._lock:
            self._done += size_bytes
            now = time.monotonic()
            if now - self._said < 0.1 and self._done < self._total:
                return
            self._said = now
            done = self._done
        self._emit(Progressed(self._stage, done, self._total, "bytes", item))


def copy(
    source: Source,
    destination: Destination,
    tree: Tree,
    name: str,
    emit: Emit,
    *,
    jobs: int = JOBS,
    cancelled: threading.Event | None = None,
    mount: Callable[[Descriptor], bool] | None = None,
    has: Callable[[Descriptor], bool] | None = None,
    take: Callable[[Descriptor, Progress], None] | None = None,
    tags: Mapping[str, str] | None = None,
) -> int:
    """Move what is missing of `tree`; the number of bytes that were moved.

    `name` is what its top is called at the destination, `tags` what others of its documents are, by their digests.
    `mount` may have a blob there without moving it (a registry has it in another repository), and says whether it did.
    `has` and `take` are for a destination that wants more of a blob than `Destination` says: whether it has all that,
    and how it gets it. `cancelled` is set when the copy fails. Raises what source and destination raise; then the
    destination has no new name of the image, and what it was sent whole it may keep.
    """
    began = time.monotonic()
    blobs = tree.blobs
    wanted = missing(blobs, map(has or destination.has, blobs))
    if mount is not None:
        wanted = [blob for blob in wanted if not mount(blob)]
    total = sum(blob.size_bytes for blob in wanted)
    emit(Started(STAGE, total, "bytes"))
    progress = Progress(STAGE, total, emit)
    stop = cancelled or threading.Event()

    def move(blob: Descriptor) -> None:
        if stop.is_set():
            raise Interrupted(f"copy {blob.digest}", because="interrupted")
        if take is not None:
            take(blob, progress)
        elif isinstance(destination, StoreDestination):
            into_store(source, destination, blob, progress)
        else:
            _put(source, destination, blob, progress, stop)

    side_by_side(move, wanted, jobs, stop)
    what = f"{len(wanted)} of {len(blobs)} blobs" if wanted else "all there already"
    emit(Finished(STAGE, time.monotonic() - began, what, skipped=not wanted))
    for raw, _ in tree.documents[:-1]:
        destination.put_manifest(raw, (tags or {}).get(raw.digest, ""))
    destination.put_manifest(tree.top, name)
    destination.commit()
    return total


def _put(source: Source, destination: Destination, blob: Descriptor, progress: Progress, stop: threading.Event) -> None:
    """Move a blob, again from its first piece if the transfer broke off."""
    counted = 0
    for attempt in range(_TRIES):
        done = 0

        def once(pieces: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal counted, done
            for piece in pieces:
                yield piece
                done += len(piece)
                if done > counted:  # the first try's bytes count once
                    progress.add(done - counted, short(blob.digest))
                    counted = done

        try:
            with source.blob(blob) as pieces:
                destination.put_blob(blob, once(pieces))
            return
        except Aborted:
            if attempt == _TRIES - 1 or stop.wait(_BACK_OFF_S * 2**attempt):
                raise


def into_store(source: Source, store: StoreDestination, blob: Descriptor, progress: Progress) -> None:
    """Move a blob into the store, going on behind what an earlier try has left there."""
    with store.receiving(blob) as part:
        if part.there:
            progress.add(blob.size_bytes, short(blob.digest))
            return
        progress.add(part.offset, short(blob.digest))
        with source.blob(blob, part.offset) as pieces:
            part.write(progress.counted(pieces, short(blob.digest)))


def side_by_side(work: Callable[[Descriptor], None], blobs: list[Descriptor], jobs: int, stop: threading.Event) -> None:
    """Call `work` for each, `jobs` at once. The first error, or a Ctrl-C, stops the others and is raised."""
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    pool = ThreadPoolExecutor(max(1, min(jobs, len(blobs) or 1)), thread_name_prefix="blob")
    try:
        futures = [pool.submit(work, blob) for blob in blobs]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        failed = [future for future in done if future.exception() is not None]
        if failed:
            stop.set()
            # Those that were interrupted by this are not what is to be reported.
            errors = [future.exception() for future in futures if future.done() or not future.cancel()]
            first = next((one for one in errors if one is not None and not isinstance(one, Interrupted)), None)
            raise first or failed[0].exception() or AssertionError("unreachable")
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def short(digest: str) -> str:
    """The first twelve digits of a digest, as everybody shows it."""
    return digest.partition(":")[2][:12]
