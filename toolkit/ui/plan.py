"""Shows a launch act by act: what is done, the system calls, the shell commands, the field of config.json behind it."""

import os
from collections.abc import Sequence
from io import StringIO
from typing import Protocol, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from toolkit.text import one_line, printable
from toolkit.ui import fold

_SIDES = {
    "outside": "Outside, by ctk",
    "inside": "Inside, by the container's first process",
    "program": "The same process, on its way to be the program",
}
_MOST = 5  # lines of calls or shell commands per act on a terminal


class _Act(Protocol):
    @property
    def side(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def calls(self) -> str: ...
    @property
    def shell(self) -> tuple[str, ...]: ...
    @property
    def field(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def step(self) -> int: ...


def show(acts: Sequence[_Act], root: str, stream: TextIO) -> None:
    """Write the whole launch to `stream`. Long parts are shortened, but only on a terminal."""
    console = Console(file=stream, highlight=False)
    _line(console, Text.assemble(("root=", "green"), (one_line(root), "green")))
    side = ""
    for number, act in enumerate(acts, 1):
        if act.side != side:
            side = act.side
            _line(console, Text("\n" + _SIDES[side], "bold underline"))
        _act(console, act, number)
    if console.is_terminal:
        console.print(Text("\nctk explain FIELD tells more; --script writes it as a script, --run does it.", "dim"))


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)


def _act(console: Console, act: _Act, number: int) -> None:
    head = Text.assemble((f"{number:>3} ", "dim"), (one_line(act.sentence), "bold"))
    if act.field:
        head.append(f"  ← {one_line(act.field)}", "cyan")
    if not console.is_terminal:
        _line(console, head)
        for call in _calls(act):
            console.file.write(f"      {call}\n")
        for line in fold.lines(act.shell):
            console.file.write(f"    $ {printable(line)}\n")
        if act.note:
            console.file.write(f"    # {one_line(act.note)}\n")
        return
    console.print(head)
    for call in _short(_calls(act)):
        console.print(Padding(Text(call, "yellow"), (0, 0, 0, 6)))
    for line in _short(fold.lines(act.shell)):
        console.print(Padding(Text.assemble(("$ ", "dim"), (printable(line), "green")), (0, 0, 0, 4)))
    if act.note:
        console.print(Padding(Text("# " + one_line(act.note), "dim italic"), (0, 0, 0, 4)))


def _calls(act: _Act) -> list[str]:
    return fold.lines([one_line(call) for call in act.calls.split("; ") if call])


def _short(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST:
        return lines
    return [*lines[: _MOST - 1], f"… ({len(lines) - _MOST + 1} more)"]


class Watching:
    """Shows a launch while it is carried out: the text of each step before it, a mark and its time after it.

    Everything is rendered beforehand, because the process that writes is already inside a half-made container.
    """

    def __init__(self, acts: Sequence[_Act], stream: TextIO) -> None:
        self._terminal = stream.isatty()
        self._width = Console(file=stream).width
        stream.flush()
        self._fd = os.dup(stream.fileno())
        self._heads: dict[int, bytes] = {}
        before, after = [], []
        passed = False
        for number, act in enumerate(acts, 1):
            if act.step >= 0:
                passed = True
                self._heads[act.step] = self._rendered(act, number)
            elif act.side == "program" or passed:
                after.append(self._rendered(act, number))
            else:
                before.append(self._rendered(act, number))
        self._before, self._after = b"".join(before), b"".join(after)
        self._steps = max((act.step for act in acts), default=-1) + 1

    def _rendered(self, act: _Act, number: int) -> bytes:
        text = StringIO()
        console = Console(file=text, highlight=False, force_terminal=self._terminal, width=self._width)
        _act(console, act, number)
        return text.getvalue().encode()

    def begins(self) -> None:
        """Called before the first step."""
        os.write(self._fd, self._before)
        os.write(self._fd, self._heads.get(0, b""))

    def done(self, step: int, nanoseconds: int) -> None:
        """Called when a step is done. Shows the next one, after the last step the final acts."""
        mark = f"    ✓ {nanoseconds / 1000:.0f} µs\n".encode()
        if self._terminal:
            mark = b"\x1b[32m" + mark.rstrip() + b"\x1b[0m\n"
        if step < self._steps:
            os.write(self._fd, mark if step in self._heads else b"")
        following = self._heads.get(step + 1, b"") if step + 1 < self._steps else b""
        os.write(self._fd, self._after if step + 1 == self._steps else following)
