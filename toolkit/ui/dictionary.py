"""Explains a field of config.json, a code or a word: a short page on a terminal, the same lines in a pipe."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from toolkit.text import one_line, printable

_MOST_LINES = 24  # of a value
_LINE = 76


class _Field(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def words(self) -> str: ...
    @property
    def kernel(self) -> str: ...
    @property
    def manual(self) -> str: ...
    @property
    def example(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def takes(self) -> tuple[str, ...]: ...
    @property
    def inner(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def says(self) -> tuple[tuple[str, Any], ...]: ...


def show_field(field: _Field, document: str, stream: TextIO) -> None:
    """Write the explanation of a field. `document` names the config.json whose value is shown; "" for none."""
    console = Console(file=stream, highlight=False)
    console.print(Text.assemble((field.path, "bold cyan"), (f"  ({field.type})", "dim")), soft_wrap=True)
    _indented(console, field.words)
    _section(console, "The kernel", [field.kernel])
    if document:
        lines = [f"{path} = {text}" for path, value in field.says for text in [_value(value)]]
        _section(console, document, lines or ["does not set it."], literal=True)
    if field.takes:
        _section(console, "Takes", [", ".join(field.takes)])
    if field.inner:
        width = max(len(name) for name, _ in field.inner)
        _section(console, "Inside", [f"{name:<{width}}  {words}" for name, words in field.inner])
    name = field.path.removesuffix("[]").removesuffix("{}").rpartition(".")[2]
    _section(console, "Example", [f'"{name}": {field.example}'], literal=True)
    if field.manual:
        _section(console, "Read", [f"man {_page(word)}" for word in field.manual.split(", ")])


def show_code(code: str, texts: tuple[str, str, str], stream: TextIO) -> None:
    """Write the explanation of a code: (what it is, why it matters, what to do)."""
    what, why, do = texts
    console = Console(file=stream, highlight=False)
    kind = "error" if code[0] == "E" else "warning"
    console.print(Text.assemble((code, "bold cyan"), (f"  ({kind})  ", "dim"), (what, "bold")), soft_wrap=True)
    _indented(console, why)
    _section(console, "What to do", [do])


def show_word(name: str, what: str, meaning: str, read: str, stream: TextIO) -> None:
    """Write the meaning of a word, and what to read about it."""
    console = Console(file=stream, highlight=False)
    console.print(Text.assemble((one_line(name), "bold cyan"), (f"  ({one_line(what)})", "dim")), soft_wrap=True)
    _indented(console, meaning)
    _section(console, "Read", [read])


def show_codes(codes: Mapping[str, str], stream: TextIO) -> None:
    """Write a list of codes with their titles, one per line."""
    for code, what in codes.items():
        stream.write(f"{code}  {what}\n")


def _indented(console: Console, text: str, style: str = "") -> None:
    """Write wrapped and indented text on a terminal; elsewhere one line stays one line."""
    text = printable(text)
    if console.is_terminal:
        console.print(Padding(Text(text, style), (0, 0, 0, 2)))
    else:
        console.file.write(textwrap.indent(text, "  ") + "\n")


def _section(console: Console, title: str, lines: Sequence[str], literal: bool = False) -> None:
    console.print()
    console.print(Text(one_line(title), "bold"))
    for line in lines:
        _indented(console, line, "green" if literal else "")


def _page(word: str) -> str:
    """The arguments of man(1) for a page: mount(2) is `2 mount`."""
    name, _, section = word.rstrip(")").partition("(")
    return f"{section} {name}"


def _value(value: Any) -> str:
    """A value as JSON: in one line if it is short, otherwise one member per line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) <= _LINE or not isinstance(value, list | dict):
        return line
    if isinstance(value, list):
        rows = [json.dumps(item, ensure_ascii=False) for item in value]
    else:
        rows = [f"{json.dumps(key)}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()]
    if len(rows) > _MOST_LINES:
        rows = [*rows[:_MOST_LINES], f"… ({len(rows) - _MOST_LINES} more)"]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return "\n".join([opening, *(f"  {row}" for row in rows), closing])
