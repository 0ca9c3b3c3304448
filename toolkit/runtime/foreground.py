"""Stay with a process until it ends: signals forwarded, the terminal relayed, orphans reaped (runc run, runc exec)."""

import _signal
import os
import sys

from toolkit.kernel import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGCHLD, SIGPIPE, SIGURG, SIGWINCH = 17, 13, 23, 28
signal_of_end = 0  # that ended the process `wait` waited for, if one did: its exit code could also mean an exit()
_KEPT = frozenset((SIGCHLD, SIGPIPE, SIGURG))  # ours, not the container's


def wait(pid: int, master: int = -1) -> int:
    """The exit code of `pid`, 128 + N for signal N. Every signal must be held (outside.hold_signals) before the clone.

    `master`: the master end of its terminal, relayed to our own standard streams.
    """
    if master >= 0:
        return _wait_with_terminal(pid, master)
    while True:
        code = reap(pid)
        if code >= 0:
            return code
        info = _signal.sigwaitinfo(_signal.valid_signals())
        if info.si_signo not in _KEPT:
            _forward(pid, info.si_signo)


def reap(pid: int) -> int:
    """The exit code of `pid` if it has ended, else -1. Other children are orphans that we adopted: reaped."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 255  # somebody else reaped it
        if ended == 0:
            return -1
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            global signal_of_end
            signal_of_end = max(-code, 0)
            return code if code >= 0 else 128 - code


def _forward(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def pass_on(pid: int, numbers: bytes) -> None:
    """Send on the signals that a wake-up pipe has told, but those that are ours."""
    for number in numbers:
        if number not in _KEPT:
            _forward(pid, number)


def _wait_with_terminal(pid: int, master: int) -> int:
    import select

    wake_read = wake_up()
    ours = os.isatty(0)
    before: "Any" = terminal.raw(0) if ours else None
    try:
        if ours:
            _resize(master)
        return _relay(pid, master, wake_read, select)
    finally:
        if before is not None:
            terminal.restore(0, before)


def wake_up() -> int:
    """Handle every signal by a byte in a pipe, and let the held ones come; the pipe's reading end."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _signal.valid_signals():
        if number not in (9, 19):  # SIGKILL, SIGSTOP
            _signal.signal(number, _no_op)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    return reading


def _no_op(number: int, frame: object) -> None:
    """The wake-up pipe has the number already."""


def _relay(pid: int, master: int, wake: int, select: "Any") -> int:
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    poll.register(0, select.POLLIN)
    poll.register(master, select.POLLIN)
    code = reap(pid)
    while code < 0:
        for fd, events in poll.poll():
            if fd == wake:
                numbers = os.read(wake, 512)
                if SIGWINCH in numbers and os.isatty(0):
                    _resize(master)
                    numbers = numbers.replace(bytes((SIGWINCH,)), b"")
                pass_on(pid, numbers)
                code = reap(pid)
            elif fd == master:
                if not _copy(master, 1):
                    poll.unregister(master)
            elif events & (select.POLLIN | select.POLLHUP) and not _copy(0, master):
                poll.unregister(0)
    # What it wrote last is still in the terminal.
    drain = select.poll()
    drain.register(master, select.POLLIN)
    while drain.poll(0):
        if not _copy(master, 1):
            break
    return code


def _copy(source: int, target: int) -> bool:
    """Copy what is there; False at the end (a pty whose other side is gone gives EIO)."""
    try:
        data = os.read(source, 65536)
        while data:
            data = data[os.write(target, data) :]
            if not data:
                return True
    except OSError:
        pass
    return False


def _resize(master: int) -> None:
    try:
        terminal.set_size(master, terminal.get_size(0))
    except OSError:
        pass


def become_subreaper() -> None:
    """Adopt the container's orphans, so that they end with it and not with init (prctl(2))."""
    from toolkit.kernel import process

    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)


def flush() -> None:
    """What Python itself holds back goes out before the container writes."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
