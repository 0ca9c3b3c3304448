"""`events`: report a container's resource usage, at an interval or once, and each OOM kill.

One JSON object a line, `{"type": "stats" | "oom", "id": …}`, in runc's fields.
"""

import _signal
import os

from toolkit.errors import CtkError
from toolkit.oci.json_text import dumps
from toolkit.runtime import lifecycle, log, signals
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.cgroups import Manager
    from toolkit.runtime.options import Options
    from toolkit.runtime.record import Record

# The kernel reports an OOM kill by an eventfd on v1 and by inotify on v2; reading the counter works on both, and misses
# none, because it counts.
_LOOK_S = 0.25


def run(options: "Options") -> int:
    """Report until the container ends. Raises NotFound, CtkError if it is not running."""
    # When the reader closes the pipe (`| head -1`), end: otherwise we would run as long as the container, for nobody.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    container = records.load(options.root, options.id)
    if options.interval <= 0:
        raise CtkError("duration interval must be greater than 0")
    lifecycle.require(container, "events")
    from toolkit.runtime import cgroups

    manager = cgroups.from_facts(container.cgroups)
    if options.stats:
        _tell(container, manager.stats())
        return 0
    import time

    pidfd = signals.open_init(container)
    kills = _oom_kills(manager)
    next_report = time.monotonic() + options.interval
    ended = False
    while not ended:
        left = next_report - time.monotonic()
        ended = signals.wait_for_end(pidfd, max(0.0, min(_LOOK_S, left)))
        now = _oom_kills(manager)
        for _ in range(now - kills):
            log.out(dumps({"type": "oom", "id": container.id}) + "\n")
        kills = max(kills, now)
        if not ended and time.monotonic() >= next_report:
            _tell(container, manager.stats())
            next_report += options.interval
    os.close(pidfd)
    return 0


def _oom_kills(manager: "Manager") -> int:
    try:
        return manager.oom_kills()
    except OSError:
        return 0  # the cgroup is gone with the container


def _tell(container: "Record", stats: "dict[str, Any]") -> None:
    log.out(dumps({"type": "stats", "id": container.id, "data": stats}) + "\n")
