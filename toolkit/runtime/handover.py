"""The end of a container's program: wait for `start`, security label, seccomp filter, and the user's own program.

What fails here is told on standard error, as by a shell: a created container's `create` has long returned. The exit
code is 127 if the program does not exist, else 126.
"""

import errno
import os

from toolkit.kernel import process
from toolkit.kernel.program import program
from toolkit.kernel.program.program import MEMORY, Cell, Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.kernel.program.program import Argument, Program
    from toolkit.runtime.executable import Found

_SA_RESTORER = 0x04000000
_SIG_BLOCK, _SIG_SETMASK = 0, 2
_SIGCHLD = 17
_WNOHANG = 1
_TIOCGPGRP, _TIOCSPGRP = 0x540F, 0x5410
_SECCOMP_SET_MODE_FILTER = 1
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class Filter:
    """A compiled seccomp filter, and the flags to load it with."""

    __slots__ = ("code", "flags")

    def __init__(self, code: bytes, flags: int) -> None:
        self.code = code
        self.flags = flags

    def load(self, p: "Program", result: "Cell | None" = None, on: "Sequence[tuple[int, Label]]" = ()) -> None:
        """Emit its loading; `result` gets the listener's descriptor, if the flags ask for one."""
        header = p.words(len(self.code) // 8, p.data(self.code))  # struct sock_fprog
        if self.flags:
            p.call("seccomp", _SECCOMP_SET_MODE_FILTER, self.flags, header, result=result, on=on)
            return
        # In a sandbox that does not know seccomp(2) it fails with ENOSYS; prctl(2) does the same, without flags.
        older, done = Label(), Label()
        p.call("seccomp", _SECCOMP_SET_MODE_FILTER, 0, header, on=((errno.ENOSYS, older), *on))
        p.go(done)
        p.place(older)
        p.call("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0, on=on)
        p.place(done)


class Handover:
    """What the end needs; descriptors are -1 where there is none."""

    __slots__ = ("attribute", "fifo", "filter", "init", "label", "obeys", "preserved", "proc")

    def __init__(self) -> None:
        self.fifo = -1  # a byte of it is waited for first
        self.obeys = False  # while it waits, signals end it: not where a filter may not know rt_sigaction(2)
        self.proc = -1  # a procfs of ours, for the label
        self.label = b""
        self.attribute = ""  # where below proc the label is written
        self.filter: "Filter | None" = None
        self.init = False  # remain as the first process, and let a child become the program
        self.preserved: "Sequence[int]" = ()  # descriptors from 3 on that stay open


def emit(
    p: "Program", end: Handover, found: "Found", argv: "Argument", environment: "Argument", *, closed: int = -1
) -> None:
    """Become the program at `found`. From the first operation on, the failures of `p` are told on standard error.

    `closed`: `close` has been done already, but for this descriptor.
    """
    p.told(-1)
    failed = Label()
    error = p.cell()
    if closed < 0:
        close(p, end)
    elif end.fifo >= 0 or end.init:
        p.close(closed)
    if end.fifo >= 0:
        _wait(p, end)
    if end.label:
        fd = p.cell()
        p.call("openat", end.proc, end.attribute, os.O_WRONLY, 0, result=fd, on=((0, failed),))
        p.call("write", fd, end.label, len(end.label), result=error, on=((0, failed),))
        p.call("close", fd)
    if end.proc >= 0:
        p.call("close", end.proc)
    if end.filter is not None:
        end.filter.load(p, error, ((0, failed),))
    if end.init:
        _supervise(p)
    p.call("execve", found.path, argv, environment, result=error, on=((0, failed),))
    p.place(failed)
    _tell(p, found, error)


def close(p: "Program", end: Handover, *, but: "Sequence[int]" = ()) -> None:
    """Close what the handover does not need. `but`: these stay open until execve(2).

    It is done before a filter that may refuse it is loaded.
    """
    first = 3
    kept = {fd for fd in (end.fifo, end.proc, *end.preserved, *but) if fd >= 3}
    for fd in (*sorted(kept), 0x100000000):
        if fd > first:
            p.call("close_range", first, fd - 1, 0)
        first = fd + 1
    for fd in but:
        p.call("close_range", fd, fd, process.CLOSE_RANGE_CLOEXEC)


def _wait(p: "Program", end: Handover) -> None:
    """Wait for a byte of the fifo, as a first process that signals can end."""
    if end.obeys:
        # The first process of a pid namespace gets only signals that it has a handler for (pid_namespaces(7)), even
        # from the engine outside that holds its pidfd. So give it handlers that end it; execve(2) resets them.
        action = p.words(program.QUIT, _SA_RESTORER, program.QUIT, 0)  # the kernel's struct sigaction
        # Not KILL and STOP, nor those that are ignored or stop by default: CHLD, CONT, TSTP, TTIN, TTOU, URG, WINCH.
        left_out = 1 << 9 | 0x7F << 17 | 1 << 28
        for number in range(1, 32):
            if not left_out >> number & 1:
                p.call("rt_sigaction", number, action, 0, 8)
    size, released = p.cell(), Label()
    again = p.placed()
    p.call("read", end.fifo, p.room(8), 1, result=size, on=((errno.EINTR, again),))
    p.when("if_equal", size, 1, released)
    p.call("exit_group", 1)
    p.place(released)
    p.call("close", end.fifo)


def _supervise(p: "Program") -> None:
    """Remain as the container's first process, and let a child go on: reap its orphans, forward every signal to it, and
    end with it. docs/decisions/0009-init.md."""
    # A blocked signal waits for rt_sigtimedwait(2) even if the kernel would drop it for a first process (signal(7)).
    everything, before = p.words(-1), p.room(8)
    child, signal, ended, status = p.cell(), p.cell(), p.cell(), p.room(8)
    by_signal, code = p.cell(), p.cell()
    p.call("rt_sigprocmask", _SIG_BLOCK, everything, before, 8)
    # Before the child can look; it inherits the name until its execve(2), and is no subreaper.
    p.call("prctl", process.PR_SET_NAME, p.text("ctk-init"), 0, 0, 0)
    # Where it is not the first of a pid namespace.
    p.call("prctl", process.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    refused, is_child = Label(), Label()
    p.call("clone", _SIGCHLD, 0, 0, 0, 0, result=child, on=((0, refused),))
    p.when("if_equal", child, 0, is_child)
    wait = p.placed()
    p.call("rt_sigtimedwait", everything, 0, 0, 8, result=signal, on=((0, wait),))
    p.when("if_equal", signal, _SIGCHLD, reap := Label())
    p.call("kill", child, signal, on=((0, wait),))
    p.go(wait)
    p.place(reap)
    p.call("wait4", -1, status, _WNOHANG, 0, result=ended, on=((0, wait),))
    p.when("if_equal", ended, 0, wait)
    p.when("if_equal", ended, child, gone := Label())
    p.go(reap)
    p.place(gone)
    p.own("and", Cell(status - MEMORY, 4), 0x7F, result=by_signal)
    p.when("if_any", by_signal, 0x7F, killed := Label())
    p.call("exit_group", Cell(status - MEMORY + 1, 1))
    p.place(killed)
    p.own("add", by_signal, 128, result=code)
    p.call("exit_group", code)
    p.place(refused)
    p.call("exit_group", 126)
    p.place(is_child)
    # A group of its own, in the terminal's foreground: Ctrl-C reaches it once, not a second time through us.
    group, after = p.room(8), Label()
    none = Label()
    p.call("setpgid", 0, 0, on=((0, none),))
    p.place(none)
    p.call("ioctl", 0, _TIOCGPGRP, group, on=((0, after),))
    p.call("getpid", result=Cell(group - MEMORY))
    p.call("ioctl", 0, _TIOCSPGRP, group, on=((0, after),))
    p.place(after)
    p.call("rt_sigprocmask", _SIG_SETMASK, before, 0, 8)


_WORDS = {
    errno.EPERM: "operation not permitted",  # its file requires capabilities beyond the bounding set
    errno.ENOENT: "no such file or directory",
    errno.EACCES: "permission denied",
    errno.ENOEXEC: "exec format error",
}


def _tell(p: "Program", found: "Found", error: Cell) -> None:
    """`exec PATH: why`, and the exit code."""
    number, size, digits = p.cell(), p.cell(), p.room(24)
    quiet = Label()
    p.own("subtract", 0, error, result=number)
    p.call("write", 2, "exec ", 5, on=((0, quiet),))
    p.call("write", 2, found.path, found.length, on=((0, quiet),))
    known = {value: Label() for value in _WORDS}
    for value, label in known.items():
        p.when("if_equal", number, value, label)
    p.call("write", 2, ": failed, errno ", 16, on=((0, quiet),))
    p.own("digits", number, digits, 10, result=size)
    p.call("write", 2, digits, size, on=((0, quiet),))
    p.call("write", 2, "\n", 1, on=((0, quiet),))
    p.go(quiet)
    for value, label in known.items():
        p.place(label)
        words = f": {_WORDS[value]}\n"
        p.call("write", 2, words, len(words), on=((0, quiet),))
        p.go(quiet)
    p.place(quiet)
    p.when("if_equal", number, errno.ENOENT, missing := Label())
    p.call("exit_group", 126)
    p.place(missing)
    p.call("exit_group", 127)
