"""`create`: everything up to the program, which waits for `start`."""

from toolkit.runtime import launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Make the container and return. Raises CtkError."""
    launch.create(launch.Launch(options), wait_for_start=True)
    return 0
