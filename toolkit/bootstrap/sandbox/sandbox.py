"""Run programs inside a tree that is being built, isolated from the host (how: sandbox_init.py).

`with Sandbox(...) as sandbox: sandbox.run([...])`. When the block ends, normally or by an exception, every process of
the build is dead and every mount is gone.
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from toolkit.bootstrap.sandbox.build_log import BuildLog
from toolkit.bootstrap.sandbox.sandbox_init import Request, Settings, receive, send
from toolkit.children import interpreter
from toolkit.errors import BuildFailed, CtkError, HostLacks

_KEPT_LINES = 500
_TAIL_LINES = 20
_LINE_LIMIT_BYTES = 1 << 16
_GRACE_S = 10.0

# Nothing of the caller's environment reaches a maintainer script: it may hold passwords, and it would change the tree.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "SHELL": "/bin/sh",
    "TERM": "dumb",
    "LANG": "C",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "SYSTEMD_OFFLINE": "1",  # systemctl then only writes files; in debootstrap's chroot it finds out by itself
}


class Sandbox:
    """Namespaces of a tree, in which programs run one after another.

    `line` is called with each line of output, `status` with each line on descriptor 3 (dpkg's --status-fd). All output
    is appended to the file `log_path` (build_log.py). `emulate` registers another architecture's emulator for these
    programs alone (emulation.py). `rootfd` is the tree, opened earlier: its path must still lead to the same folder.
    Entering raises HostLacks if it does not, or if the kernel refuses the namespaces; `run` raises BuildFailed.
    """

    def __init__(
        self,
        target: str,
        log_path: str,
        line: Callable[[str], None],
        status: Callable[[str], None],
        *,
        hostname: str = "",
        sync: bool = False,
        emulate: bytes = b"",
        rootfd: int = -1,
    ) -> None:
        self._target = os.path.realpath(target)
        self._log_path = log_path
        self._line = line
        self._status = status
        name = hostname or os.uname().nodename
        self._settings = Settings(target=self._target, place=_place(rootfd), hostname=name, sync=sync, emulate=emulate)
        self._lines: list[str] = []
        self._rest = {True: b"", False: b""}
        self._process: subprocess.Popen[bytes] | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._log = BuildLog(self._log_path)
            undo.callback(self._log.close)
            theirs = []
            ours = []
            for forward in (True, False, False, False):
                read, write = os.pipe2(os.O_CLOEXEC)
                ours.append(write if forward else read)
                theirs.append(read if forward else write)
                undo.callback(os.close, ours[-1])
            self._requests, self._replies, self._output, self._statuses = ours
            for fd in (self._output, self._statuses):
                os.set_blocking(fd, False)
            try:
                # A session of its own: Ctrl-C on the terminal reaches ctk alone, which then ends this process in order.
                self._process = subprocess.Popen(
                    interpreter.command("toolkit.bootstrap.sandbox.sandbox_init", *theirs, os.getpid()),
                    stdin=subprocess.DEVNULL,
                    stdout=theirs[2],
                    stderr=theirs[2],
                    pass_fds=theirs,
                    start_new_session=True,
                    cwd="/",
                    env={},
                )
            finally:
                for fd in theirs:
                    os.close(fd)
            undo.callback(self._end)
            send(self._requests, self._settings)
            answer = self._wait()
            if answer != {}:
                because = answer["error"] if isinstance(answer, dict) else "\n".join(self._lines[-3:])
                raise HostLacks(
                    f"isolate the build in {self._target!r}",
                    because=because or "its first process died",
                    hint="in a container this needs CAP_SYS_ADMIN; run `ctk doctor` for details",
                )
            self._open = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run(
        self,
        argv: list[str],
        *,
        doing: str,
        environment: dict[str, str] | None = None,
        stdin: bytes = b"",
        accept: tuple[int, ...] = (0,),
    ) -> int:
        """Run a program of the tree and return its exit code. `argv[0]` is a path in the tree.

        `environment` is added to ENVIRONMENT. Raises BuildFailed(doing) for an exit code that is not in `accept`.
        """
        self._lines.clear()
        self._log.write(f"+ {' '.join(argv)}\n".encode())
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        extra = {"SOURCE_DATE_EPOCH": epoch} if epoch else {}
        request = Request(argv=argv, environment={**ENVIRONMENT, **extra, **(environment or {})}, stdin=stdin)
        try:
            send(self._requests, request)
            code = self._wait()
        except BrokenPipeError:
            code = None
        if not isinstance(code, int):
            raise self._failed(doing, "the build's first process died")
        if code not in accept:
            raise self._failed(doing, ended(code))
        return code

    def output(self) -> list[str]:
        """The output of the program that ran last: its last 500 lines at most."""
        return self._lines[-_KEPT_LINES:]

    def _failed(self, doing: str, because: str) -> CtkError:
        return BuildFailed(doing, because=because, tail=tuple(self._lines[-_TAIL_LINES:]), log=self._log_path)

    def _wait(self) -> object:
        """Pass output on until the next reply, and return that; None if process 1 is gone."""
        poll = select.poll()
        for fd in (self._replies, self._output, self._statuses):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            for fd in (self._output, self._statuses):
                if fd in ready and not self._pass_on(fd):
                    poll.unregister(fd)
            if self._replies in ready:
                answer = receive(self._replies)
                # All output from before the reply is in the pipes by now. What a daemon still writes is not waited
                # for: it might never end.
                for fd in (self._output, self._statuses):
                    left = waiting(fd)
                    while left > 0 and (taken := self._pass_on(fd)):
                        left -= taken
                return answer

    def _pass_on(self, fd: int) -> int:
        """Read once from the output or the status pipe and pass the lines on. Returns the number of bytes read."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return 0
        is_output = fd == self._output
        if is_output and data:
            self._log.write(data)
        lines = (self._rest[is_output] + data).split(b"\n")
        self._rest[is_output] = lines.pop()[-_LINE_LIMIT_BYTES:]
        for raw in lines:
            text = raw.decode("utf-8", "replace").rstrip("\r")
            if not is_output:
                self._status(text)
                continue
            self._lines.append(text)
            if len(self._lines) > 2 * _KEPT_LINES:
                del self._lines[:-_KEPT_LINES]
            self._line(text)
        return len(data)

    def _end(self) -> None:
        """End every process inside. Returns once they are gone."""
        child = self._process
        if child is None:
            return
        child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while child.poll() is None and time.monotonic() < deadline:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                break
            except KeyboardInterrupt:
                continue  # the end is under way already; returning now would leave processes behind
        if child.poll() is None:
            child.kill()
            child.wait()


def _place(rootfd: int) -> tuple[int, int]:
    about = os.fstat(rootfd) if rootfd >= 0 else None
    return (about.st_dev, about.st_ino) if about else (0, 0)


def waiting(fd: int) -> int:
    """The number of unread bytes in a pipe (FIONREAD)."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def ended(code: int) -> str:
    """How a program ended, in words. `code` is from os.waitstatus_to_exitcode."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
