"""Folds lines that differ only in their paths: with cgroup v1 a container has a cgroup in each of ten hierarchies."""

import re
from collections.abc import Sequence

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


def braced(paths: list[str]) -> str:
    """Paths as one brace expression of a shell: what they have in common is outside the braces."""
    if len(set(paths)) == 1:
        return paths[0]
    parts = [path.split("/") for path in paths]
    shortest = min(map(len, parts))
    head = next((n for n in range(shortest) if len({tuple(part[: n + 1]) for part in parts}) > 1), shortest)
    tail = next((n for n in range(shortest - head) if len({tuple(part[len(part) - n - 1 :]) for part in parts}) > 1), 0)
    middle = ["/".join(part[head : len(part) - tail]) for part in parts]
    before, after = "/".join(parts[0][:head]), "/".join(parts[0][len(parts[0]) - tail :]) if tail else ""
    return f"{before}/{{{','.join(dict.fromkeys(middle))}}}" + (f"/{after}" if after else "")
