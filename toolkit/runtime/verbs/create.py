"""`create`: everything up to the program, which waits for `start`."""

import os

from toolkit.runtime import launch, log
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Make the container and return. Raises CtkError."""
    launch.create(launch.Launch(options), wait_for_start=True)
    if os.isatty(2) and options.program != "runc":
        log.say(f"ctk: {options.id!r} is created and waits: ctk start {quote(options.id)}\n")
    return 0
