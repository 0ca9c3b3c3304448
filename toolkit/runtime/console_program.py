"""What makes a terminal in a program: a pty of the container's devpts, whose master the caller gets."""

import errno
import os
import stat as st

from toolkit.errors import CtkError, LaunchFailed, SystemCall
from toolkit.kernel import beneath, mounts, terminal
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime import finish
from toolkit.runtime.site import CLONE, DIRECTORY, ONTO, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Box
    from toolkit.runtime.console import MakeConsole
    from toolkit.runtime.site import Site

NO_PTMX = "its /dev/pts/ptmx is not a pty multiplexer"
NEEDS_DEVPTS = 'mounts must hold {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", …]}'
_FLAGS = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
_OTHER_FILE, _IS_A_LINK = 4096, 4097  # failures of ours, beside the errnos


def emit(p: "Program", end: int, size: "Box | None") -> None:
    """exec --tty, in a process that has joined the container: the master is sent through `end`."""

    def failed(error: SystemCall) -> CtkError:
        because = NO_PTMX if error.errno == _OTHER_FILE else str(error)
        return LaunchFailed("open the container's terminal", because=because, hint=NEEDS_DEVPTS)

    root, ptmx, master = p.cell(), p.cell(), p.cell()
    p.owned_by(failed)
    p.call("openat", mounts.AT_FDCWD, "/", DIRECTORY, 0, result=root)
    beneath.emit_open(p, root, "/dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW, ptmx)
    p.call("close", root)
    _open_master(p, ptmx, master)
    _hand_out(p, end, size, master, _open_slave(p, master))


def emit_step(step: "MakeConsole", p: "Program", site: "Site") -> None:
    """process.terminal: make it, and bind it on the root's /dev/console."""
    master = p.cell()
    if not step.mounted:
        p.call("openat", mounts.AT_FDCWD, "/dev/ptmx", _FLAGS, 0, result=master)
        _hand_out(p, step.end.fileno(), step.size, master, _open_slave(p, master))
        return
    ptmx = p.cell()
    p.owned_by(
        lambda error: LaunchFailed(
            "open the container's terminal",
            because=str(error),
            hint="process.terminal needs a mount of type devpts at /dev/pts",
        )
    )
    beneath.emit_open(p, site.root, "/dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW, ptmx)
    p.owned_by(
        lambda error: LaunchFailed(
            "open the container's terminal",
            because=NO_PTMX if error.errno == _OTHER_FILE else str(error),
            hint=NEEDS_DEVPTS,
        )
    )
    _open_master(p, ptmx, master)
    slave = _open_slave(p, master)
    p.owned_by(None)
    _bind_console(p, site, slave)
    _hand_out(p, step.end.fileno(), step.size, master, slave)


def _open_master(p: "Program", ptmx: Cell, master: Cell) -> None:
    """Open the master end by an O_PATH descriptor of a ptmx, after a check that it is one; closes that."""
    status = p.room(structures.STAT_SIZE)
    mode_at, _, rdev_at = structures.stat(p.machine)
    kind, fine, other, chosen = p.cell(), Label(), Label(), Label()
    p.call("newfstatat", ptmx, "", status, mounts.AT_EMPTY_PATH)
    p.own("and", Cell(status - MEMORY + mode_at, 4), 0o170000, result=kind)
    p.when("if_equal", kind, st.S_IFCHR, chosen)
    p.place(other)
    p.fail(_OTHER_FILE)
    p.place(chosen)
    p.when("if_equal", Cell(status - MEMORY + rdev_at), os.makedev(5, 2), fine)
    p.go(other)
    p.place(fine)
    path = Words(p, 16)
    path.add("/proc/self/fd/", ptmx)
    p.call("openat", mounts.AT_FDCWD, path.address, _FLAGS, 0, result=master)
    p.call("close", ptmx)


def _open_slave(p: "Program", master: Cell) -> Cell:
    """The slave, by TIOCGPTPEER (Linux 4.13), never by its path."""
    slave = p.cell()
    p.call("ioctl", master, terminal.TIOCSPTLCK, p.words(0))
    p.call("ioctl", master, terminal.TIOCGPTPEER, _FLAGS, result=slave)
    return slave


def _bind_console(p: "Program", site: "Site", slave: Cell) -> None:
    """Bind the slave on the file /dev/console of the root itself, made if missing.

    A link of that name is not followed: the terminal could cover a file that is masked later (CVE-2025-52565).
    """

    def failed(error: SystemCall) -> CtkError:
        if error.errno != _IS_A_LINK:
            return error
        return LaunchFailed(
            "put the terminal on '/dev/console'",
            because="the root has a symbolic link of that name",
            hint="remove it from the image, or mount a tmpfs at /dev",
        )

    dev, target, tree, there, link = p.cell(), p.cell(), p.cell(), Label(), Label()
    p.owned_by(failed)
    site.directories.make("/dev", dev)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
    p.call("openat", dev, "console", flags, 0o644, result=target, on=((errno.EEXIST, there),))
    p.call("close", target)
    p.place(there)
    p.call("openat", dev, "console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, result=target)
    p.call("close", dev)
    site.stat(target)
    p.when("if_equal", site.kind, st.S_IFLNK, link)
    p.call("open_tree", slave, "", CLONE | mounts.AT_EMPTY_PATH, result=tree)
    p.call("move_mount", tree, "", target, "", ONTO)
    p.call("close", tree)
    p.call("close", target)

    def refuse() -> None:
        p.place(link)
        p.fail(_IS_A_LINK)

    p.aside(refuse)
    p.owned_by(None)


def _hand_out(p: "Program", end: int, size: "Box | None", master: Cell, slave: Cell) -> None:
    """Send the master through `end`, and make the slave our standard streams and controlling terminal."""
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


def _unreceived(error: SystemCall) -> str:
    return "nobody received it" if error.errno == errno.EPIPE else error.because
