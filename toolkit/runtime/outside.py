"""The host side of setting up a container's process, by its pid on the host: for `create`, `run` and `exec`.

Separate from launch.py, so that `exec` does not load everything that makes a container.
"""

import _signal
import os

from toolkit.errors import CtkError, LaunchFailed, reason
from toolkit.kernel import atomic


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid for the engine, all or nothing. Raises CtkError."""
    try:
        atomic.replace(path, str(pid).encode(), mode=0o666)
    except OSError as error:
        raise CtkError(f"write pid file {path!r}", because=reason(error)) from None


def write_oom_score(pid: int, score: int) -> None:
    """Set process.oomScoreAdj from the parent, which has the privilege to lower it. Raises LaunchFailed."""
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(score).encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise LaunchFailed(
            f"set oom_score_adj to {score} (process.oomScoreAdj)",
            because=reason(error),
            hint="lowering it below the caller's takes CAP_SYS_RESOURCE",
        ) from None


def hold_signals() -> "set[int]":
    """Block every signal, to be received by sigwaitinfo(2) later; returns the previous mask."""
    before: "set[int]" = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    return before
