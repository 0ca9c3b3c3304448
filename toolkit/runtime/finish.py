"""The program that makes a process of the container the user's: credentials, the search for its file, the handover.

parent                                   program
  │                                        │ standard streams, scheduler, HOME, user, capabilities, the file
  │◀───────────────────────────────READY ──│
  │── GO [the agent's message] ───────────▶│ limits, seccomp filter, label, execve(2): the pipe closes
  │◀──────────────────────────────── EOF ──│
"""

import errno
import os

from toolkit.errors import LaunchFailed, SystemCall
from toolkit.kernel import capabilities
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime import conversation, credentials, executable, handover, identity, stops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.errors import CtkError
    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Linux, Rlimit
    from toolkit.runtime.ending import Ending
    from toolkit.runtime.identity import Identity
    from toolkit.runtime.launch import Launch
    from toolkit.runtime.spawn import Prepared

_MESSAGE_LIMIT = 1 << 20
_SCM_RIGHTS, _SOL_SOCKET = 1, 1


def emit(
    p: "Program",
    ending: "Ending",
    who: "Identity",
    linux: "Linux",
    pipes: "tuple[int, int]",
    there: "Callable[[str], bool]",
    *,
    passed: int = 0,
) -> None:
    """Append what makes its process the user's program.

    `pipes`: the descriptors that it reads from and writes to. `there`: see executable.search. `passed`: how many
    failpoints the process has passed before (stops.py).
    """
    reading, writing = pipes
    set_streams(p, ending.stdio or ())
    identity.shape(p, who.spec, linux)
    end = handover.Handover()
    end.fifo, end.proc, end.preserved, end.init = ending.fifo, ending.proc, ending.preserved, ending.init
    # The handover loads the filter if it may. Else we do so before it: CAP_SYS_ADMIN is kept for that, and the profile
    # need allow only what is still called then.
    late = who.filter_is_late() and ending.listener_end is None
    early = ending.seccomp if not late else None
    kept = 1 << capabilities.NUMBERS["CAP_SYS_ADMIN"] if early else 0
    variables = environment(p, ending.environment, who.uid)
    sets = credentials.apply(p, who, keep=kept)
    if ending.arguments:
        found = executable.search(p, ending.arguments[0], ending.environment, there)
    else:
        # Without `process` there is nothing to execute: the handover waits for `start`, then fails on a directory.
        found = executable.Found(p)
        found.put(p, "/")
    stops.emit(p, passed + 1)
    say(p, writing, conversation.READY)
    hear(p, reading, conversation.GO)
    stops.emit(p, passed + 2)
    message = _hear_message(p, reading) if ending.listener_end is not None else None
    _set_rlimits(p, ending.rlimits)
    if early is not None:
        # What the profile may refuse comes before it.
        agent = ending.listener_end.fileno() if ending.listener_end is not None else -1
        handover.close(p, end, but=[writing, agent] if agent >= 0 else [writing])
        sets.set(p, keep=kept, use=True)
        listener = p.cell()
        early.load(p, listener)
        if message is not None:
            send_descriptor(p, agent, listener, *message)
            p.close(listener)
            p.close(agent)
        sets.set(p)
    else:
        end.filter = ending.seccomp
    end.obeys = end.fifo >= 0 and early is None
    end.label, end.attribute = ending.label()
    closed = writing if early is not None else -1
    handover.emit(p, end, found, p.strings(ending.arguments), variables, closed=closed)


def of_launch(p: "Program", launch: "Launch", prepared: "Prepared") -> None:
    """The same for a new container."""
    assert launch.record is not None
    who = identity.Identity(launch.spec.get("process") or {})
    who.keeps_groups = launch.record.annotations.get("run.oci.keep_original_groups") == "1"
    pipes = (prepared.childs.reading, prepared.childs.writing)
    there = folder_has_files(prepared.plan.root)
    passed = len(prepared.plan.steps)
    emit(p, prepared.ending, who, launch.spec.get("linux") or {}, pipes, there, passed=passed)


def say(p: "Program", fd: int, message: int) -> None:
    """Send a byte of the conversation; if nobody hears it, the next `hear` notices."""
    p.call("write", fd, bytes((message,)), 1, on=((errno.EPIPE, gone := Label()),))
    p.place(gone)


def hear(p: "Program", fd: int, message: int) -> None:
    """Wait for a byte of the conversation, and end if the other side is gone, or says another one."""
    got, size, fine = p.room(8), p.cell(), Label()
    again = p.placed()
    p.call("read", fd, got, 1, result=size, on=((errno.EINTR, again),))
    p.when("if_equal", Cell(got - MEMORY, 1), message, fine)
    p.call("exit_group", 1)
    p.place(fine)


def set_streams(p: "Program", fds: "Sequence[int]") -> None:
    """Make `fds` the standard streams."""
    for number, fd in enumerate(fds):
        if fd != number:
            p.call("dup3", fd, number, 0)


def environment(p: "Program", entries: "Sequence[str]", uid: int) -> int:
    """The address of the environment's `char *[]`, with a HOME of the container's passwd for `uid` if it has none."""
    if not executable.needs_home(entries):
        return p.strings(entries)
    given = [entry for entry in entries if not entry.startswith("HOME=")]
    home = executable.find_home(p, uid)
    size = 8 * (len(given) + 2)
    vector = p.room(size)
    p.own("copy", vector, p.strings([*given, ""]), size)
    p.own("set", home, result=Cell(vector - MEMORY + 8 * len(given)))
    return vector


def _set_rlimits(p: "Program", rlimits: "list[Rlimit]") -> None:
    for limit in rlimits:

        def failed(error: SystemCall, limit: "Rlimit" = limit) -> "CtkError":
            doing = f"error setting rlimit {limit['type']} to {limit['soft']}:{limit['hard']}"
            return LaunchFailed(doing, because=error.because)

        p.owned_by(failed)
        p.call("prlimit64", 0, identity.RLIMITS[limit["type"]], p.words(limit["soft"], limit["hard"]), 0)
    p.owned_by(None)


def _hear_message(p: "Program", fd: int) -> "tuple[int, Cell]":
    """(address, size) of a message that the parent sends behind GO: 8 bytes of size, then so many."""
    size, left, got, at = p.cell(), p.cell(), p.cell(), p.cell()
    room = p.room(_MESSAGE_LIMIT)
    p.call("read", fd, size.address, 8)
    p.own("set", size, result=left)
    p.own("set", room, result=at)
    more, done = p.placed(), Label()
    p.when("if_equal", left, 0, done)
    p.call("read", fd, at, left, result=got)
    p.when("if_equal", got, 0, done)
    p.own("add", at, got, result=at)
    p.own("subtract", left, got, result=left)
    p.go(more)
    p.place(done)
    return room, size


def send_descriptor(p: "Program", end: int, fd: Cell, address: int, size: "int | Cell") -> None:
    """Pass `fd` over the Unix socket `end` (SCM_RIGHTS, unix(7)), with a message."""
    iov, control, header = p.room(16), p.room(24), p.room(56)

    def put(where: int, value: "int | Cell") -> None:
        p.own("set", value, result=Cell(where - MEMORY))

    put(iov, address)
    put(iov + 8, size)
    put(control, 20)  # CMSG_LEN(4)
    put(control + 8, _SOL_SOCKET | _SCM_RIGHTS << 32)
    put(control + 16, fd)
    put(header + 16, iov)  # struct msghdr: no name, one buffer, one control message
    put(header + 24, 1)
    put(header + 32, control)
    put(header + 40, 24)  # CMSG_SPACE(4)
    p.call("sendmsg", end, header, 0)


def folder_has_files(root: str) -> "Callable[[str], bool]":
    """Whether a folder of the root at the host path `root` has files, by its path in there."""

    def there(folder: str) -> bool:
        from toolkit.kernel import beneath

        try:
            top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fd = beneath.open_beneath(top, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
            finally:
                os.close(top)
            try:
                return bool(os.listdir(fd))
            finally:
                os.close(fd)
        except (OSError, SystemCall):
            return False

    return there
