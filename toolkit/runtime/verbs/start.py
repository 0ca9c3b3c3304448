"""`start`: run the program of a created container."""

import errno
import os

from toolkit.errors import CtkError, LaunchFailed, reason
from toolkit.runtime import lifecycle, log, stops
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.oci.types import Hook, Process
    from toolkit.runtime.options import Options
    from toolkit.runtime.record import Record


def _startable(record: "records.Record", text: bytes) -> bool:
    """Whether config.json has a process; it is parsed only if that is not obvious from the text."""
    at = text.find(b'"process"') + 9
    return at > 8 and (b"".join(text[at : at + 80].split())[:2] == b":{" or bool(record.config().get("process")))


def run(options: "Options") -> int:
    """Start it. Raises CtkError."""
    record = records.load(options.root, options.id)
    if not record.lock(wait=False):
        from toolkit.runtime import removal

        removal.lock(record)  # waits, but not forever
    record.reload()
    lifecycle.require(record, "start")
    # Only a spec with hooks must be parsed again, so search the text first.
    text = record.config_text()
    hooks_of = record.config().get("hooks") or {} if b'"hooks"' in text else {}
    startable = _startable(record, text)
    start_hooks = (startable and hooks_of.get("startContainer")) or ()
    listener = None
    if os.environ.get("NOTIFY_SOCKET"):
        from toolkit.runtime import notify

        listener = notify.listener_for(record, record.pid)
    release(record, start_hooks, record.config()["process"] if start_hooks else {})
    if not startable:
        # The created process ends, having nothing to execute. The runtime spec demands an error, which goes to the log;
        # the exit code is that of crun, which runtime-tools' test of `start` expects. (runc refuses `create`.)
        log.error("config.json: process: is required to start a container: it is stopped now")
        return 0
    if hooks_of.get("poststart"):
        from toolkit.runtime import hooks, removal

        try:
            hooks.run("poststart", hooks_of["poststart"], hooks.state_for(record, "running", record.pid))
        except CtkError:
            # runc and crun remove the container then.
            removal.delete(record, force=True)
            raise
    if listener is not None:
        record.unlock()
        listener.wait(record)
    return 0


def release(record: "Record", hooks_of_start: "Sequence[Hook]", the_process: "Process") -> None:
    """Run the startContainer hooks and let the waiting process go on to its program. Raises CtkError."""
    if hooks_of_start:
        from toolkit.runtime import entering

        entering.run_start_hooks(record, hooks_of_start, the_process)
    try:
        fd = os.open(record.fifo_path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        because = reason(error)
        if error.errno == errno.ENXIO:
            because = "container process is already dead"
        raise LaunchFailed(f"start container {record.id!r}", because=because) from None
    # Remove the name first: from now on the container counts as running, and a second start finds no fifo.
    stops.passed()
    os.unlink(record.fifo_path)
    stops.passed()
    os.write(fd, b"0")
    stops.passed()
    os.close(fd)
