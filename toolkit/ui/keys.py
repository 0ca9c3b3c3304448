"""Reads single keys from a terminal, without Enter and without echo. Ctrl-C works as usual."""

import os
import select
import termios
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO


class Keys:
    """A context in which the terminal `stream` gives each key at once. Keys typed before it are dropped.

    If `stream` is not a terminal, or `wanted` is False, nothing is changed and no key ever comes.
    """

    def __init__(self, stream: "TextIO", wanted: bool = True) -> None:
        self._fd = stream.fileno() if wanted and stream.isatty() else -1

    def __enter__(self) -> "Keys":
        if self._fd >= 0:
            self._before = termios.tcgetattr(self._fd)
            mode = termios.tcgetattr(self._fd)
            mode[3] &= ~(termios.ICANON | termios.ECHO)
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
            # Input typed while a step ran is dropped: an extra Enter would start the next step before it is read.
            termios.tcsetattr(self._fd, termios.TCSAFLUSH, mode)
        return self

    def __exit__(
        self, _: "type[BaseException] | None", __: "BaseException | None", ___: "TracebackType | None"
    ) -> None:
        if self._fd >= 0:
            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            except termios.error:
                pass  # the terminal is gone

    def read(self, timeout_s: float | None = None) -> str:
        """The next key in lower case, Enter as '\\n'; '' after `timeout_s`, 'eof' at the end of the input."""
        if self._fd < 0:
            time.sleep(timeout_s or 0)
            return "" if timeout_s is not None else "eof"
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return ""
        try:
            data = os.read(self._fd, 1)
        except OSError:
            data = b""  # EIO: the terminal hung up
        key = data.decode("ascii", "replace").lower().replace("\r", "\n")
        return "eof" if key in ("", "\x04") else key

    def wait(self, seconds: float) -> None:
        """Sleep; `q` raises KeyboardInterrupt, as Ctrl-C does."""
        ends_s = time.monotonic() + seconds
        while (left_s := ends_s - time.monotonic()) > 0:
            if self.read(left_s) in ("q", "eof"):
                raise KeyboardInterrupt


class Quiet:
    """Turns the echo of the terminal `stream` off: echoed input would damage a screen that is redrawn.

    The input is kept for the next reader. Does nothing if `stream` is not a terminal, or if we are in the background
    (SIGTTOU would stop us).
    """

    def __init__(self, stream: "TextIO") -> None:
        self._fd = stream.fileno() if stream.isatty() else -1

    def start(self) -> None:
        """Turn the echo off."""
        if not self._ours():
            self._fd = -1
            return
        self._before = termios.tcgetattr(self._fd)
        mode = termios.tcgetattr(self._fd)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def stop(self) -> None:
        """Restore the terminal."""
        if self._ours():
            try:
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
            except termios.error:
                pass  # the terminal is gone

    def _ours(self) -> bool:
        try:
            return self._fd >= 0 and os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            return False
