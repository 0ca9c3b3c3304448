"""Shows steps as a shell script that can be pasted: sentences, and what belongs to them, are its comments."""

from collections.abc import Sequence
from typing import Protocol, TextIO

from rich.console import Console
from rich.text import Text

from toolkit.text import one_line


class _Step(Protocol):
    @property
    def sentence(self) -> str: ...
    @property
    def comments(self) -> tuple[str, ...]: ...
    @property
    def shell(self) -> tuple[str, ...]: ...


def show(steps: Sequence[_Step], stream: TextIO) -> None:
    """Write all steps to `stream`. Nothing is shortened or wrapped: a line is a command, or a comment."""
    console = Console(file=stream, highlight=False)
    for number, step in enumerate(steps, 1):
        _line(console, f"# {number}. {one_line(step.sentence)}", "bold")
        for line in step.comments:
            _line(console, f"#    {one_line(line)}", "dim")
        for line in step.shell:
            _line(console, one_line(line), "green")
        _line(console, "", "")


def _line(console: Console, text: str, style: str) -> None:
    if console.is_terminal:
        console.print(Text(text, style), soft_wrap=True)
    else:
        console.file.write(text + "\n")
