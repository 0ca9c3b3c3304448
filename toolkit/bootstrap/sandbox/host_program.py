"""Run a program of the host's that works on a tree, so that nothing of it stays (host_program_init.py)."""

import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from toolkit.bootstrap.sandbox import interpreter
from toolkit.bootstrap.sandbox.build_log import BuildLog
from toolkit.bootstrap.sandbox.host_program_init import Settings
from toolkit.bootstrap.sandbox.sandbox import ended
from toolkit.bootstrap.sandbox.sandbox_init import receive, send
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
    """Run it to its end in the caller's working directory, with no input.

    Its output goes to `log_path` and line by line to `line`, what it writes to descriptor 3 to `status`. With `target`
    that tree has /proc, /sys and /dev for chroot(8) meanwhile. Raises BuildFailed(doing) for an exit code other than 0,
    HostLacks without the namespaces.
    """
    log = BuildLog(log_path)
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(4)]
    (request_in, requests), (replies, reply_out), (output, output_in), (statuses, status_in) = pipes
    theirs, ours = (request_in, reply_out, output_in, status_in), (requests, replies, output, statuses)
    try:
        try:
            child = subprocess.Popen(
                interpreter.command(
                    "toolkit.bootstrap.sandbox.host_program_init", request_in, reply_out, status_in, os.getpid()
                ),
                stdin=subprocess.DEVNULL,
                stdout=output_in,
                stderr=output_in,
                pass_fds=(request_in, reply_out, status_in),
                start_new_session=True,
                env={},
            )
        finally:
            for fd in theirs:
                os.close(fd)
        try:
            log.write(f"+ {' '.join(argv)}\n".encode())
            settings = Settings(argv=list(argv), environment=dict(environment), target=target, emulate=emulate)
            send(requests, settings)
            tail: list[str] = []

            def say(text: str) -> None:
                tail.append(text)
                del tail[:-_TAIL_LINES]
                line(text)

            _pass_on({output: say, statuses: status or (lambda _: None)}, output, log)
            answer = receive(replies)
        finally:
            _end(child)
    finally:
        for fd in ours:
            os.close(fd)
        log.close()
    if isinstance(answer, dict):
        raise HostLacks(doing, because=answer["error"], hint="in a container this needs CAP_SYS_ADMIN")
    if answer != 0:
        because = "the process around it died" if answer is None else ended(answer)
        raise BuildFailed(doing, because=because, tail=tuple(tail), log=log_path)


def _pass_on(takers: Mapping[int, Callable[[str], None]], output: int, log: BuildLog) -> None:
    """Read both pipes to their ends: to that of the last process that holds them, which process 1 takes with it."""
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
    """End everything; returns when the kernel has."""
    child.send_signal(signal.SIGTERM)
    while True:
        try:
            child.wait(_GRACE_S)
            return
        except subprocess.TimeoutExpired:
            child.kill()
        except KeyboardInterrupt:
            continue  # it is under way already; leaving now would leave processes
