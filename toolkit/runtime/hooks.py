"""Hooks: programs that config.json names for six points of a container's life.

A hook gets the state on its standard input; its argv[0] is `args[0]`, whatever `path` is (runtime spec, config.md,
"POSIX-platform Hooks").
"""

import _signal
import os

from toolkit.errors import CtkError, LaunchFailed, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.oci.types import Hook

    Start = Callable[[Hook, list[str], tuple[int, int, int]], int]

# Set before the clone, for the hooks that the child runs: returns the state's JSON for a pid of the host.
state_of: "Callable[[int], bytes] | None" = None
# Hooks of `create` start in the bundle, but with runc createContainer's start in the root. runc's test suite relies on
# that, crun's on the bundle: so it depends on the name that we are called by.
start_in_root = False
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
            raise LaunchFailed(
                f"error running {kind} hook #{index}", because=problem, hint=f"hooks.{kind}[{index}]: {hook['path']}"
            )


def _spawn(hook: "Hook", arguments: "list[str]", streams: "tuple[int, int, int]") -> int:
    environment = dict(os.environ)
    if "env" in hook:  # without it the hook gets the runtime's own environment (as in runc and crun)
        environment = dict(entry.partition("=")[::2] for entry in hook["env"] or ())
        environment.pop("", None)  # Python's posix_spawn refuses a variable without a name
    try:
        return os.posix_spawn(
            hook["path"],
            arguments,
            environment,
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
        arguments = list(hook.get("args") or (hook["path"],))
        arguments[0] = arguments[0] or hook["path"]  # Python's posix_spawn refuses an empty argv[0]
        streams = (given, _outputs.get(1, output), _outputs.get(2, output))
        try:
            pid = start(hook, arguments, streams)
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
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            return ""
        size = os.lseek(output, 0, os.SEEK_END)
        os.lseek(output, max(0, size - 4096), os.SEEK_SET)
        printed = os.read(output, 4096).decode("utf-8", "replace").strip()
        ended_by = f"exit status {code}" if code > 0 else f"signal: {(_signal.strsignal(-code) or str(-code)).lower()}"
        return f"{ended_by}, output: {printed}" if printed else ended_by
    finally:
        os.close(given)
        os.close(output)
