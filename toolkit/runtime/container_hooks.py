"""The createContainer hooks, run by the container's program: in its namespaces, before its root is `/`.

They are programs of the host, which is still visible then, and get the state on standard input like all hooks
(hooks.py). A startContainer hook is a program of the root, and run by `start` (entering.py).
"""

import errno
import os

from toolkit.errors import CtkError
from toolkit.kernel import process
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.errors import SystemCall
    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Hook

KIND = "createContainer"
_SIGCHLD, _SIGKILL = 17, 9
_POLLIN = 1
# Failures of ours, beside the errnos: a hook that took too long, and one that ended as its wait status says.
_TOO_LATE, _ENDED = 4096, 8192


class Streams:
    """The files that the hooks read from and write to, made before the container's process; close-on-exec."""

    __slots__ = ("_output", "_state", "fds", "folder")

    def __init__(self, folder: str) -> None:
        """`folder`: where the hooks start, "" for the container's root. Raises OSError."""
        self.folder = folder
        self._state = os.memfd_create("state")
        self._output = os.memfd_create("output")
        self.fds = hooks.streams(self._state, self._output)

    def put(self, state: bytes) -> None:
        """Write the state's JSON, which has the pid, once that is known."""
        os.write(self._state, state)

    def printed(self) -> str:
        """The end of what the hooks have written."""
        return hooks.end_of(self._output)

    def close(self) -> None:
        """Close the files that are ours."""
        os.close(self._state)
        os.close(self._output)


def emit(p: "Program", listed: "Sequence[Hook]", streams: Streams, root: Cell) -> None:
    """Run the hooks in order; the first that fails is the program's failure. `root`: the container's."""
    if not listed:
        return
    if streams.folder:
        p.call("chdir", streams.folder)
    else:
        p.call("fchdir", root)
    for index, hook in enumerate(listed):
        _run(p, index, hook, streams)
    p.owned_by(None)


def _run(p: "Program", index: int, hook: "Hook", streams: Streams) -> None:
    timeout = hook.get("timeout")

    def failed(error: "SystemCall") -> CtkError:
        if error.errno == _TOO_LATE:
            because = f"it did not end within {timeout} s, its timeout"
        elif error.errno >= _ENDED:
            because = hooks.ended_by(error.errno - _ENDED, streams.printed())
        else:
            because = f"fork/exec {hook['path']}: {error.because}"
        return hooks.failure(KIND, index, hook, because)

    pid, pidfd, ready, status, ended = p.cell(), p.cell(), p.cell(), p.room(8), p.cell()
    is_child, fine = Label(), Label()
    p.owned_by(failed)
    p.call("lseek", streams.fds[0], 0, os.SEEK_SET)
    p.call("clone", _SIGCHLD, 0, 0, 0, 0, result=pid)
    p.when("if_equal", pid, 0, is_child)
    if timeout is not None:
        late, in_time = Label(), Label()
        waited = p.room(8)
        p.call("pidfd_open", pid, 0, result=pidfd)
        p.own("set", pidfd, result=Cell(waited - MEMORY))
        p.own("add", Cell(waited - MEMORY), _POLLIN << 32, result=Cell(waited - MEMORY))  # struct pollfd
        p.call("ppoll", waited, 1, p.words(timeout, 0), 0, 8, result=ready)
        p.call("close", pidfd)
        p.when("if_equal", ready, 0, late)
        p.go(in_time)
        p.place(late)
        p.call("kill", pid, _SIGKILL)
        p.call("wait4", pid, 0, 0, 0)
        p.fail(_TOO_LATE)
        p.place(in_time)
    again = p.placed()
    p.call("wait4", pid, status, 0, 0, on=((errno.EINTR, again),))
    p.own("and", Cell(status - MEMORY, 4), 0xFFFF, result=ended)
    p.when("if_equal", ended, 0, fine)
    p.own("add", ended, _ENDED, result=ended)
    p.own("fail", ended)
    p.place(is_child)
    for number, fd in enumerate(streams.fds):
        p.call("dup3", fd, number, 0)
    p.call("close_range", 3, 0xFFFFFFFF, process.CLOSE_RANGE_CLOEXEC)
    arguments, environment = hooks.words(hook)
    p.call("execve", hook["path"], p.strings(arguments), p.strings(environment))
    p.place(fine)
