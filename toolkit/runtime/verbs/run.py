"""`run`: create and start in one; stays until the program ends, unless detached."""

from toolkit.errors import CtkError, NotFound
from toolkit.runtime import foreground, hooks, launch, log, removal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """The program's exit code, 128 + N for signal N; 0 with --detach. Raises CtkError."""
    if not options.detach:
        launch.hold_signals()
        if not options.no_subreaper:
            foreground.become_subreaper()
    under_way = launch.Launch(options)
    launch.create(under_way, wait_for_start=False)
    record = under_way.record
    assert record is not None
    hooks_of = under_way.spec.get("hooks") or {}
    try:
        if under_way.waits:
            from toolkit.runtime.verbs.start import release

            release(record, hooks_of["startContainer"], under_way.spec["process"])
        if hooks_of.get("poststart"):
            hooks.run("poststart", hooks_of["poststart"], launch.state_for_hooks(record, "running", record.pid))
    except CtkError:
        # runc and crun end the container then; the spec of 1.2 wants that too.
        launch.undo(under_way)
        raise
    record.unlock()
    if options.detach:
        return 0
    code = foreground.wait(under_way.pid, under_way.master)
    if not options.keep:
        _remove(under_way)
    return code


def _remove(under_way: "launch.Launch") -> None:
    record = under_way.record
    assert record is not None
    try:
        removal.lock(record)
        removal.destroy(record)
    except NotFound:
        return  # `ctk delete` was faster
    except CtkError as error:
        log.warning(str(error))
