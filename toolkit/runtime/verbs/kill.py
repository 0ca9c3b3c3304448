"""`kill`: send a signal to the container's first process, or to all of its processes."""

import os

from toolkit.errors import CtkError
from toolkit.runtime import lifecycle, removal, signals
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options
    from toolkit.runtime.record import Record


def run(options: "Options") -> int:
    """Send the signal. Raises NotFound, CtkError ("container not running") unless `--all`."""
    container = records.load(options.root, options.id)
    signal = signals.parse((options.args and options.args[0]) or "TERM")
    # In a pid namespace of its own the kernel kills the rest with the first process; otherwise we have to.
    everyone = options.all or (signal == signals.SIGKILL and not _own_pid_namespace(container))
    if everyone and _to_all(container, signal):
        return 0
    try:
        pidfd = signals.open_init(container)
    except CtkError:
        if options.all:
            return 0  # no process is left; engines call `kill --all ID 9` after the end and expect success
        raise
    try:
        if not signals.send(pidfd, signal) and not options.all:
            raise CtkError("container not running", code="E013")
        if signal not in signals.HARMLESS and lifecycle.status(container) == "created":
            # A process that waits for `start` has no handlers, and the kernel drops such signals for the first process
            # of a pid namespace (pid_namespaces(7)). The default action would be to end, so we kill it, as runc does.
            signals.send(pidfd, signals.SIGKILL)
    finally:
        os.close(pidfd)
    if signal == signals.SIGKILL:
        removal.let_end(container)
    return 0


def _to_all(container: "Record", signal: int) -> bool:
    """Signal every process in the container's cgroup; returns whether there was one."""
    if not container.cgroups or not lifecycle.of_this_boot(container):
        return False
    from toolkit.runtime import cgroups

    manager = cgroups.from_facts(container.cgroups)
    pids = manager.pids()
    signals.send_to_pids(pids, signal)
    if signal == signals.SIGKILL:
        removal.let_end(container)
    return bool(pids)


def _own_pid_namespace(container: "Record") -> bool:
    try:
        spec = container.config()
        namespaces = spec["linux"]["namespaces"]
    except (CtkError, KeyError, TypeError):
        return False
    return any(entry.get("type") == "pid" and not entry.get("path") for entry in namespaces)
