"""The container's terminal: a pty of its own devpts; the caller gets its master (runtime spec, process.terminal)."""

import errno
import os
import stat as st

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason
from toolkit.kernel import beneath, mounts, terminal
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime import finish
from toolkit.runtime.steps import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Box
    from toolkit.runtime.steps import Description

_ONTO = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH


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


def open_in(ptmx_fd: int) -> "tuple[int, int]":
    """(master, slave) from an O_PATH fd of a container's ptmx, after a check. Raises OSError, LaunchFailed."""
    status = os.fstat(ptmx_fd)
    if not st.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(5, 2):
        raise LaunchFailed(
            "open the container's terminal",
            because=_NO_PTMX,
            hint=_NEEDS_DEVPTS,
        )
    master, slave, _ = terminal.open_pty(f"/proc/self/fd/{ptmx_fd}")
    return master, slave


def attach(slave: int) -> None:
    """Make the slave the caller's standard streams and controlling terminal. Raises OSError."""
    terminal.make_controlling(slave)
    for fd in (0, 1, 2):
        os.dup2(slave, fd, True)
    if slave > 2:
        os.close(slave)


def emit(p: "Program", end: int, size: "Box | None") -> None:
    """exec --tty, in a process that has joined the container: a pty of its devpts, its master sent through `end`."""

    def failed(error: SystemCall) -> CtkError:
        because = _NO_PTMX if error.errno == _OTHER_FILE else str(error)
        return LaunchFailed("open the container's terminal", because=because, hint=_NEEDS_DEVPTS)

    root, ptmx, master, slave = p.cell(), p.cell(), p.cell(), p.cell()
    status, path = p.room(structures.STAT_SIZE), p.room(40)
    mode_at, _, rdev_at = structures.stat(p.machine)
    kind, length, fine, other = p.cell(), p.cell(), Label(), Label()
    p.owned_by(failed)
    p.call("openat", mounts.AT_FDCWD, "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, result=root)
    beneath.emit_open(p, root, "/dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW, ptmx)
    p.call("close", root)
    p.call("newfstatat", ptmx, "", status, mounts.AT_EMPTY_PATH)
    p.own("and", Cell(status - MEMORY + mode_at, 4), 0o170000, result=kind)
    p.when("if_equal", kind, st.S_IFCHR, chosen := Label())
    p.place(other)
    p.fail(_OTHER_FILE)
    p.place(chosen)
    p.when("if_equal", Cell(status - MEMORY + rdev_at), os.makedev(5, 2), fine)
    p.go(other)
    p.place(fine)
    prefix = "/proc/self/fd/"
    p.own("copy", path, p.text(prefix), len(prefix))
    p.own("digits", ptmx, path + len(prefix), 10, result=length)
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    p.call("openat", mounts.AT_FDCWD, path, flags, 0, result=master)
    p.call("close", ptmx)
    p.call("ioctl", master, terminal.TIOCSPTLCK, p.words(0))
    p.call("ioctl", master, terminal.TIOCGPTPEER, flags, result=slave)
    if size and size.get("height") and size.get("width"):
        p.call("ioctl", slave, terminal.TIOCSWINSZ, p.data(terminal.winsize(size["height"], size["width"])))
    p.owned_by(lambda error: LaunchFailed("send the terminal's master", because=_unreceived(error)))
    finish.send_descriptor(p, end, master, p.text("/dev/ptmx"), 9)
    p.owned_by(None)
    p.call("close", master)
    p.call("close", end)
    p.call("ioctl", slave, terminal.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        p.call("dup3", slave, fd, 0)
    p.when("if_less", slave, 3, low := Label())
    p.call("close", slave)
    p.place(low)


_OTHER_FILE = 4096  # a failure of ours, beside the errnos
_NO_PTMX = "its /dev/pts/ptmx is not a pty multiplexer"
_NEEDS_DEVPTS = 'mounts must hold {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", …]}'


def _unreceived(error: SystemCall) -> str:
    return "nobody received it" if error.errno == errno.EPIPE else error.because


def _console_file(stage: Stage) -> int:
    """The file /dev/console of the root itself (O_PATH), made if missing. Raises LaunchFailed, SystemCall, OSError.

    A link of that name is not followed: the terminal could cover a file that is masked later (CVE-2025-52565).
    """
    dev = beneath.make_directories(stage.root_fd, "/dev")
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
            os.close(os.open("console", flags, 0o644, dir_fd=dev))
        except FileExistsError:
            pass
        target = os.open("console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
    finally:
        os.close(dev)
    if st.S_ISLNK(os.fstat(target).st_mode):
        os.close(target)
        raise LaunchFailed(
            "put the terminal on '/dev/console'",
            because="the root has a symbolic link of that name",
            hint="remove it from the image, or mount a tmpfs at /dev",
        )
    return target


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

    def apply(self, stage: Stage) -> None:
        if not self.mounted:
            self._hand_out(*terminal.open_pty("/dev/ptmx")[:2])
            return
        try:
            ptmx = beneath.open_beneath(stage.root_fd, "/dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW)
        except SystemCall as error:
            raise LaunchFailed(
                "open the container's terminal",
                because=str(error),
                hint="process.terminal needs a mount of type devpts at /dev/pts",
            ) from None
        try:
            master, slave = open_in(ptmx)
        finally:
            os.close(ptmx)
        target = _console_file(stage)
        try:
            tree = mounts.open_tree(slave, "", mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | mounts.AT_EMPTY_PATH)
            try:
                mounts.move_mount(tree, "", target, "", _ONTO)
            finally:
                os.close(tree)
        finally:
            os.close(target)
        self._hand_out(master, slave)

    def _hand_out(self, master: int, slave: int) -> None:
        if self.size and self.size.get("height") and self.size.get("width"):
            terminal.set_size(slave, terminal.winsize(self.size["height"], self.size["width"]))
        try:
            send_descriptor(self.end, master, b"/dev/ptmx")
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise LaunchFailed("send the terminal's master", because="nobody received it") from None
            raise
        os.close(master)
        attach(slave)
