"""Shows an error to people and programs: what we were doing, what stopped us, what to try."""

import sys

from toolkit.errors import BuildFailed, CtkError, bounded
from toolkit.text import in_json, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO


def text(error: CtkError) -> str:
    """The error in ctk's format, ending with a newline:

        ctk: bootstrap "bookwrom": no such suite
        hint: did you mean "bookworm"?

    For a BuildFailed the last lines of the step's output come first, then the path of the log.
    """
    lines = [f"ctk: {error}"]
    if isinstance(error, BuildFailed):
        lines += [f"  | {line.rstrip()}" for line in error.tail]
        if error.log:
            lines.append(f"log: {error.log}")
    if error.hint:
        lines.append("hint: " + bounded(error.hint).replace("\n", "\n      "))
    return printable("\n".join(lines)) + "\n"  # the tail is output of a maintainer script


def as_json(error: CtkError) -> "dict[str, Any]":
    """The error as an event, the last one in the output of `--json`."""
    document: dict[str, Any] = {
        "event": "failed",
        "code": error.code,
        "doing": bounded(error.doing),
        "because": bounded(error.because),
        "hint": bounded(error.hint),
        "exit_code": error.exit_code,
    }
    if isinstance(error, BuildFailed):
        document |= {"tail": list(error.tail), "log": error.log}
    return document


def show(error: CtkError, *, stream: "TextIO") -> None:
    """Write `text(error)` to `stream`, in colour if it is a terminal that wants colour."""
    words = text(error)
    if wants_colour(stream):
        words = words.replace("ctk: ", "\x1b[1;31mctk:\x1b[0m ", 1).replace("\nhint: ", "\n\x1b[1;36mhint:\x1b[0m ", 1)
    sys.stdout.flush()
    stream.write(words)
    stream.flush()


def show_json(error: CtkError, *, stream: "TextIO") -> None:
    """Write `as_json(error)` to `stream` as one line."""
    import json

    stream.write(in_json(json.dumps(as_json(error), ensure_ascii=False)) + "\n")
    stream.flush()


def wants_colour(stream: "TextIO") -> bool:
    """Whether `stream` is a terminal whose user has not turned colour off."""
    # https://no-color.org: any non-empty value means no colour.
    import os

    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
