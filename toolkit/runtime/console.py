"""The container's terminal: a pty of its own devpts; the caller gets its master (runtime spec, process.terminal)."""

import errno
import os

from toolkit.errors import LaunchFailed, reason
from toolkit.kernel import terminal
from toolkit.runtime import console_program
from toolkit.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Box
    from toolkit.runtime.site import Site
    from toolkit.runtime.steps import Description


_CONNECT_S = 10


def bound(end: "socket") -> None:
    """Make connect(2) and send(2) of a Unix socket fail with EAGAIN after 10 s (SO_SNDTIMEO, socket(7)).

    If the listener's queue is full and it accepts nothing, they would wait forever; a non-blocking socket would fail at
    once.
    """
    end.setsockopt(1, 21, _CONNECT_S.to_bytes(8, "little") + bytes(8))  # SOL_SOCKET, SO_SNDTIMEO, struct timeval


def refused(error: OSError) -> str:
    """The reason why such a connect(2) failed, in words."""
    if error.errno == errno.EAGAIN:
        return f"the listener accepted no connection within {_CONNECT_S} s"
    return reason(error)


def connect(path: str) -> "socket":
    """A stream socket connected to an engine's --console-socket or --pidfd-socket. Raises LaunchFailed."""
    import _socket

    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    bound(end)
    try:
        end.connect(path)
    except OSError as error:
        end.close()
        raise LaunchFailed(
            f"connect to the socket {path!r}",
            because=refused(error),
            hint="the caller must listen there before it starts the container",
        ) from None
    return end


def pair() -> "tuple[socket, socket]":
    """Two connected stream sockets, for a terminal that we relay ourselves. Raises OSError."""
    import _socket

    reading = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    return reading[0], reading[1]


def send_descriptor(end: "socket", fd: int, name: bytes) -> None:
    """Pass `fd` over a Unix socket (SCM_RIGHTS, unix(7)), with `name` as the message. Raises OSError."""
    end.sendmsg([name], [(1, 1, fd.to_bytes(4, "little"))])  # SOL_SOCKET, SCM_RIGHTS


def send_pidfd(path: str, fd: int) -> None:
    """Send the pidfd `fd` to the listener at --pidfd-socket `path`, and close it. Raises OSError, CtkError."""
    end = connect(path)
    send_descriptor(end, fd, b"pidfd")
    end.close()
    os.close(fd)


def receive_descriptor(end: "socket") -> int:
    """The fd that the other side sent, -1 if it closed without one. Raises OSError."""
    _, ancillary, _, _ = end.recvmsg(256, 32)
    for level, kind, data in ancillary:
        if (level, kind) == (1, 1):
            return int.from_bytes(data[:4], "little")
    return -1


def take(end: "socket") -> int:
    """Receive the master end of a terminal that we relay ourselves from the child's socket; -1 if none was sent."""
    master = receive_descriptor(end)
    if master >= 0:
        terminal.keep_newlines(master)
        try:
            terminal.set_size(master, terminal.get_size(0))  # before the program asks for it
        except OSError:
            pass  # we have no terminal: it keeps the size of process.consoleSize
    return master


DESCRIPTION = (
    "make a terminal for the container and send its master end to the caller",
    'open("/dev/pts/ptmx"); ioctl(TIOCGPTPEER); move_mount(slave, "/dev/console"); ioctl(TIOCSCTTY)',
    "",
)
"""The description of `MakeConsole`, which can't be made without a socket."""


class MakeConsole(Step):
    """process.terminal: make a pty of the container's devpts and bind-mount it on /dev/console."""

    __slots__ = ("end", "mounted", "size")

    def __init__(self, end: "socket", size: "Box | None") -> None:
        super().__init__("process.terminal")
        self.end = end  # the socket to send the master to
        self.size = size
        self.mounted = True  # False: nothing is mounted, the terminal is one of the host's devpts

    def describe(self) -> "Description":
        return DESCRIPTION

    def emit(self, p: "Program", site: "Site") -> None:
        console_program.emit_step(self, p, site)
