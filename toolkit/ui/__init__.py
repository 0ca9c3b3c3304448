"""Shows events: a live screen on a terminal, plain lines in a pipe, one JSON object per line for programs.

    with renderer(json=False, stream=sys.stderr) as emit:
        bootstrap(request, emit)

The state of the screen is a fold over the events (`screen.py`). The renderers differ only in how they draw it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import TextIO

    from toolkit.events import Emit


def renderer(*, json: bool, stream: "TextIO", verbose: bool = False) -> "AbstractContextManager[Emit]":
    """A context whose value is the `Emit` to pass down. Leaving it restores the terminal.

    The live screen is used if `stream` is a terminal that can move its cursor. `verbose` shows `Line` events too. The
    Emit is thread-safe.
    """
    if json:
        from toolkit.ui.jsonl import JsonLines

        return JsonLines(stream)
    if _can_move_cursor(stream):
        from toolkit.ui.live import LiveScreen

        return LiveScreen(stream, verbose=verbose)
    from toolkit.ui.plain import PlainLines

    return PlainLines(stream, verbose=verbose)


def _can_move_cursor(stream: "TextIO") -> bool:
    import os

    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")
