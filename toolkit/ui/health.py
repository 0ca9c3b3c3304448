"""The findings of `ctk doctor`, one at a time: in colour on a terminal, plain elsewhere."""

from collections.abc import Sequence
from typing import TextIO

from toolkit.text import one_line
from toolkit.ui.failure import wants_colour

_STYLES = {"ok": "green", "note": "dim", "warn": "bold yellow", "bad": "bold red"}


def show(lines: Sequence[str], state: str, stream: TextIO) -> None:
    """Write the lines of a finding: what it is, its mark in the colour of `state`, and the command to fix it."""
    if not wants_colour(stream):
        stream.write("".join(one_line(line) + "\n" for line in lines))
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(file=stream, highlight=False)
        for line in map(one_line, lines):
            if line.startswith(" "):
                console.print(Text(line, "cyan"), soft_wrap=True)
                continue
            mark, blank, words = line.partition(" ")
            topic, colon, what = words.partition(":")
            style = _STYLES.get(state, "")
            console.print(Text.assemble((mark, style), blank, (topic, "bold"), colon, what), soft_wrap=True)
    stream.flush()
