"""`run`: create and start a container; waits until the program ends, unless detached."""

from toolkit.runtime import launch, session
from toolkit.runtime.options import OURS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Run it; returns the program's exit code, 128 + N for signal N, 0 with --detach. Raises CtkError."""
    if not options.given.isdisjoint(OURS) or (options.detach and session.by_hand(options)):
        from toolkit.runtime.comfort import run as comfort

        return comfort.run(options)
    under_way = launch.Launch(options)
    return session.leave(under_way) if options.detach else session.stay(under_way)
