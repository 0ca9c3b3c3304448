"""The status of a container, computed from facts, and the verbs allowed in each.

    creating ──▶ created ──▶ running ◀──▶ paused
        └───────────┴──────────┴────────────┴──▶ stopped

| status   | facts                                                                                       |
|----------|---------------------------------------------------------------------------------------------|
| creating | no process yet, and another process holds the record's lock                                 |
| created  | the process is alive, and the fifo that it waits on exists                                  |
| paused   | the process is alive, and its cgroup is frozen                                              |
| running  | the process is alive                                                                        |
| stopped  | none of these: gone, a zombie, another process with its pid, or made before the last reboot |

A process is ours if its pid, start time and boot match; a pid alone may have been reused.
"""

import os

from toolkit.errors import CtkError, Invalid
from toolkit.kernel import reading
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.record import Record


def process_facts(pid: int) -> "tuple[str, int] | None":
    """State letter and start time (clock ticks since boot) of a process; None if it does not exist (proc(5))."""
    try:
        text = reading.read(f"/proc/{pid}/stat")
    except OSError:  # ESRCH too: it ended while we read
        return None
    # The name stands in parentheses, and may itself contain parentheses and spaces.
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode("ascii"), int(fields[19])


def alive(record: "Record") -> bool:
    """Whether the container's first process is alive; a zombie is not."""
    if record.pid <= 0 or record.torn:
        return False
    facts = process_facts(record.pid)
    if facts is None or facts[0] in "ZX" or facts[1] != record.start_time:
        return False
    return of_this_boot(record)


def of_this_boot(record: "Record") -> bool:
    """Whether the record was made since the host booted, as far as can be known.

    The cgroups that an older record names may belong to others now: no cgroup survives a reboot, and names are reused.
    """
    return not record.boot_id or records.boot_id() in ("", record.boot_id)


def status(record: "Record") -> str:
    """The status: "creating", "created", "running", "paused" or "stopped". Raises NotFound for a record without a
    process that was deleted since it was read.
    """
    if not alive(record):
        if not record.torn and record.pid > 0:
            return "stopped"
        if record.locked_by_other():
            return "creating"
        if record.is_stale():  # the `create` that was at work when it was read has gone on since
            record.reload()
        if not alive(record):
            return "stopped"
    if frozen(record):
        return "paused"
    return "created" if os.path.exists(record.fifo_path) else "running"


def frozen(record: "Record") -> bool:
    """Whether the container's cgroup is frozen."""
    if not record.cgroups:
        return False
    from toolkit.runtime import cgroups

    try:
        return cgroups.from_facts(record.cgroups).frozen()
    except Invalid:
        return False


_ALIVE = ("created", "running", "paused")
# The statuses that a verb requires, and its error otherwise; engines look for these words.
_ALLOWED: "dict[str, tuple[tuple[str, ...], str]]" = {
    "start": (("created",), "cannot start a container in the {status} state"),
    "exec": (("created", "running"), "cannot exec in a {status} container"),
    "kill": (_ALIVE, "container not running"),
    "pause": (("created", "running"), "container not running"),
    "resume": (("paused",), "container not paused"),
    "delete": (("created", "stopped"), "cannot delete container {id} that is not stopped: {status}"),
    "update": (_ALIVE, "container not running"),
    "events": (_ALIVE, "container with id {id} is not running"),
    "checkpoint": (("running", "paused"), "container cannot be checkpointed in {status} state"),
}
_SPECIAL = {
    ("start", "running"): "cannot start an already running container",
    ("start", "stopped"): "cannot start a container that has stopped",
    ("exec", "paused"): "cannot exec in a paused container (use --ignore-paused to override)",
    ("pause", "paused"): "container already paused",
}
_HINTS = {
    ("start", "stopped"): "ctk restart {id} runs it again; ctk delete {id} removes it",
    ("exec", "stopped"): "its program has ended: ctk restart {id} runs it again",
    ("exec", "paused"): "ctk resume {id} lets it go on",
    ("delete", "running"): "stop it first (ctk stop {id}), or use --force",
    ("delete", "paused"): "resume it first (ctk resume {id}), or use --force",
    ("pause", "stopped"): "its program has ended",
}


def require(record: "Record", verb: str) -> str:
    """The container's status, if `verb` may be carried out in it. Raises CtkError otherwise."""
    current = status(record)
    allowed, message = _ALLOWED[verb]
    if current not in allowed:
        message = _SPECIAL.get((verb, current), message)
        raise CtkError(
            message.format(id=record.id, status=current),
            hint=_HINTS.get((verb, current), "").format(id=record.id),
            code="E013",
        )
    return current
