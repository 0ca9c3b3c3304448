"""One file from one of several mirrors, whatever happens on the way: taken up where it broke off, on the next of them.

Only for files whose size and hash a signed index states: pieces of two mirrors are as good as those of one if the whole
is what was promised, and who hashes it finds out if not.
"""

import threading
import time
from collections.abc import Callable, Iterator

from toolkit.errors import Interrupted, Unreachable

# A mirror that gives less than this for so long is left for another one, where there is another one.
SLOW_BYTES_PER_S = 100_000
PATIENCE_S = 3.0
_PROGRESS_BYTES = 64 << 10  # less than this between two breaks is none: the server only drips
_MOST_BREAKS = 100  # of one file, however much arrives in between


class Broken(Exception):
    """The transfer broke off; worth another try. `args[0]` is the reason in plain words.

    What seconds will not cure (`lasting`) is worth one only.
    """

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting

    def tries_again(self, retries: int) -> int:
        """How often to try again, where `retries` is for what passes."""
        return min(retries, 1) if self.lasting else retries


class Slow(Broken):
    """It goes on, but so slowly that another mirror is to be tried."""


class Mirrors:
    """Base URLs that hold the same archive, and what each has been like so far. Any thread may ask."""

    def __init__(self) -> None:
        self._groups: list[tuple[str, ...]] = []
        self._trouble: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, bases: tuple[str, ...]) -> None:
        """These hold the same; the first is preferred."""
        self._groups.append(tuple(base.rstrip("/") for base in bases))

    def urls(self, url: str) -> list[str]:
        """Where the file of `url` is, those that gave the least trouble first."""
        for group in self._groups:
            base = next((one for one in group if url.startswith(one + "/")), "")
            if base:
                with self._lock:
                    ordered = sorted(group, key=lambda one: self._trouble.get(one, 0))
                return [one + url.removeprefix(base) for one in ordered]
        return [url]

    def blame(self, url: str) -> None:
        """The file of `url` did not come as it should."""
        for group in self._groups:
            for base in group:
                if url.startswith(base + "/"):
                    with self._lock:
                        self._trouble[base] = self._trouble.get(base, 0) + 1
                    return


# What reads from one URL: (url, first byte, bytes a second that are too few; 0 for none). Raises Broken, NotFound, …
Read = Callable[[str, int, int], Iterator[bytes]]


class Transfer:
    """The chunks of a file as one stream, from whatever mirrors; iterate once.

    Raises Unreachable when `retries` tries at each mirror in a row brought next to nothing, and what `read` raises when
    it isn't Broken. `at` is the URL that was read from last, `breaks` how often it was taken up again.
    """

    def __init__(
        self, urls: list[str], read: Read, mirrors: Mirrors, cancelled: threading.Event, retries: int, back_off_s: float
    ) -> None:
        self.at = urls[0]
        self.breaks = 0
        self._urls = urls
        self._read = read
        self._mirrors = mirrors
        self._cancelled = cancelled
        self._retries = retries
        self._back_off_s = back_off_s

    def __iter__(self) -> Iterator[bytes]:
        done = 0
        failures = 0  # in a row, with next to nothing in between
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
                # All of them are slow then: the line is.
                unhurried = unhurried or tried >= len(self._urls)
                reason = str(error)
                if isinstance(error, Slow):
                    failures = 0
            if failures > retries * len(self._urls) or self.breaks > _MOST_BREAKS:
                raise Unreachable(
                    f"fetch {self.at}",
                    because=f"{reason} (tried {tried} times)",
                    hint="check the network and proxy settings, or name another mirror with --mirror",
                )
            rounds = max(0, failures - 1) // len(self._urls)
            wait_s = self._back_off_s * 2**rounds if failures and tried % len(self._urls) == 0 else 0.0
            if self._cancelled.wait(wait_s):
                raise Interrupted(f"fetch {self.at}", because="interrupted")


class Pace:
    """How fast a transfer is, in windows of PATIENCE_S."""

    def __init__(self, least_bytes_per_s: int) -> None:
        self._least = least_bytes_per_s
        self._began = time.monotonic()
        self._bytes = 0

    def took(self, count: int) -> None:
        """Raise Slow at the end of a window with too little in it."""
        if not self._least:
            return
        self._bytes += count
        spent = time.monotonic() - self._began
        if spent < PATIENCE_S:
            return
        if self._bytes < spent * self._least:
            raise Slow(f"only {self._bytes / spent / 1000:.0f} kB a second")
        self._began, self._bytes = time.monotonic(), 0
