"""Stay with a process until it ends: signals forwarded, the terminal relayed, orphans reaped (runc run, runc exec)."""

import _signal
import os
import sys

from toolkit.kernel import terminal

SIGCHLD, SIGPIPE, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH = 17, 13, 21, 22, 23, 28
signal_of_end = 0  # that ended the process `wait` waited for, if one did: its exit code could also mean an exit()
_KEPT = frozenset((SIGCHLD, SIGPIPE, SIGURG))  # ours, not the container's


def wait(pid: int) -> int:
    """The exit code of `pid`, 128 + N for signal N. Every signal must be held (outside.hold_signals) before the clone.

    Where a terminal or anything else is to be looked after meanwhile, `relay.run` waits.
    """
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


def as_a_job() -> None:
    """Let the shell stop us when we use its terminal in the background, as it does with every job (setpgid(2)).

    Handled like the other signals they would never end: the call that made them is tried again, and makes them again.
    """
    for number in (SIGTTIN, SIGTTOU):
        _signal.signal(number, _signal.SIG_DFL)


def resize(master: int) -> None:
    """Give a container's terminal the size of ours, if we have one."""
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
