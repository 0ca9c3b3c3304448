"""Run a program of the host on a tree; its processes and mounts end with it (host_program_init.py)."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolkit.bootstrap.sandbox.build_log import BuildLog
from toolkit.bootstrap.sandbox.host_program_init import Settings
from toolkit.bootstrap.sandbox.sandbox import ended
from toolkit.bootstrap.sandbox.sandbox_init import receive, send
from toolkit.children import interpreter
from toolkit.errors import BuildFailed, HostLacks

_TAIL_LINES = 20
_LINE_LIMIT_BYTES = 1 << 16
_GRACE_S = 10.0


def run(
    argv: Sequence[str],
    *,
    doing: str,
    environment: Mapping[str, str],
    log_path: str,
    line: Callable[[str], None],
    status: Callable[[str], None] | None = None,
    target: str = "",
    emulate: bytes = b"",
) -> None:
    """Run the program to its end, in the caller's working directory and with no input.

    Its output goes to `log_path` and line by line to `line`; what it writes to descriptor 3 goes to `status`. While it
    runs, the tree `target` has /proc, /sys and /dev mounted for chroot(8). Raises BuildFailed(doing) for an exit code
    other than 0, and HostLacks if the namespaces can't be made.
    """
    settings = Settings(argv=list(argv), environment=dict(environment), target=target, emulate=emulate)
    tail: list[str] = []

    def keep(text: str) -> None:
        tail.append(text)
        del tail[:-_TAIL_LINES]
        line(text)

    log = BuildLog(log_path)
    try:
        answer = _run_isolated(settings, log, keep, status or (lambda _: None))
    finally:
        log.close()
    if isinstance(answer, dict):
        raise HostLacks(doing, because=answer["error"], hint="in a container this needs CAP_SYS_ADMIN")
    if answer != 0:
        because = "the process around it died" if answer is None else ended(answer)
        raise BuildFailed(doing, because=because, tail=tuple(tail), log=log_path)


def _run_isolated(settings: Settings, log: BuildLog, line: Callable[[str], None], status: Callable[[str], None]) -> Any:
    """Run the program under a process 1. Returns its exit code, {"error": …} without namespaces, None if that died."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(4)]
    (request_in, requests), (replies, reply_out), (output, output_in), (statuses, status_in) = pipes
    try:
        try:
            child = _start(request_in, reply_out, output_in, status_in)
        finally:
            for fd in (request_in, reply_out, output_in, status_in):
                os.close(fd)
        try:
            log.write(f"+ {' '.join(settings['argv'])}\n".encode())
            send(requests, settings)
            _pass_on({output: line, statuses: status}, output, log)
            return receive(replies)
        finally:
            _end(child)
    finally:
        for fd in (requests, replies, output, statuses):
            os.close(fd)


def _start(requests: int, replies: int, output: int, status: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        interpreter.command("toolkit.bootstrap.sandbox.host_program_init", requests, replies, status, os.getpid()),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(requests, replies, status),
        start_new_session=True,
        env={},
    )


def _pass_on(takers: Mapping[int, Callable[[str], None]], output: int, log: BuildLog) -> None:
    """Read both pipes until no process holds them any more; all of them die with process 1."""
    rest = dict.fromkeys(takers, b"")
    poll = select.poll()
    for fd in takers:
        poll.register(fd, select.POLLIN)
    while rest:
        for fd, _ in poll.poll():
            data = os.read(fd, 65536)
            if fd == output and data:
                log.write(data)
            lines = (rest[fd] + data).split(b"\n")
            rest[fd] = lines.pop()[-_LINE_LIMIT_BYTES:]
            if not data:
                lines += [last] if (last := rest.pop(fd)) else []
                poll.unregister(fd)
            for raw in lines:
                takers[fd](raw.decode("utf-8", "replace").rstrip("\r"))


def _end(child: "subprocess.Popen[bytes]") -> None:
    """End every process of the program. Returns once they are gone."""
    child.send_signal(signal.SIGTERM)
    while True:
        try:
            child.wait(_GRACE_S)
            return
        except subprocess.TimeoutExpired:
            child.kill()
        except KeyboardInterrupt:
            continue  # the end is under way already; returning now would leave processes behind
