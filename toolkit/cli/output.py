"""The output of commands: results to stdout, progress to stderr; with --json every event to stdout.

All of cli writes through here, so that control characters in names from containers, callers or archives never reach a
terminal (tests/architecture/test_printing.py).
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from toolkit.errors import CtkError
from toolkit.text import in_json, one_line, printable
from toolkit.ui import failure, renderer

if TYPE_CHECKING:
    from toolkit.events import Emit


def out(text: str) -> None:
    """Write to standard output, for people."""
    sys.stdout.write(printable(text))


def err(text: str) -> None:
    """Write to standard error, for people."""
    sys.stderr.write(printable(text))


def document(value: object, indent: int = 1) -> None:
    """Write a JSON text to standard output, for programs."""
    import json

    sys.stdout.write(in_json(json.dumps(value, indent=indent, ensure_ascii=False)) + "\n")


def changes(found: Iterable[tuple[str, str]], *, json: bool) -> None:
    """Write what has changed in a tree: (A, C or D, path) of each change."""
    if json:
        from json import dumps

        between = "["
        for kind, path in found:  # an image may have millions
            one = dumps({"kind": kind, "path": path}, ensure_ascii=False)
            sys.stdout.write(f"{between}\n {in_json(one)}")
            between = ","
        sys.stdout.write("[]\n" if between == "[" else "\n]\n")
    else:
        for kind, path in found:
            out(f"{kind} {one_line(path)}\n")


def exactly(text: str) -> None:
    """Write text for a program (a script) to standard output unchanged; on a terminal, as `out` does."""
    if sys.stdout.isatty():
        text = printable(text)
    sys.stdout.write(text)


@contextmanager
def progress(*, json: bool, verbose: bool = False) -> "Iterator[Emit]":
    """Give a command its Emit. With `json`, an expected failure is the last event, and we exit with its code."""
    stream = sys.stdout if json else sys.stderr
    try:
        with renderer(json=json, stream=stream, verbose=verbose) as emit:
            yield emit
    except CtkError as error:
        if not json:
            raise
        failure.show_json(error, stream=stream)
        sys.exit(error.exit_code)


@contextmanager
def progress_on_terminal() -> "Iterator[Emit]":
    """An Emit for a command that only tells something: its progress is for whoever waits at a terminal."""
    if sys.stderr.isatty():
        with progress(json=False) as emit:
            yield emit
    else:
        from toolkit.events import silent

        yield silent


def commas(words: list[str] | None) -> tuple[str, ...]:
    """--include=a,b --include c as (a, b, c)."""
    return tuple(piece.strip() for word in words or () for piece in word.split(",") if piece.strip())


def several(words: list[str] | None, last: str = "") -> tuple[str, ...]:
    """The values of a repeated option, then an argument that means the same; ("",) if there are none."""
    return tuple(word for word in (*(words or ()), last) if word) or ("",)
