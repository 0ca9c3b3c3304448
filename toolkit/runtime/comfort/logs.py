"""`ctk logs`: show the output of a held container, and follow it."""

import os
import time

from toolkit.errors import NotFound, Usage
from toolkit.runtime import argv
from toolkit.runtime import record as records
from toolkit.runtime.comfort import ending, journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.runtime.comfort.journal import Entry
    from toolkit.runtime.record import Record

_PAUSE_S = 0.1


def show(
    root: str, container_id: str, *, follow: bool = False, since: str = "", tail: int = -1, timestamps: bool = False
) -> None:
    """Write the log to our own standard output and error, as the container did.

    `since`: a time (RFC 3339, seconds since 1970) or how long ago ("10m"); `tail`: the number of lines, -1 for all;
    `follow`: until the container ends. Raises NotFound, Usage.
    """
    container = records.load(root, container_id)
    first = _stamp(moment(since)) if since else ""
    try:
        current = _open(container, journal.FILE)
    except FileNotFoundError:
        raise NotFound(
            f"show the log of {container_id!r}",
            because="its output is not logged",
            hint="only `ctk run --detach --hold` (or --detach on a terminal) logs it; engines have logs of their own",
        ) from None
    lines = _older(container) + _Lines(current).now()
    entries = [entry for entry in journal.parse(lines) if _sortable(entry.stamp) >= first]
    _print(_last(entries, tail) if tail >= 0 else entries, timestamps)
    if follow:
        for more in _following(container, current):
            _print(more, timestamps)
    os.close(current)
    found = ending.kept(container)
    if found is not None and os.isatty(2):
        ending.tell(found)


def _open(container: "Record", name: str) -> int:
    return os.open(f"{container.folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _older(container: "Record") -> "list[bytes]":
    try:
        fd = _open(container, journal.OLDER)
    except FileNotFoundError:
        return []
    try:
        return _Lines(fd).now()
    finally:
        os.close(fd)


class _Lines:
    """The complete lines of a growing file, as they arrive."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.rest = b""

    def now(self) -> "list[bytes]":
        """The lines that have arrived since the last call."""
        parts = [self.rest]
        while part := os.read(self.fd, 1 << 20):
            parts.append(part)
        lines = b"".join(parts).split(b"\n")
        self.rest = lines.pop()
        return lines


def _following(container: "Record", current: int) -> "Iterator[list[Entry]]":
    """Further entries, until there is no writer any more."""
    lines = _Lines(os.dup(current))
    while True:
        # In this order, so that what is written before the lock is released is still read.
        more = journal.being_written(lines.fd)
        if found := lines.now():
            yield list(journal.parse(found))
        if not more:
            try:
                newer = _open(container, journal.FILE)
            except FileNotFoundError:
                return  # removed
            if os.path.samestat(os.fstat(newer), os.fstat(lines.fd)):
                os.close(newer)
                return
            os.close(lines.fd)
            lines = _Lines(newer)  # the file was rotated
            continue
        time.sleep(_PAUSE_S)


def _last(entries: "list[Entry]", count: int) -> "list[Entry]":
    """The entries of the last `count` lines; a line may have several."""
    for at in range(len(entries) - 1, -1, -1):
        if entries[at].whole or at == len(entries) - 1:
            count -= 1
            if count < 0:
                return entries[at + 1 :]
    return entries


def _print(entries: "list[Entry]", timestamps: bool) -> None:
    for entry in entries:
        head = f"{entry.stamp} ".encode() if timestamps else b""
        _write(entry.stream, head + entry.data)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def moment(text: str, now_ns: int = -1) -> int:
    """Nanoseconds since 1970 of a time: "2026-01-31T10:00:00Z" (or a part from the left), "1769853600", "10m" ago."""
    now_ns = time.time_ns() if now_ns < 0 else now_ns
    if text.replace(".", "", 1).isdigit():
        return int(float(text) * 1e9)
    try:
        return now_ns - int(argv.seconds(text) * 1e9)
    except ValueError:
        pass
    # Imported only when needed.
    from datetime import datetime

    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9)
    except ValueError:
        hint = "write it as 2026-01-31T10:00:00Z, 2026-01-31, 1769853600, or 10m for ten minutes ago"
        raise Usage(f"read the time {text!r}", because="it is not a time", hint=hint) from None


def _stamp(nanoseconds: int) -> str:
    return _sortable(records._stamp(nanoseconds))


def _sortable(stamp: str) -> str:
    """A stamp with all nine digits of its fraction, so that the text sorts by time."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}"
