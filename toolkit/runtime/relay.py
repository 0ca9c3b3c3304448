"""Between a container's terminal, our own standard streams and signals: one poll(2), in which nothing can block.

What has been read is kept until there is room for it where it goes, and no more is read meanwhile. So a program that
does not read what is typed, or a reader of ours that has stopped, holds up its own direction and nothing else: output,
signals and the end of the container are seen at all times.
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
        """Something else to listen to."""

        @property
        def fd(self) -> int:
            """The descriptor to poll; -1: no more."""

        @property
        def events(self) -> int:
            """What to poll it for."""

        def heard(self) -> None:
            """It is ready."""

        def signalled(self) -> None:
            """A signal has come, and a process of ours may have ended: before anything else is done about it."""


_HELD_BYTES = 1 << 16
LAST_BYTES = 1 << 20
"""So much of what was written is read after the end, as a pipe or a terminal holds at most: a process that lives on
could go on writing for ever."""
ENDING = frozenset((1, 2, 3, 15))  # HUP, INT, QUIT, TERM


class Outlet:
    """Bytes on their way to `fd`: `flush` when poll(2) reports POLLOUT, and it does not block."""

    __slots__ = ("_piece", "fd", "lost", "pending")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.pending = bytearray()
        self.lost = False  # nobody reads it any more
        # So much fits for certain after POLLOUT: PIPE_BUF of a pipe; of a terminal's buffer a page of 256, and a
        # newline becomes two. The descriptor may be the caller's too, so it is not made non-blocking.
        self._piece = 128 if os.isatty(fd) else 4096

    @property
    def full(self) -> bool:
        """Is so much kept already that no more should be read for it?"""
        return len(self.pending) >= _HELD_BYTES

    def put(self, data: bytes) -> None:
        """Keep it for `flush`."""
        if not self.lost:
            self.pending += data

    def flush(self) -> None:
        """Write what there is room for."""
        try:
            del self.pending[: os.write(self.fd, self.pending[: self._piece])]
        except BlockingIOError:
            pass
        except OSError as error:
            self.lost = True
            self.pending.clear()
            if error.errno not in (errno.EPIPE, errno.EIO):  # these are nobody's fault: who read it has gone
                log.warning(f"write to descriptor {self.fd}: {reason(error)}: output is lost")


class Peer:
    """The slave of a terminal, held open beside its master.

    While it is, a container that closes its terminal and opens it later is still heard (its master would answer EIO
    from then on), and it can be asked whether what was typed has been read.
    """

    __slots__ = ("_fd", "_master")

    def __init__(self, master: int) -> None:
        os.set_blocking(master, False)  # it is ours alone: the container's end is another open file
        self._master = master
        self._fd = -1
        self.reopen()

    def reopen(self) -> bool:
        """After a hang-up (vhangup(2), the end of a session) ours is of no use any more; False if there is no other."""
        self.close()
        try:
            self._fd = terminal.open_peer(self._master)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def waits(self) -> bool:
        """Has all been read that was typed, as far as the program can read it (of a line: when it is whole)?

        True where it can't be asked: to say the end of input too often does less harm than never.
        """
        if self._fd < 0:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)


def read(master: int, peer: Peer) -> "bytes | None":
    """What a container's terminal has to show: b"" for nothing just now, None if it is gone for good."""
    try:
        return os.read(master, 65536)
    except BlockingIOError:
        return b""
    except OSError:
        return b"" if peer.reopen() else None


class _EndOfInput:
    """Passes the end of our input on to a terminal, which has none: by the character that means it (VEOF, termios(3)).

    It is said again, ever more seldom, whenever the program has read all there is: the first one after half a line only
    ends that, one that came before a shell turned to its line editor is lost, and like the end of a file it stays.
    """

    def __init__(self, master: int, *, half_a_line: bool) -> None:
        self.due_s = time.monotonic()
        self._master = master
        self._half_a_line = half_a_line
        self._pause_s = 0.05

    def keys(self, peer: Peer) -> bytes:
        """What is to be typed now, if it is time for it."""
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
            return b"\r"  # a line editor takes the character for an end on an empty line only
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
        self.last = b"\n"  # that was typed
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
            return  # somebody else, who reads it as well, was faster
        except OSError:
            data = b""  # a terminal that has gone away, or a folder
        if data:
            self.last = data[-1:]
            self.typed.put(data)
        else:
            self.reads_input = False
            self.end_of_input = _EndOfInput(self.master, half_a_line=self.last not in b"\r\n")

    def _show(self) -> None:
        self.shown.flush()
        if self.shown.lost:
            # As when a terminal is closed: who goes on writing to it is told (SIGHUP, EIO), and does not wait for us.
            self._hang_up()

    def _hang_up(self) -> None:
        if self.master >= 0:
            self.peer.close()
            os.close(self.master)
            self.master = -1

    def _show_the_last(self) -> None:
        """What it wrote last is still in the terminal, or on its way to a reader of ours that takes its time."""
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
                    return  # asked to end, and nobody is left to pass that on to


def run(pid: int, wake: int, master: int = -1, watches: "Sequence[Watch]" = ()) -> int:
    """The exit code of `pid`, as foreground.wait has it. `wake`: what foreground.wake_up gave."""
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
