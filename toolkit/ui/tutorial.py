"""Shows a recipe on the screen: its text rendered, its commands as typed, a question before each step."""

import sys
import time
from collections.abc import Sequence
from typing import Literal, Protocol, TextIO

from rich.console import Console
from rich.markdown import Markdown
from rich.rule import Rule
from rich.text import Text

from toolkit.ui.keys import Keys

Answer = Literal["run", "skip", "shell", "quit"]

_ANSWERS: dict[str, Answer] = {"\n": "run", "y": "run", "s": "skip", "!": "shell", "q": "quit", "eof": "quit"}
_HABIT_S = 0.7


class _Command(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def as_root(self) -> bool: ...
    @property
    def typed(self) -> "Sequence[_Command]": ...


class _Step(Protocol):
    @property
    def number(self) -> int: ...
    @property
    def section(self) -> str: ...
    @property
    def words(self) -> str: ...


class _Recipe(Protocol):
    @property
    def title(self) -> str: ...
    @property
    def numbered(self) -> int: ...


class TutorialScreen:
    """Shows on `stream` what `recipe.play` shows and asks. Answers are read from stdin."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, highlight=False)
        self._section = ""
        self._titled = False
        self._numbered = 0
        self._at_line_start = True
        self._letter_s = 0.0

    def words(self, step: _Step, recipe: _Recipe) -> None:
        self._numbered = recipe.numbered
        if not self._titled:
            self._titled = True
            self._console.print(Rule(Text(recipe.title, "bold"), style="cyan"))
        if step.section != self._section:
            self._section = step.section
            self._console.print()
            self._console.print(Text(step.section, "bold underline"))
        if step.words:
            self._console.print()
            self._console.print(Markdown(step.words))

    def preview(self, step: _Step, commands: "Sequence[_Command]") -> None:
        """Show the commands of a step before they run."""
        self._console.print()
        self._console.print(Text(f"  step {step.number} of {self._numbered}", "dim"))
        for command in commands:
            self._print_command(command)

    def command(self, _: _Step, command: _Command) -> None:
        """Show a command that starts now. Its output follows."""
        self._fresh_line()
        self._console.print()
        self._print_command(command)

    def _print_command(self, command: _Command) -> None:
        if command.text:
            prompt = Text("# " if command.as_root else "$ ", "bold green")
            self._console.print(Text("  ") + prompt + Text(command.text, "bold"), soft_wrap=True)
        for line in command.typed:
            self._console.print(Text("    it types: ", "dim") + Text(line.text, "bold"), soft_wrap=True)

    def _fresh_line(self) -> None:
        if not self._at_line_start:
            self._console.file.write("\n")
            self._at_line_start = True

    def ask(self, _: _Step) -> Answer:
        """Enter runs the step, s skips it, ! opens a shell, q stops; each key works at once. Without a terminal an
        answer is a line. The end of the input stops too.
        """
        with Keys(sys.stdin) as keys:  # before the question, because it drops what was typed until then
            choices = "    Enter: run it   s: skip   !: a shell here   q: stop, go on later "
            self._console.print(Text(choices, "dim"), end="")
            self._console.file.flush()
            answer = self._key(keys) if sys.stdin.isatty() else self._line()
        self._console.print()
        return answer

    def _key(self, keys: Keys) -> Answer:
        while True:
            key = keys.read()
            # Some readers type Enter after a letter out of habit; they have not read the next step yet.
            if key == "\n" and time.monotonic() - self._letter_s < _HABIT_S:
                continue
            if key in _ANSWERS:
                self._letter_s = time.monotonic() if key.isalpha() else 0.0
                return _ANSWERS[key]

    def _line(self) -> Answer:
        while line := sys.stdin.readline():
            if answer := _ANSWERS.get(line.strip().lower()[:1] or "\n"):
                return answer
        return "quit"

    def output(self, text: str) -> None:
        """Write a piece of a program's output unchanged: it may draw on the terminal."""
        self._console.file.write(text)
        self._console.file.flush()
        if text:
            self._at_line_start = text.endswith("\n")

    def verdict(self, step: _Step, problem: str, diff: Sequence[str]) -> None:
        self._fresh_line()
        if not problem:
            self._console.print(Text(f"    ✓ step {step.number}", "green"))
            return
        self._console.print(Text(f"    ✗ step {step.number}: {problem}", "bold red"))
        for line in diff:
            style = {"+": "green", "-": "red"}.get(line[:1], "dim")
            self._console.print(Text("      " + line, style), soft_wrap=True)
        if diff:
            self._console.print(Text("      - expected, not there    + there, not expected", "dim"))

    def say(self, text: str) -> None:
        self._fresh_line()
        self._console.print(Text(text), soft_wrap=True)
