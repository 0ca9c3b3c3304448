"""A container from start to end, as for `run`: begin, stay or leave, remove."""

import os

from toolkit.errors import CtkError, NotFound
from toolkit.runtime import foreground, hooks, launch, log, outside, removal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime.options import Options
    from toolkit.runtime.relay import Watch


def by_hand(options: "Options") -> bool:
    """Whether a detached container would share the user's terminal. Engines pass none; and as `runc` we act like it."""
    return not options.console_socket and options.program != "runc" and (os.isatty(1) or os.isatty(2))


def begin(under_way: "launch.Launch") -> None:
    """Make the container and start its program. Raises CtkError."""
    launch.create(under_way, wait_for_start=False)
    record = under_way.record
    assert record is not None
    hooks_of = under_way.spec.get("hooks") or {}
    try:
        if under_way.waits:
            from toolkit.runtime.verbs.start import release

            release(record, hooks_of["startContainer"], under_way.spec["process"])
        if hooks_of.get("poststart"):
            hooks.run("poststart", hooks_of["poststart"], hooks.state_for(record, "running", record.pid))
    except BaseException:
        # runc and crun remove the container then, and the spec (1.2) demands it. After Ctrl-C the user wants the same.
        launch.undo(under_way)
        raise
    record.unlock()


def leave(under_way: "launch.Launch") -> int:
    """Begin, and don't wait for its end, but for its readiness if the program reports that; returns 0."""
    begin(under_way)
    if under_way.notify is not None and under_way.record is not None:
        under_way.notify.main_pid = under_way.pid
        under_way.notify.wait(under_way.record)
    return 0


def stay(under_way: "launch.Launch") -> int:
    """Begin, wait for the end, and remove the container; returns the program's exit code."""
    options = under_way.options
    outside.hold_signals()
    if not options.no_subreaper:
        foreground.become_subreaper()
    begin(under_way)
    record = under_way.record
    assert record is not None
    watches: "list[Watch]" = [] if under_way.notify is None else [under_way.notify]
    listens = None
    if tells := options.tell or (os.isatty(2) and options.program != "runc"):
        from toolkit.runtime.comfort import oom

        watches.append(listens := oom.Watch(record))
    code = wait(under_way.pid, under_way.master, watches)
    if code and tells:
        from toolkit.runtime.comfort import ending

        found = ending.facts(record, code, foreground.signal_of_end, listens)
        ending.tell(found, under_way.spec, asked=options.tell)
    if not options.keep:
        remove(under_way)
    return code


def wait(pid: int, master: int = -1, watches: "Sequence[Watch]" = ()) -> int:
    """Wait for `pid` and return its exit code, as `foreground.wait` does.

    `master`: the master end of its terminal, relayed to our own standard streams; `watches`: what else to poll.
    """
    if master < 0 and not watches:
        return foreground.wait(pid)
    from toolkit.runtime import relay

    return relay.run(pid, foreground.wake_up(), master, watches)


def remove(under_way: "launch.Launch") -> None:
    """Remove the container, which has ended; errors become warnings."""
    record = under_way.record
    assert record is not None
    try:
        removal.lock(record)
        removal.destroy(record)
    except NotFound:
        return  # `ctk delete` was faster
    except (CtkError, OSError) as error:
        log.warning(str(error))  # the exit code is the program's, even if something is left behind
