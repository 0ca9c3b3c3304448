"""The recipes as a list, and one of them as a page: in colour on a terminal, plain in a pipe."""

import textwrap
from collections.abc import Callable, Sequence
from typing import TextIO

from toolkit.text import one_line


def show_markdown(text: str, stream: TextIO) -> None:
    """Show a whole recipe as a page: rendered on a terminal, unchanged in a pipe."""
    if stream.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console(file=stream, highlight=False).print(Markdown(text))
    else:
        stream.write(text if text.endswith("\n") else text + "\n")


def show_list(rows: Sequence[tuple[str, str, int, Sequence[tuple[str, str]]]], stream: TextIO) -> None:
    """Show a numbered list of recipes (name, title, minutes, needs). A need is (its word, why the host lacks it)."""
    width = max((len(name) for name, *_ in rows), default=0)
    columns, line = _coloured(stream) if stream.isatty() else (0, _plain(stream))

    def write(first: str, text: str, style: str) -> None:
        margin = " " * (width + 6)
        lines = textwrap.wrap(text, columns - len(margin), break_on_hyphens=False) if columns > 60 else [text]
        for at, words in enumerate(lines):
            line(margin if at else f"{first:<{width + 6}}", words, style)

    for number, (name, title, minutes, needs) in enumerate(rows, 1):
        write(f"{number:2}  {name}", title, "")
        words = [word for word, _ in needs if not word.startswith("!")]
        write("", ", ".join(filter(None, [f"{minutes} min" if minutes else "", *words])), "dim")
        if lacking := "; ".join(because for _, because in needs if because):
            write("", f"not here: {lacking}", "yellow")


def _plain(stream: TextIO) -> Callable[[str, str, str], None]:
    return lambda first, text, _: print(one_line(first + text), file=stream)


def _coloured(stream: TextIO) -> tuple[int, Callable[[str, str, str], None]]:
    """The terminal's width, and what writes a line of two parts: a bold one and one in a style."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, highlight=False, soft_wrap=True)
    return console.width, lambda first, text, style: console.print(Text(first, "bold") + Text(text, style))
