"""Delete a container: its processes, its cgroups, its record, its poststop hooks, in this order.

Each step may find that it was already done: if we are killed in between, the record stays and `delete --force` goes on.
"""

import errno
import os

from toolkit.errors import CtkError, Invalid, LaunchFailed, SystemCall
from toolkit.kernel import atomic, reading
from toolkit.runtime import lifecycle, log, signals, stops
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.oci.types import Hook
    from toolkit.runtime.record import Record

_KILL_TIMEOUT_S = 10.0


def kill(record: "Record") -> None:
    """End the container's first process with SIGKILL and wait for it. Raises CtkError if it does not end."""
    try:
        pidfd = signals.open_init(record)
    except CtkError:
        return
    try:
        signals.send(pidfd, signals.SIGKILL)
        let_end(record)
        if not signals.wait_for_end(pidfd, 1.0):
            _take_back(record)
        if not signals.wait_for_end(pidfd, _KILL_TIMEOUT_S):
            raise CtkError(
                "container init still running",
                because=f"process {record.pid} did not end within {_KILL_TIMEOUT_S:.0f} s of SIGKILL",
                hint=f"it may hang in the kernel: see /proc/{record.pid}/stack",
            )
    finally:
        os.close(pidfd)


def let_end(record: "Record") -> None:
    """After a SIGKILL: thaw the container's cgroup and the frozen cgroups in it, so that all processes end.

    On cgroup v1 a frozen process does not even react to SIGKILL, and the init of a pid namespace ends after all others.
    """
    if record.cgroups:
        from toolkit.runtime import cgroups

        try:
            cgroups.from_facts(record.cgroups).let_end()
        except Invalid:
            pass  # damaged facts; destroy() reports them


def thaw(record: "Record") -> None:
    """Thaw the container's cgroup, so that its processes receive signals. Raises SystemCall.

    The cgroup may be gone: systemd removes a scope when its last process, which we killed, has left it.
    """
    if record.cgroups and lifecycle.frozen(record):
        from toolkit.runtime import cgroups

        try:
            cgroups.from_facts(record.cgroups).thaw()
        except SystemCall as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise


def _take_back(record: "Record") -> None:
    """Move the first process back into the container's own cgroups: it may have been moved into a frozen one.

    A v1 freezer thaws a task that is moved into a thawed cgroup (kernel/cgroup/legacy_freezer.c, freezer_attach).
    """
    if not record.cgroups:
        return
    from toolkit.runtime import cgroups

    try:
        cgroups.from_facts(record.cgroups).join(record.pid)
    except (CtkError, OSError) as error:
        log.debug(f"move process {record.pid} into its cgroups: {error}")


def destroy(record: "Record") -> None:
    """Remove a container whose first process has ended, and call its poststop hooks. Hold the record's lock.

    Raises CtkError if a process or a cgroup is left. A failing hook is logged and does not stop the rest (runtime spec,
    config.md, "Poststop").
    """
    if record.cgroups and lifecycle.of_this_boot(record):
        from toolkit.runtime import cgroups

        try:
            manager = cgroups.from_facts(record.cgroups)
        except Invalid as error:
            log.warning(f"cannot remove its cgroups: {error}")
        else:
            # Without a pid namespace of its own, children outlive the first process; a half-made container's may, too.
            manager.kill()
            stops.passed()
            manager.delete()
            stops.passed()
    if record.extra.get("networks"):
        from toolkit.runtime.comfort import networks

        networks.release(record)
        stops.passed()
    hooks = _poststop_hooks(record)
    record.remove()
    stops.passed()
    record.unlock()
    if hooks:
        _poststop(record, hooks)


def _poststop_hooks(record: "Record") -> "list[Hook]":
    """The poststop hooks of the container's config.json; [] if that is broken, because a deletion must go on.

    [] also for a torn record: nothing proves that its config.json belongs to a container that was ever made.
    """
    if record.torn:
        return []
    try:
        # Search the text before parsing it: few containers have hooks.
        if b'"hooks"' not in record.config_text():
            return []
        spec: Any = record.config()
    except CtkError:
        return []
    from toolkit.oci import check

    hooks = spec.get("hooks") if isinstance(spec, dict) else None
    if not hooks or check.hooks_errors(hooks):
        return []
    found: "list[Hook]" = hooks.get("poststop") or []
    return found


def _poststop(record: "Record", entries: "list[Hook]") -> None:
    from toolkit.oci.json_text import dumps
    from toolkit.oci.state import for_hooks
    from toolkit.runtime import hooks

    state = dumps(for_hooks(record.id, 0, "stopped", record.bundle, record.annotations)).encode()
    for index, hook in enumerate(entries):
        try:
            hooks.run("poststop", [hook], state)
        except LaunchFailed as error:
            reason = error.because.replace("exit status", "exit code")
            log.warning(f"poststop hook failed with {reason} (hooks.poststop[{index}])")


_CHECKPOINT = "checkpoint"  # in the record's folder: pid and start time of the criu that saves the container


def note_checkpoint(record: "Record", pid: int) -> None:
    """Record which criu is running, for a forced deletion. Raises OSError."""
    facts = lifecycle.process_facts(pid)
    atomic.replace(f"{record.folder}/{_CHECKPOINT}", b"%d %d" % (pid, facts[1] if facts else 0))


def forget_checkpoint(record: "Record") -> None:
    """Remove the note: criu has ended."""
    try:
        os.unlink(f"{record.folder}/{_CHECKPOINT}")
    except FileNotFoundError:
        pass


def _end_checkpoint(record: "Record") -> None:
    """Stop a checkpoint in progress, and the container with it.

    criu may wait forever for a client of its page server. Meanwhile the `checkpoint` that started it holds the record's
    lock, and criu traces the container's processes by ptrace(2): a dead one remains a zombie as long as that lasts, and
    a pid namespace ends only with its last process.
    """
    try:
        pid, _, start_time = reading.read(f"{record.folder}/{_CHECKPOINT}").partition(b" ")
        criu, started = int(pid), int(start_time)
        criu_fd = os.pidfd_open(criu)
    except (OSError, ValueError, OverflowError):
        return  # the usual case: there is none
    try:
        facts = lifecycle.process_facts(criu)
        if facts is None or facts[1] != started or not lifecycle.of_this_boot(record):
            return
        try:
            init_fd = signals.open_init(record)  # first: a process that criu releases would run on
        except CtkError:
            pass
        else:
            signals.send(init_fd, signals.SIGKILL)
            os.close(init_fd)
        signals.send(criu_fd, signals.SIGKILL)
    finally:
        os.close(criu_fd)


def lock(record: "Record", timeout_s: float = 10.0) -> None:
    """Take the record's lock and read its facts again. Raises NotFound, or CtkError if another verb keeps the lock."""
    import time

    end = time.monotonic() + timeout_s
    while not record.lock(wait=False):
        if time.monotonic() > end:
            raise CtkError(
                f'container "{record.id}" is busy',
                because="another command has been using it for 10 s",
                hint=f"find it: fuser {quote(record.folder)}",
            )
        time.sleep(0.01)
    record.reload()


def delete(record: "Record", *, force: bool) -> None:
    """Delete a container. Raises NotFound, and CtkError if it is running and not `force`."""
    if force:
        _end_checkpoint(record)
    lock(record)
    if force or lifecycle.require(record, "delete") == "created":
        kill(record)
        stops.passed()
    destroy(record)
