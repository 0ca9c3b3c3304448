"""Folds lines that differ only in their paths: with cgroup v1 a container has a cgroup in each of ten hierarchies."""

import re
from collections.abc import Sequence

from toolkit.ui.braces import braced

_PATH = re.compile(r"/[^\s\"',;(){}$]+")
_FEWEST = 4  # repetitions to fold
_LONGEST = 3  # lines in a repeated group: mkdir, mount, remount


def lines(given: Sequence[str]) -> list[str]:
    """`given` with each run of similar lines as one: `mkdir /sys/fs/cgroup/{cpu,memory,pids,io}/web`. Pure."""
    folded: list[str] = []
    at = 0
    while at < len(given):
        period, count = _repeats(given, at)
        folded += [_words(_merged([given[at + each + period * n] for n in range(count)])) for each in range(period)]
        at += period * count
    return folded


def _repeats(given: Sequence[str], at: int) -> tuple[int, int]:
    """(number of lines that repeat, how often) from `at` on; (1, 1) if nothing repeats."""
    for period in range(1, _LONGEST + 1):
        count = 1
        shape = [_shape(line) for line in given[at : at + period]]
        while [_shape(line) for line in given[at + period * count : at + period * (count + 1)]] == shape:
            count += 1
        if count >= _FEWEST and "/" in "".join(shape):
            return period, count
    return 1, 1


def _shape(line: str) -> str:
    return _PATH.sub("/", line)


def _merged(alike: list[str]) -> str:
    columns = [iter(braced(list(paths))) for paths in zip(*(_PATH.findall(line) for line in alike), strict=True)]
    places = iter(columns)
    return _PATH.sub(lambda _: "".join(next(places)), alike[0])


def _words(line: str) -> str:
    """A command with many paths in sequence, shortened in the same way."""
    run = re.compile(rf"(?:{_PATH.pattern}(?:\s+|$)){{{_FEWEST},}}")
    if not line.startswith(("mkdir ", "rmdir ")):
        return line
    return run.sub(lambda found: braced(found[0].split()) + " " * found[0].endswith(" "), line)
