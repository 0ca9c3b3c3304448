"""Where the words of a command go: progress to stderr, or with --json every event to stdout."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.errors import CtkError
from toolkit.events import Emit
from toolkit.ui import failure, renderer


@contextmanager
def progress(*, json: bool, verbose: bool = False) -> Iterator[Emit]:
    """Gives the Emit of a command. With `json` an expected failure is the last event, and we exit with its code."""
    stream = sys.stdout if json else sys.stderr
    try:
        with renderer(json=json, stream=stream, verbose=verbose) as emit:
            yield emit
    except CtkError as error:
        if not json:
            raise
        failure.show_json(error, stream=stream)
        sys.exit(error.exit_code)


def commas(words: list[str] | None) -> tuple[str, ...]:
    """--include=a,b --include c as (a, b, c)."""
    return tuple(piece.strip() for word in words or () for piece in word.split(",") if piece.strip())


def several(words: list[str] | None, last: str = "") -> tuple[str, ...]:
    """The values of a repeated option and an argument that means the same; ("",) for none."""
    return tuple(word for word in (*(words or ()), last) if word) or ("",)
