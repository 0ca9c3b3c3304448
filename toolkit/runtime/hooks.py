"""Hooks: programs that config.json names for six points of a container's life.

A hook gets the state on its standard input; its argv[0] is `args[0]`, whatever `path` is (runtime spec, config.md,
"POSIX-platform Hooks").
"""

import _signal
import os

from toolkit.errors import CtkError, LaunchFailed, reason
from toolkit.oci import json_text, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.oci.types import Hook
    from toolkit.runtime.record import Record

    Start = Callable[[Hook, list[str], tuple[int, int, int]], int]

# crun's annotation run.oci.hooks.stdout, and the one for stderr: descriptors for the output of hooks.
_outputs: "dict[int, int]" = {}


def send_output(annotations: "dict[str, str]") -> None:
    """Carry out the annotations run.oci.hooks.stdout and run.oci.hooks.stderr. Raises LaunchFailed.

    Engines copy an image's annotations into config.json (podman does), so the image may choose the file: it must be an
    empty, private one that the caller has made for this. crun appends to any file.
    """
    for number, key in ((1, "run.oci.hooks.stdout"), (2, "run.oci.hooks.stderr")):
        path = annotations.get(key)
        if not path:
            continue
        from toolkit.kernel import mounts

        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise LaunchFailed(f"open {path!r} (annotation {key})", because=reason(error)) from None
        status = os.fstat(fd)
        private = status.st_mode & 0o170077 == 0o100000 and status.st_uid == os.geteuid() and status.st_size == 0
        if not private or mounts.fstatfs_type(fd) in (mounts.PROC_SUPER_MAGIC, mounts.SYSFS_MAGIC):
            os.close(fd)
            raise LaunchFailed(
                f"write hooks' output to {path!r} (annotation {key})",
                because="it is not an empty file of the caller's own with mode 0600",
                hint="make it first, for example with `mktemp`",
            )
        _outputs[number] = fd


def run(kind: str, hooks: "Sequence[Hook]", state: bytes, start: "Start | None" = None) -> None:
    """Run the hooks of one kind in order; `state` is the state's JSON. Raises LaunchFailed naming kind and index.

    `start`: starts a hook with these arguments and standard streams, and returns its pid, or raises CtkError; by
    default beside us.
    """
    for index, hook in enumerate(hooks):
        problem = _run_one(hook, state, start or _spawn)
        if problem:
            raise failure(kind, index, hook, problem)


def failure(kind: str, index: int, hook: "Hook", problem: str) -> LaunchFailed:
    """The error for a hook that failed."""
    return LaunchFailed(
        f"error running {kind} hook #{index}", because=problem, hint=f"hooks.{kind}[{index}]: {hook['path']}"
    )


def words(hook: "Hook") -> "tuple[list[str], list[str]]":
    """(arguments, environment) of a hook."""
    arguments = list(hook.get("args") or (hook["path"],))
    arguments[0] = arguments[0] or hook["path"]  # Python's posix_spawn refuses an empty argv[0]
    if "env" in hook:
        # It does not accept a variable without a name either.
        return arguments, [entry for entry in hook["env"] or () if entry.partition("=")[0]]
    # Without it the hook gets the runtime's own environment (as in runc and crun).
    return arguments, [f"{name}={value}" for name, value in os.environ.items()]


def streams(state: int, output: int) -> "tuple[int, int, int]":
    """The standard streams of a hook, if no annotation says otherwise."""
    return state, _outputs.get(1, output), _outputs.get(2, output)


def end_of(output: int) -> str:
    """The end of what was written to a file."""
    size = os.lseek(output, 0, os.SEEK_END)
    os.lseek(output, max(0, size - 4096), os.SEEK_SET)
    return os.read(output, 4096).decode("utf-8", "replace").strip()


def ended_by(status: int, printed: str) -> str:
    """How a process ended, by its wait status, and what it had written."""
    code = os.waitstatus_to_exitcode(status)
    how = f"exit status {code}" if code > 0 else f"signal: {(_signal.strsignal(-code) or str(-code)).lower()}"
    return f"{how}, output: {printed}" if printed else how


def _spawn(hook: "Hook", arguments: "list[str]", streams: "tuple[int, int, int]") -> int:
    try:
        return os.posix_spawn(
            hook["path"],
            arguments,
            dict(entry.partition("=")[::2] for entry in words(hook)[1]),
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)],
            setsigmask=(),
            setsigdef=(13, 25, 2, 15),  # Python ignores SIGPIPE and SIGXFSZ; SIGINT and SIGTERM may be blocked
        )
    except OSError as error:
        raise LaunchFailed(f"fork/exec {hook['path']}", because=reason(error)) from None


def _run_one(hook: "Hook", state: bytes, start: "Start") -> str:
    """The error, "" on success."""
    from toolkit.runtime import signals

    given = os.memfd_create("state")
    output = os.memfd_create("output")
    try:
        os.write(given, state)
        os.lseek(given, 0, os.SEEK_SET)
        try:
            pid = start(hook, words(hook)[0], streams(given, output))
        except CtkError as error:
            return str(error)
        timeout = hook.get("timeout")
        if timeout is not None:
            pidfd = os.pidfd_open(pid)
            ended = signals.wait_for_end(pidfd, timeout)
            os.close(pidfd)
            if not ended:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                return f"it did not end within {timeout} s, its timeout"
        status = os.waitpid(pid, 0)[1]
        return ended_by(status, end_of(output)) if status else ""
    finally:
        os.close(given)
        os.close(output)


def state_for(rec: "Record", status: str, pid: int) -> bytes:
    """The state's JSON for hooks; with pid 0 the pid is left out (a stopped container has none)."""
    return json_text.dumps(state.for_hooks(rec.id, pid, status, rec.bundle, rec.annotations)).encode()
