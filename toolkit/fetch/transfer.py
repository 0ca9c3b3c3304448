"""Transfer one file from several mirrors: an aborted transfer is resumed from the next mirror.

Only for files whose size and hash a signed index states: then the file may be pieced together from two mirrors, because
the caller's check of the hash finds any mismatch.
"""

import threading
import time
from collections.abc import Callable, Iterator

from toolkit.errors import Interrupted, Unreachable

# A mirror slower than this for PATIENCE_S is left for another one, if there is another one.
SLOW_BYTES_PER_S = 100_000
PATIENCE_S = 3.0
_PROGRESS_BYTES = 64 << 10  # less than this between two breaks counts as no progress
_ANOTHER_MIRROR = "check the network and proxy settings, or name another mirror with --mirror"
_MOST_BREAKS = 100  # for one file, however much arrives in between


class Broken(Exception):
    """The transfer was aborted; worth another try. `args[0]` is the reason in plain words.

    If the cause will not go away in seconds (`lasting`), only one more try is worth it.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting

    def tries_again(self, retries: int) -> int:
        """How often to try again; `retries` is the number for transient causes."""
        return min(retries, 1) if self.lasting else retries


def plain(error: BaseException) -> str:
    """The innermost reason of a system's, requests' or urllib3's error, without their object addresses."""
    seen: BaseException = error
    for _ in range(8):
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in seen.args if isinstance(arg, BaseException)), None)
        if inner is None or inner is seen:
            break
        seen = inner
    text = getattr(seen, "strerror", None) or str(seen)
    # urllib3 wraps the system's reason in text of its own: "<…>: Failed to …: [Errno 111] Connection refused".
    for lead in ("] ", ">: "):
        if lead in text:
            text = text.rpartition(lead)[2]
    return text.partition(" (_ssl.c:")[0].strip(" .)").lower() or type(seen).__name__


class Slow(Broken):
    """The transfer works, but so slowly that another mirror should be tried."""


class Mirrors:
    """Base URLs of mirrors of the same archive, and their failures so far. Usable from any thread."""

    def __init__(self) -> None:
        self._groups: list[tuple[str, ...]] = []
        self._trouble: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, bases: tuple[str, ...]) -> None:
        """Add mirrors of the same archive; the first is preferred."""
        self._groups.append(tuple(base.rstrip("/") for base in bases))

    def urls(self, url: str) -> list[str]:
        """The file's URLs on all mirrors, those with the fewest failures first."""
        for group in self._groups:
            base = next((one for one in group if url.startswith(one + "/")), "")
            if base:
                with self._lock:
                    ordered = sorted(group, key=lambda one: self._trouble.get(one, 0))
                return [one + url.removeprefix(base) for one in ordered]
        return [url]

    def blame(self, url: str) -> None:
        """Count a failure for the mirror of `url`."""
        for group in self._groups:
            for base in group:
                if url.startswith(base + "/"):
                    with self._lock:
                        self._trouble[base] = self._trouble.get(base, 0) + 1
                    return


# A function that reads from one URL: (url, first byte, least bytes a second; 0: no limit). Raises Broken, NotFound, …
Read = Callable[[str, int, int], Iterator[bytes]]


class Transfer:
    """The chunks of a file as one stream, from any of its mirrors; iterate once.

    Raises Unreachable if `retries` tries at each mirror in a row made almost no progress, and whatever `read` raises
    apart from Broken. `at` is the URL that was read from last, `breaks` how often the transfer was resumed.
    """

    def __init__(
        self,
        urls: list[str],
        read: Read,
        mirrors: Mirrors,
        cancelled: threading.Event,
        retries: int,
        back_off_s: float,
        *,
        doing: str = "",
        hint: str = _ANOTHER_MIRROR,
    ) -> None:
        self.at = urls[0]
        self.breaks = 0
        self._urls = urls
        self._read = read
        self._mirrors = mirrors
        self._cancelled = cancelled
        self._retries = retries
        self._back_off_s = back_off_s
        self._doing = doing
        self._hint = hint

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        failures = 0  # in a row, with almost no progress in between
        unhurried = len(self._urls) < 2
        tried = 0
        while True:
            self.at = self._urls[tried % len(self._urls)]
            before = done
            try:
                for chunk in self._read(self.at, done, 0 if unhurried else SLOW_BYTES_PER_S):
                    done += len(chunk)
                    yield chunk
                return
            except Broken as error:
                retries = error.tries_again(self._retries)
                self._mirrors.blame(self.at)
                self.breaks += 1
                tried += 1
                failures = 1 if done - before >= _PROGRESS_BYTES else failures + 1
                # All mirrors are slow then, so it is our own connection.
                unhurried = unhurried or tried >= len(self._urls)
                reason = str(error)
                if isinstance(error, Slow):
                    failures = 0
            if failures > retries * len(self._urls) or self.breaks > _MOST_BREAKS:
                doing = self._doing or f"fetch {self.at}"
                raise Unreachable(doing, because=f"{reason} (tried {tried} times)", hint=self._hint)
            rounds = max(0, failures - 1) // len(self._urls)
            wait_s = self._back_off_s * 2**rounds if failures and tried % len(self._urls) == 0 else 0.0
            if self._cancelled.wait(wait_s):
                raise Interrupted(self._doing or f"fetch {self.at}", because="interrupted")


class Pace:
    """The speed of a transfer, measured in windows of PATIENCE_S."""

    def __init__(self, least_bytes_per_s: int) -> None:
        self._least = least_bytes_per_s
        self._began = time.monotonic()
        self._bytes = 0

    def took(self, count: int) -> None:
        """Count `count` bytes. Raises Slow at the end of a window in which too few came."""
        if not self._least:
            return
        self._bytes += count
        spent = time.monotonic() - self._began
        if spent < PATIENCE_S:
            return
        if self._bytes < spent * self._least:
            raise Slow(f"only {self._bytes / spent / 1000:.0f} kB a second")
        self._began, self._bytes = time.monotonic(), 0
