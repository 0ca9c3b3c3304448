"""Stay with a process until it ends: signals forwarded, the terminal relayed, orphans reaped (runc run, runc exec)."""

import _signal
import os
import sys

from toolkit import preload
from toolkit.kernel import terminal

SIGCHLD, SIGPIPE, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH = 17, 13, 21, 22, 23, 28
signal_of_end = 0  # the signal that ended the process of `wait`, if any: its exit code alone could mean an exit()
_KEPT = frozenset((SIGCHLD, SIGPIPE, SIGURG))  # for us: not forwarded to the container


def wait(pid: int) -> int:
    """The exit code of `pid`, 128 + N for signal N. Block all signals (outside.hold_signals) before the clone.

    If a terminal or anything else must be served meanwhile, use `relay.run` instead.
    """
    preload.hold()
    while True:
        code = reap(pid)
        if code >= 0:
            return code
        info = _signal.sigwaitinfo(_signal.valid_signals())
        if info.si_signo not in _KEPT:
            _forward(pid, info.si_signo)


def reap(pid: int) -> int:
    """The exit code of `pid` if it has ended, else -1. Other children, orphans that we adopted, are reaped."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 255  # something else reaped it
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
    """Forward the signals whose numbers came through the wake-up pipe, except those for us."""
    for number in numbers:
        if number not in _KEPT:
            _forward(pid, number)


def wake_up() -> int:
    """Turn every signal into a byte in a pipe, unblock the signals, and return the pipe's reading end."""
    preload.hold()
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _signal.valid_signals():
        if number not in (9, 19):  # SIGKILL, SIGSTOP
            _signal.signal(number, _no_op)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    return reading


def _no_op(number: int, frame: object) -> None:
    """A handler that does nothing: the wake-up pipe has the signal's number already."""


def as_a_job() -> None:
    """Let the kernel stop us when we use the shell's terminal in the background, like any job (setpgid(2)).

    If these signals were handled like the others they would never stop: the call that caused them is restarted and
    causes them again.
    """
    for number in (SIGTTIN, SIGTTOU):
        _signal.signal(number, _signal.SIG_DFL)


def resize(master: int) -> None:
    """Set the size of a container's terminal to that of ours, if we have one."""
    try:
        terminal.set_size(master, terminal.get_size(0))
    except OSError:
        pass


def become_subreaper() -> None:
    """Adopt the container's orphans, so that they end with it and not with init (prctl(2))."""
    from toolkit.kernel import process

    process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)


def flush() -> None:
    """Flush Python's own buffers before the container writes."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
