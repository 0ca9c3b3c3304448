"""Relay between a container's terminal, our own standard streams and signals, with one poll(2) and without blocking.

Data that was read is kept until its destination has room, and no more is read meanwhile. So a program that does not
read its input, or a reader of ours that has stopped, delays only its own direction: output, signals and the end of the
container are always noticed.
"""

import errno
import os
import select
import time

from toolkit.errors import reason
from toolkit.kernel import terminal
from toolkit.runtime import foreground, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Watch(Protocol):
        """Another descriptor to poll."""

        @property
        def fd(self) -> int:
            """The descriptor to poll; -1: finished."""

        @property
        def events(self) -> int:
            """The events to poll for."""

        def heard(self) -> None:
            """Called when it is ready."""

        def signalled(self) -> None:
            """Called first after a signal, which may mean that a process of ours has ended."""


_HELD_BYTES = 1 << 16
LAST_BYTES = 1 << 20
"""How much output is read after the end: as much as a pipe or terminal holds, because a process that is still alive
could go on writing forever."""
ENDING = frozenset((1, 2, 3, 15))  # HUP, INT, QUIT, TERM


class Outlet:
    """Bytes to be written to `fd`: call `flush` when poll(2) reports POLLOUT, and it does not block."""

    __slots__ = ("_piece", "fd", "lost", "pending")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = bytearray()
        self.lost = False  # True: its reader is gone
        # This much always fits after POLLOUT: PIPE_BUF for a pipe; for a terminal a page of 256, in which a newline
        # becomes two bytes. The caller may share the descriptor, so it is not made non-blocking.
        self._piece = 128 if os.isatty(fd) else 4096

    @property
    def full(self) -> bool:
        """Whether so much is pending that no more should be read for it."""
        return len(self.pending) >= _HELD_BYTES

    def put(self, data: bytes) -> None:
        """Add data for `flush`."""
        if not self.lost:
            self.pending += data

    def flush(self) -> None:
        """Write as much as there is room for."""
        try:
            del self.pending[: os.write(self.fd, self.pending[: self._piece])]
        except BlockingIOError:
            pass
        except OSError as error:
            self.lost = True
            self.pending.clear()
            if error.errno not in (errno.EPIPE, errno.EIO):  # not an error: its reader is gone
                log.warning(f"write to descriptor {self.fd}: {reason(error)}: output is lost")


class Peer:
    """The slave of a terminal, held open besides its master.

    So the output of a container that closes its terminal and opens it later is still read (otherwise its master would
    return EIO from then on), and we can find out whether the input has been read.
    """

    __slots__ = ("_fd", "_master")

    def __init__(self, master: int) -> None:
        os.set_blocking(master, False)  # only ours: the container's end is another open file
        self._master = master
        self._fd = -1
        self.reopen()

    def reopen(self) -> bool:
        """Open it again after a hang-up (vhangup(2), the end of a session) made ours useless; False if that fails."""
        self.close()
        try:
            self._fd = terminal.open_peer(self._master)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def waits(self) -> bool:
        """Whether all input has been read that the program can read (in canonical mode: complete lines).

        True if we can't know: sending the end of input too often does less harm than never sending it.
        """
        if self._fd < 0:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)


def read(master: int, peer: Peer) -> "bytes | None":
    """Read the output of a container's terminal: b"" if there is none at the moment, None if the terminal is gone."""
    try:
        return os.read(master, 65536)
    except BlockingIOError:
        return b""
    except OSError:
        return b"" if peer.reopen() else None


class _EndOfInput:
    """Passes the end of our input on to a terminal, by the character that means it (VEOF, termios(3)).

    It is sent again, at growing intervals, whenever the program has read everything: after half a line the first one
    only ends that line, one that is sent before a shell starts its line editor is lost, and like a file's end it lasts.
    """

    def __init__(self, master: int, *, half_a_line: bool) -> None:
        self.due_s = time.monotonic()
        self._master = master
        self._half_a_line = half_a_line
        self._pause_s = 0.05

    def keys(self, peer: Peer) -> bytes:
        """The characters to type now, if it is time."""
        now = time.monotonic()
        if now < self.due_s:
            return b""
        self.due_s = now + self._pause_s
        self._pause_s = min(self._pause_s * 1.5, 2.0)
        if not peer.waits:
            return b""
        by_lines, character = terminal.end_of_input(self._master)
        if not by_lines and self._half_a_line:
            self._half_a_line = False
            return b"\r"  # a line editor takes VEOF for the end only on an empty line
        return character


class _Relay:
    def __init__(self, pid: int, wake: int, master: int, watches: "Sequence[Watch]") -> None:
        self.pid = pid
        self.wake = wake
        self.watches = watches
        self.master = master
        self.shown = Outlet(1)
        if master >= 0:
            self.peer = Peer(master)
            self.typed = Outlet(master)
        self.reads_input = master >= 0
        self.last = b"\n"  # the last byte that was typed
        self.end_of_input: "_EndOfInput | None" = None

    def run(self) -> int:
        code = foreground.reap(self.pid)
        while code < 0:
            for fd, events in self._ready():
                if fd == self.wake:
                    for watch in self.watches:
                        watch.signalled()
                    self._signalled(os.read(fd, 512))
                    code = foreground.reap(self.pid)
                elif fd == self.master:
                    self._master_is_ready(events)
                elif fd == 0:
                    self._type()
                elif fd == 1:
                    self._show()
                else:
                    for watch in self.watches:
                        if watch.fd == fd:
                            watch.heard()
            if self.end_of_input is not None and self.master >= 0 and not self.typed.pending:
                self.typed.put(self.end_of_input.keys(self.peer))
        self._show_the_last()
        return code

    def _ready(self) -> "list[tuple[int, int]]":
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        for watch in self.watches:
            if watch.fd >= 0:
                poll.register(watch.fd, watch.events)
        timeout_ms: "float | None" = None
        if self.master >= 0:
            if events := (0 if self.shown.full else select.POLLIN) | (select.POLLOUT if self.typed.pending else 0):
                poll.register(self.master, events)
            if self.reads_input and not self.typed.full:
                poll.register(0, select.POLLIN)
            if self.end_of_input is not None and not self.typed.pending:
                timeout_ms = max((self.end_of_input.due_s - time.monotonic()) * 1000 + 1, 0)
        if self.shown.pending:
            poll.register(1, select.POLLOUT)
        return poll.poll(timeout_ms)

    def _signalled(self, numbers: bytes) -> None:
        if foreground.SIGWINCH in numbers and self.master >= 0 and os.isatty(0):
            foreground.resize(self.master)
            numbers = numbers.replace(bytes((foreground.SIGWINCH,)), b"")
        foreground.pass_on(self.pid, numbers)

    def _master_is_ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self.typed.flush()
        if events & ~select.POLLOUT and self.master >= 0:
            data = read(self.master, self.peer)
            if data is None:
                self._hang_up()
            else:
                self.shown.put(data)

    def _type(self) -> None:
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return  # another reader of it was faster
        except OSError:
            data = b""  # the terminal is gone, or it is a folder
        if data:
            self.last = data[-1:]
            self.typed.put(data)
        else:
            self.reads_input = False
            self.end_of_input = _EndOfInput(self.master, half_a_line=self.last not in b"\r\n")

    def _show(self) -> None:
        self.shown.flush()
        if self.shown.lost:
            # As when a terminal is closed: a program that goes on writing gets SIGHUP and EIO, and does not block.
            self._hang_up()

    def _hang_up(self) -> None:
        if self.master >= 0:
            self.peer.close()
            os.close(self.master)
            self.master = -1

    def _show_the_last(self) -> None:
        """Write the last output, which is still in the terminal or waits for a slow reader of ours."""
        left = LAST_BYTES
        while True:
            while self.master >= 0 and left > 0 and not self.shown.full:
                data = read(self.master, self.peer)
                if not data:
                    left = 0
                    break
                left -= len(data)
                self.shown.put(data)
            if not self.shown.pending:
                return
            poll = select.poll()
            poll.register(self.wake, select.POLLIN)
            poll.register(1, select.POLLOUT)
            for fd, _ in poll.poll():
                if fd == 1:
                    self.shown.flush()
                elif not ENDING.isdisjoint(os.read(fd, 512)):
                    return  # we were told to end, and no process is left to forward the signal to


def run(pid: int, wake: int, master: int = -1, watches: "Sequence[Watch]" = ()) -> int:
    """Relay until `pid` ends; returns its exit code as foreground.wait does. `wake`: the fd from foreground.wake_up."""
    ours = master >= 0 and os.isatty(0)
    before: "list[object] | None" = None
    if ours:
        foreground.as_a_job()
        before = terminal.raw(0)
        foreground.resize(master)
    try:
        return _Relay(pid, wake, master, watches).run()
    finally:
        if before is not None:
            terminal.restore(0, before)
