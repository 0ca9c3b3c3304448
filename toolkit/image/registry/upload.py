"""Uploads of blobs (distribution-spec 1.1, "Pushing blobs").

A small blob is kept in memory and sent whole, again if necessary; a medium one is streamed in one request; a large one
is sent in chunks, and resumed from the offset that the registry reports. A registry without chunks gets one request.
"""

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from toolkit.errors import CtkError, Interrupted, NotFound, Unreachable
from toolkit.fetch.response import Response, discard
from toolkit.fetch.transfer import Broken
from toolkit.image import digest as digests
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.endpoint import Aborted
from toolkit.image.registry import answers, origins
from toolkit.image.registry.connection import LONGEST_WAIT_S, Connection, Limits
from toolkit.image.registry.token import PUSH
from toolkit.text import number

if TYPE_CHECKING:
    import threading


CHUNK_BYTES = 5 << 20
"""What is held in memory, to be sent again. Amazon's registry accepts no smaller chunks than this."""

CHUNKED_BYTES = 64 << 20
"""Blobs of this size or more are sent in chunks. Each costs a request, and smaller blobs are soon sent again."""

# Google's registries take no chunks (Artifact Registry's documentation of Docker's API).
_NO_CHUNKS = (".pkg.dev", "gcr.io")
_MOST_CHUNK_BYTES = 32 << 20  # held in memory
_PATIENCE_S = 300.0  # a registry may hash or move all of a blob before it answers
_BINARY = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_AGAIN = "check the network; the same command sends it again"


class Body:
    """Pieces as the body of a request, with the length that they have together.

    `error` is the exception of whoever gives the pieces; the layers below would report it as a connection error.
    """

    def __init__(self, pieces: Iterable[bytes], size_bytes: int) -> None:
        self._pieces = pieces
        self._size_bytes = size_bytes
        self.error: Exception | None = None

    def __len__(self) -> int:
        return self._size_bytes

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except Exception as error:
            self.error = error
            raise


class Upload:
    """The upload of one blob. `put` is called once."""

    def __init__(
        self, connection: Connection, descriptor: Descriptor, limits: Limits, cancelled: "threading.Event"
    ) -> None:
        self._connection = connection
        self._descriptor = descriptor
        self._limits = limits
        self._cancelled = cancelled
        self._doing = f"push {descriptor.digest} to {connection.place}"
        self._location = ""
        self._least_chunk = 0

    def put(self, pieces: Iterable[bytes]) -> None:
        """Send the blob. Raises Untrusted (wrong digest or size; the last piece is not sent then), CtkError."""
        size = self._descriptor.size_bytes
        found = _all_but_the_last(digests.verified(pieces, self._descriptor.digest, size, self._doing))
        try:
            if size <= CHUNK_BYTES:
                self._whole(b"".join(found))
            elif size < CHUNKED_BYTES or self._connection.place.host.endswith(_NO_CHUNKS):
                self._begin()
                self._stream(found)
            else:
                self._in_chunks(found)
        except BaseException:
            self._abandon()
            raise

    def _whole(self, data: bytes) -> None:
        for attempt in itertools.count():
            try:
                self._begin()
                self._close(data)
                return
            except _Passing as error:
                if attempt >= self._limits.retries:
                    raise
                self._pause(attempt, error)

    def _stream(self, pieces: Iterable[bytes]) -> None:
        """All of the blob in one request, which can't be sent again here. Raises Aborted."""
        try:
            self._close(Body(pieces, self._descriptor.size_bytes))
        except _Passing as error:
            raise Aborted(self._doing, because=error.because, hint=_AGAIN) from None

    def _begin(self) -> None:
        """Open an upload session."""
        algorithm, _ = digests.split(self._descriptor.digest)
        query = "" if algorithm == "sha256" else "?" + urlencode({"digest-algorithm": algorithm})
        path = self._connection.path("blobs/uploads/") + query
        response = self._connection.request("POST", path, self._doing, actions=PUSH, headers={"Content-Length": "0"})
        if response.status_code != 202:
            raise self._connection.failure(response, self._doing)
        self._least_chunk = max(0, number(response.headers.get("OCI-Chunk-Min-Length", "")))
        self._follow(response)
        if not self._location:
            raise Unreachable(self._doing, because=f"{self._connection.place.host} did not say where to send it")

    def _follow(self, response: Response) -> None:
        """Note the session's new location, and discard the response."""
        discard(response)
        if location := response.headers.get("Location"):
            self._location = origins.target(response.url, location, self._doing)

    def _close(self, body: "bytes | Body") -> None:
        """Send the request that closes the session, with the whole blob or with no body. Raises _Passing."""
        joint = "&" if "?" in self._location else "?"
        url = self._location + joint + urlencode({"digest": self._descriptor.digest})
        headers = {**_BINARY, "Content-Length": str(len(body))}
        response = self._send("PUT", url, headers, body)
        if response.status_code in answers.PASSING:
            raise self._passing(response)
        if response.status_code not in (201, 204):
            raise self._connection.failure(response, self._doing)
        discard(response)
        self._location = ""

    def _send(self, method: str, url: str, headers: dict[str, str], body: "bytes | Body") -> Response:
        """One try. Raises _Passing if the connection fails."""
        try:
            return self._connection.request(
                method,
                url,
                self._doing,
                actions=PUSH,
                headers=headers,
                body=body,
                again=False,
                patience_s=_PATIENCE_S,
            )
        except (Broken, CtkError) as error:
            if isinstance(body, Body) and body.error is not None:
                raise body.error from None
            if isinstance(error, CtkError):
                raise
            raise _Passing(self._doing, because=f"{self._connection.place.host}: {error}", hint=_AGAIN) from None

    def _in_chunks(self, pieces: Iterator[bytes]) -> None:
        self._begin()
        if self._least_chunk > _MOST_CHUNK_BYTES:
            self._stream(pieces)
            return
        done = 0
        for chunk in _chunks(pieces, max(CHUNK_BYTES, self._least_chunk)):
            if self._cancelled.is_set():
                raise Interrupted(self._doing, because="interrupted")
            if not self._chunk(chunk, done):
                self._abandon()
                self._begin()
                self._stream(itertools.chain([chunk], pieces))
                return
            done += len(chunk)
            del chunk
        self._end()

    def _end(self) -> None:
        """Close a session of chunks, again if necessary: the response may be lost after the blob was stored."""
        for attempt in itertools.count():
            try:
                self._close(b"")
                return
            except _Passing as error:
                if attempt >= self._limits.retries:
                    raise
                self._pause(attempt, error)
            except NotFound:
                if attempt and self._is_there():
                    self._location = ""
                    return
                raise

    def _is_there(self) -> bool:
        path = self._connection.path(f"blobs/{self._descriptor.digest}")
        response = self._connection.request("HEAD", path, self._doing, actions=PUSH)
        discard(response)
        return response.status_code == 200

    def _chunk(self, chunk: bytes, start: int) -> bool:
        """Send a chunk that begins at `start`, resuming it if necessary; False if the registry accepts no chunks.

        Raises Unreachable.
        """
        at, end, failures = start, start + len(chunk), 0
        while at < end:
            before = at
            headers = {**_BINARY, "Content-Range": f"{at}-{end - 1}", "Content-Length": str(end - at)}
            passing: _Passing | None = None
            try:
                response = self._send("PATCH", self._location, headers, chunk[at - start :])
            except _Passing as error:
                passing = error
            else:
                status = response.status_code
                if status in (202, 201, 204):
                    self._follow(response)
                    stands = _stands(response)
                    at = end if stands is None else stands
                elif status in answers.PASSING or status == 416:
                    passing = self._passing(response)
                elif not start:
                    discard(response)
                    return False
                else:
                    raise self._connection.failure(response, self._doing)
            if passing is not None:
                if failures >= self._limits.retries:
                    raise passing
                self._pause(failures, passing)
                failures += 1
                at = self._where(start)
            if not start <= at <= end:
                raise Unreachable(self._doing, because=f"the registry has {at} bytes, and was sent {start} to {end}")
            if at > before:
                failures = 0
        return True

    def _where(self, start: int) -> int:
        """How many bytes the registry has; an expired session is restarted if nothing is lost by it."""
        response = self._connection.request("GET", self._location, self._doing, actions=PUSH)
        if response.status_code in (204, 202, 200):
            self._follow(response)
            stands = _stands(response)
            return start if stands is None else stands
        failure = self._connection.failure(response, self._doing)
        if start:
            raise Unreachable(self._doing, because=failure.because, hint=_AGAIN)
        self._begin()
        return 0

    def _passing(self, response: Response) -> "_Passing":
        failure = self._connection.failure(response, self._doing)
        return _Passing(self._doing, because=failure.because, hint=_AGAIN, wait_s=answers.wait_s(response.headers))

    def _pause(self, failures: int, error: "_Passing") -> None:
        """Wait before the next try, as long as the registry asks. Raises Interrupted; `error` if that is too long."""
        wait_s = self._limits.back_off_s * 2**failures if error.wait_s is None else error.wait_s
        if wait_s > LONGEST_WAIT_S:
            raise error
        if self._cancelled.wait(wait_s):
            raise Interrupted(self._doing, because="interrupted")

    def _abandon(self) -> None:
        """Cancel the session; if that fails, the registry will drop it later."""
        location, self._location = self._location, ""
        if location:
            with contextlib.suppress(CtkError, Broken):
                headers = {"Content-Length": "0"}
                request = self._connection.request
                discard(request("DELETE", location, self._doing, actions=PUSH, headers=headers, again=False))


class _Passing(Unreachable):
    """A failure that may be temporary. `wait_s` is how long the registry asks us to wait."""

    def __init__(self, doing: str, *, because: str, hint: str = "", wait_s: float | None = None) -> None:
        super().__init__(doing, because=because, hint=hint)
        self.wait_s = wait_s


def mount(connection: Connection, descriptor: Descriptor, source: str) -> bool:
    """Take a blob from the repository `source` of the same registry, without sending it. Raises CtkError.

    False if the registry does not support that, or does not allow us to.
    """
    doing = f"mount {descriptor.digest} from {source} to {connection.place}"
    query = urlencode({"mount": descriptor.digest, "from": source})
    path = connection.path("blobs/uploads/") + "?" + query
    more = f"repository:{source}:pull"
    try:
        response = connection.request("POST", path, doing, actions=PUSH, more=more, headers={"Content-Length": "0"})
    except Unreachable:
        return False
    discard(response)
    if response.status_code == 202 and "Location" in response.headers:
        # The registry has opened an upload session instead.
        with contextlib.suppress(CtkError, Broken):
            url = origins.target(response.url, response.headers["Location"], doing)
            discard(connection.request("DELETE", url, doing, actions=PUSH, again=False))
    return response.status_code == 201


def _stands(response: Response) -> int | None:
    """How many bytes a registry says that it has; None if it doesn't.

    docker-registry says 0-0 both for nothing and for one byte. It is taken for nothing: a byte too many gets a 416.
    """
    match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
    if match is None:
        return None
    return int(match[1]) + 1 if int(match[1]) else 0


def _chunks(pieces: Iterator[bytes], size_bytes: int) -> Iterator[bytes]:
    """The same bytes in pieces of at least `size_bytes`, but for the last."""
    held: list[bytes] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size_bytes:
            chunk = b"".join(held)
            held.clear()  # before the chunk is sent, so that memory holds one of them
            count = 0
            yield chunk
            del chunk
    if held:
        yield b"".join(held)


def _all_but_the_last(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, each after the next one has been read: so the last one comes after the whole was verified."""
    held = b""
    for piece in pieces:
        if held:
            yield held
        held = piece
    if held:
        yield held
