"""The output of commands: results to stdout, progress to stderr; with --json every event to stdout.

All of cli writes through here, so that control characters in names from containers, callers or archives never reach a
terminal (tests/architecture/test_printing.py).
"""

import sys

from toolkit.errors import CtkError
from toolkit.text import in_json, one_line, printable
from toolkit.ui import failure, renderer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from toolkit.events import Emit


def out(text: str) -> None:
    """Write to standard output, for people."""
    sys.stdout.write(printable(text))


def err(text: str) -> None:
    """Write to standard error, for people."""
    sys.stderr.write(printable(text))


def document(value: object, indent: int = 1) -> None:
    """Write a JSON text to standard output, for programs."""
    from toolkit.oci import json_text

    sys.stdout.write(in_json(json_text.indented(value, " " * indent)) + "\n")


def changes(found: "Iterable[tuple[str, str]]", *, json: bool) -> None:
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


class _Progress:
    # A class of its own: contextlib, with functools and collections, takes longer to import than all of this package.
    def __init__(self, json: bool, verbose: bool) -> None:
        self._json = json
        self._stream = sys.stdout if json else sys.stderr
        self._shown = renderer(json=json, stream=self._stream, verbose=verbose)

    def __enter__(self) -> "Emit":
        return self._shown.__enter__()

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._shown.__exit__(kind, error, trace)
        if self._json and isinstance(error, CtkError):
            failure.show_json(error, stream=self._stream)
            sys.exit(error.exit_code)


def progress(*, json: bool, verbose: bool = False) -> "AbstractContextManager[Emit]":
    """Give a command its Emit. With `json`, an expected failure is the last event, and we exit with its code."""
    return _Progress(json, verbose)


class _Silence:
    def __enter__(self) -> "Emit":
        from toolkit.events import silent

        return silent

    def __exit__(self, *_: object) -> None:
        pass


def progress_on_terminal() -> "AbstractContextManager[Emit]":
    """An Emit for a command that only tells something: its progress is for whoever waits at a terminal."""
    return progress(json=False) if sys.stderr.isatty() else _Silence()


def commas(words: list[str] | None) -> tuple[str, ...]:
    """--include=a,b --include c as (a, b, c)."""
    return tuple(piece.strip() for word in words or () for piece in word.split(",") if piece.strip())


def several(words: list[str] | None, last: str = "") -> tuple[str, ...]:
    """The values of a repeated option, then an argument that means the same; ("",) if there are none."""
    return tuple(word for word in (*(words or ()), last) if word) or ("",)
