"""Tables: printed once, or redrawn on a terminal until q or Ctrl-C."""

import sys

from toolkit.text import one_line
from toolkit.ui.failure import wants_colour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO


class Table:
    """Rows of cells under headings, with a title if there are several tables. `right` are columns of numbers."""

    def __init__(
        self,
        headings: tuple[str, ...],
        rows: tuple[tuple[str, ...], ...],
        title: str = "",
        right: tuple[int, ...] = (),
        empty: str = "",
    ) -> None:
        self.headings = headings
        self.rows = rows
        self.title = title
        self.right = right
        self.empty = empty  # shown if there are no rows


def lines(table: Table, width: int = 0, *, screen: int = 0) -> list[str]:
    """The table as lines of text, cut at `width` characters unless that is 0; pure.

    If it would be wider than `screen`, a first cell that is too long gets a line of its own.
    """
    found = [f"{table.title}:"] if table.title else []
    indent = "  " if table.title else ""
    if not table.rows:
        return [*found, indent + table.empty] if table.empty or table.title else found
    rows = [tuple(one_line(cell) for cell in row) for row in table.rows]
    cells = [table.headings, *rows] if any(table.headings) else rows
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    room = screen - len(indent) - sum(2 + one for one in widths[1:]) if screen else widths[0]
    if room < widths[0]:
        widths[0] = max((len(row[0]) for row in cells if len(row[0]) <= room), default=0)
    for row in cells:
        if len(row[0]) > widths[0]:
            found.append(indent + row[0])
            row = ("", *row[1:])
        words = [
            cell.rjust(widths[column]) if column in table.right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ]
        line = (indent + "  ".join(words)).rstrip()
        found.append(line[: width - 1] + "…" if width and len(line) > width else line)
    return found


def show(tables: "Iterable[Table]", stream: "TextIO") -> None:
    """Print the tables, with a blank line between those with titles."""
    first = True
    for table in tables:
        if table.title and not first:
            stream.write("\n")
        output = lines(table, screen=_columns() if stream.isatty() else 0)
        if output and wants_colour(stream):
            _coloured(table, output, stream)
        else:
            stream.write("".join(line + "\n" for line in output))
        first = False
    stream.flush()


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _coloured(table: Table, output: list[str], stream: "TextIO") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    heads = (["bold cyan"] if table.title else []) + (["bold"] if any(table.headings) and table.rows else [])
    for at, line in enumerate(output):
        console.print(Text(line, heads[at] if at < len(heads) else ""), soft_wrap=True)


def can_be_live(stream: "TextIO") -> bool:
    """Whether `stream` is a terminal on which a table can be redrawn."""
    import os

    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def live(frames: "Iterable[Sequence[Table]]", stream: "TextIO", hint: str = "q leaves") -> None:
    """Draw each frame in place of the one before, until the last or Ctrl-C. The terminal is restored."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as screen:
            for frame in frames:
                width, height = console.size
                output = [line for table in frame for line in lines(table, width)][: height - 2]
                parts = [Text(line, style="bold" if at == 0 else "", no_wrap=True) for at, line in enumerate(output)]
                screen.update(Group(*parts, Text(hint, style="dim")), refresh=True)
    except KeyboardInterrupt as interrupt:
        if type(interrupt) is not KeyboardInterrupt:  # SIGTERM or SIGHUP, not a user who wants to leave
            raise
    finally:
        sys.stdout.flush()
