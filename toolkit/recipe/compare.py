"""Compares expected with actual output. `...` alone on a line matches any lines, inside a line any text."""

import difflib
import re
from collections.abc import Sequence

_ANY = "..."


def matches(expected: Sequence[str], output: Sequence[str]) -> bool:
    """Whether `output` matches `expected`. Several spaces count as one, because columns move with their contents."""
    return _match([_normal(line) for line in expected], [_normal(line) for line in output])


def _match(expected: list[str], output: list[str]) -> bool:
    # The positions in `output` at which the lines of `expected` so far may end.
    positions = {0}
    for want in expected:
        if want == _ANY:
            positions = set(range(min(positions), len(output) + 1))
        else:
            positions = {at + 1 for at in positions if at < len(output) and _line(want, output[at])}
        if not positions:
            return False
    return len(output) in positions


def _normal(line: str) -> str:
    return " ".join(line.split())


def _line(want: str, got: str) -> bool:
    if _ANY not in want:
        return want == got
    pattern = ".*".join(re.escape(piece) for piece in want.split(_ANY))
    return re.fullmatch(pattern, got) is not None


def difference(expected: Sequence[str], output: Sequence[str]) -> list[str]:
    """The difference as lines: '  ' as expected, '- ' missing, '+ ' not expected."""
    # An output line that matches an expected pattern is written as the pattern, so that only real differences show.
    patterns = [line for line in expected if _ANY in line and line.strip() != _ANY]
    shown = [next((pattern for pattern in patterns if _line(_normal(pattern), _normal(line))), line) for line in output]
    return [line for line in difflib.ndiff(list(expected), shown) if not line.startswith("? ")]
