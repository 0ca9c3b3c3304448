"""The log of a held container's output: `output.log` in its record, one entry a line, two files at most.

    2026-01-31T10:00:00.123456789Z stdout F a whole line
    2026-01-31T10:00:01.5Z stdout P the beginning of a line, which the stream's next entry continues

It is the format of Kubernetes' container logs (CRI), so its tools can read it. The writer holds a lock on the file, by
which a reader knows that more may come. If output was lost for lack of space, an entry of stderr says how much.
"""

import os

from toolkit.errors import CtkError, reason
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.runtime.record import Record

FILE = "output.log"
OLDER = "output.log.1"
LIMIT_BYTES = 8 << 20
"""A file of this size is renamed to OLDER, and the previous OLDER is dropped, because records are on a tmpfs."""

STREAMS = {1: "stdout", 2: "stderr"}


def left_behind(root: str, container_id: str) -> str:
    """Where `restart` leaves the log for the new container: no id begins with a dot."""
    return f"{root}/.{container_id}.{FILE}"


def take_over(container: "Record") -> None:
    """Continue the log that `restart` left, if there is one."""
    try:
        os.rename(left_behind(container.root, container.id), f"{container.folder}/{FILE}")
    except OSError:
        pass


class Writer:
    """Appends to the log of a container; call `rotate` now and then."""

    def __init__(self, container: "Record") -> None:
        self.container = container
        self.fd = -1
        self.size = 0
        self._gap: "_Gap | None" = None  # the last entry of the file, if it reports missing output
        self._open()

    def _open(self) -> None:
        import fcntl

        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(f"{self.container.folder}/{FILE}", flags, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self.size = os.fstat(self.fd).st_size

    def write(self, stream: int, data: bytes) -> None:
        """Append output of stream 1 or 2. On a full disk output is lost, and the log says so; the container runs on."""
        head = f"{records.now()} {STREAMS[stream]} ".encode()
        lines = data.split(b"\n")
        last = lines.pop()
        text = b"".join([head + b"F " + line + b"\n" for line in lines])
        if last:
            text += head + b"P " + last + b"\n"
        before = self.size
        why = self._append(text)
        if not why:
            self._gap = None
            if self.size > LIMIT_BYTES:
                self._rotate()
            return
        # Complete entries stay, except within a gap: otherwise the gap would be reported again after each of them.
        kept = 0 if self._gap else text.rfind(b"\n", 0, self.size - before) + 1
        self._cut(before + kept)
        self._tell_missing(_payload_bytes(text[kept:]), why)

    def _append(self, text: bytes) -> str:
        """Write all of it; returns the reason if that failed, else "". The part that was written stays."""
        rest = memoryview(text)
        while rest:
            try:
                written = os.write(self.fd, rest)
            except OSError as error:
                return reason(error)
            self.size += written
            rest = rest[written:]
        return ""

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self.fd, size)
        except OSError:
            return
        self.size = size

    def _tell_missing(self, lost: int, why: str) -> None:
        """Write one entry for a gap, and update its count as it grows; if there is no space, drop older entries."""
        gap = self._gap or _Gap(self.size, records.now())
        self._gap = gap
        gap.bytes += lost
        for _ in range(2):
            # Always of the same length, so that a reader who follows the file never reads half of it.
            words = f"ctk: {gap.bytes} bytes of output are missing here: {why}"
            note = f"{gap.stamp} {STREAMS[2]} F {words:<100}\n".encode()
            self._cut(gap.at)
            if not self._append(note):
                return
            self._cut(gap.at)
            tail = os.pread(self.fd, 1 << 17, max(gap.at - (1 << 17), 0))
            dropped = tail[tail.rfind(b"\n", 0, max(len(tail) - len(note), 0)) + 1 :]
            gap.at -= len(dropped)
            gap.bytes += _payload_bytes(dropped)

    def _rotate(self) -> None:
        # Under the record's lock, so that no new file appears in the folder of a container that is being removed. If
        # another process holds it, don't wait: the file grows a little more instead.
        try:
            if not self.container.lock(wait=False):
                return
        except CtkError:
            return  # removed
        try:
            folder = self.container.folder
            try:
                os.rename(f"{folder}/{FILE}", f"{folder}/{OLDER}")
            except FileNotFoundError:
                pass  # already renamed the last time, when there was no room for a new file
            before = self.fd
            self._open()
            os.close(before)
        except OSError:
            pass
        finally:
            self.container.unlock()

    def close(self) -> None:
        """Close the file: readers then know that nothing more comes."""
        os.close(self.fd)


class _Gap:
    """Output that was lost: the place of its entry in the file, since when, and how much."""

    __slots__ = ("at", "bytes", "stamp")

    def __init__(self, at: int, stamp: str) -> None:
        self.at = at
        self.stamp = stamp
        self.bytes = 0


def _payload_bytes(text: bytes) -> int:
    """The size of the output in complete entries."""
    return sum([len(entry.data) for entry in parse(text.split(b"\n"))])


class Entry:
    """One entry: nanosecond stamp as text, stream (1 or 2), is the line whole, its bytes without the newline."""

    __slots__ = ("stamp", "stream", "text", "whole")

    def __init__(self, stamp: str, stream: int, whole: bool, text: bytes) -> None:
        self.stamp = stamp
        self.stream = stream
        self.whole = whole
        self.text = text

    @property
    def data(self) -> bytes:
        """The bytes that the container wrote."""
        return self.text + b"\n" if self.whole else self.text


def parse(lines: "list[bytes]") -> "Iterator[Entry]":
    """The entries in lines of the log; other lines (cut off by a full disk) are skipped. Pure."""
    for line in lines:
        words = line.split(b" ", 3)
        if len(words) == 4 and words[1] in (b"stdout", b"stderr") and words[2] in (b"F", b"P"):
            yield Entry(
                words[0].decode("ascii", "replace"), 1 if words[1] == b"stdout" else 2, words[2] == b"F", words[3]
            )


def being_written(fd: int) -> bool:
    """Whether a writer still has the file open."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
