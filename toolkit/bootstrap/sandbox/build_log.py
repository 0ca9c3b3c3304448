"""The log of what a build's programs print: a file of bounded size, whatever they print."""

import contextlib
import os

# The packages of a desktop print a few MiB. An error is usually explained at the end, so the end has room of its own.
HEAD_BYTES, TAIL_BYTES = 16 << 20, 1 << 20


class BuildLog:
    """Appends to `path`, which other logs of the same build may have started. The caller must close it.

    Output is written at once until the file has HEAD_BYTES. Of the rest, `close` writes the last TAIL_BYTES, after a
    line that says how many bytes were dropped. Raises OSError.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._room = max(0, HEAD_BYTES - os.fstat(self._fd).st_size)
        self._tail = bytearray()
        self._left_out = 0

    def write(self, data: bytes) -> None:
        now, later = data[: self._room], data[self._room :]
        self._room -= len(now)
        if now:
            os.write(self._fd, now)
        self._tail += later
        if len(self._tail) > 2 * TAIL_BYTES:
            self._cut()

    def close(self) -> None:
        self._cut()
        note = f"\n[ctk: {self._left_out} bytes are left out here]\n".encode() if self._left_out else b""
        with contextlib.suppress(OSError):  # a full disk, for example: the build's own error is the one to report
            os.write(self._fd, note + self._tail)
        os.close(self._fd)

    def _cut(self) -> None:
        over = max(0, len(self._tail) - TAIL_BYTES)
        self._left_out += over
        del self._tail[:over]
