"""Files of the build's folder that are left out: .containerignore or .dockerignore. Pure.

A line is a pattern (glob.py); with `!` what it matches is taken
after all. The last line that matches counts; what matches a folder matches all that is in it.

Source: Dockerfile reference, ".dockerignore file"; moby/patternmatcher.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.errors import Invalid
from toolkit.image.build.glob import Pattern, Text

FILES = (".containerignore", ".dockerignore")


class Line(NamedTuple):
    """A line of the file. `takes`: it begins with `!`."""

    pattern: Pattern
    takes: bool


class Ignored:
    """The patterns of a file. A folder's `marks` say which of them match it, and are asked for what is in it."""

    def __init__(self, patterns: Sequence[Line] = ()) -> None:
        self._patterns = tuple(patterns)
        self.top: tuple[bool, ...] = (False,) * len(self._patterns)
        self.may_take = any(one.takes for one in self._patterns)

    def marks(self, path: str, above: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which patterns match this path; `above` are the marks of its folder."""
        text = Text(path)
        return tuple(there or one.pattern.matches(text) for one, there in zip(self._patterns, above, strict=True))

    def is_out(self, marks: tuple[bool, ...]) -> bool:
        """Whether what has these marks is left out."""
        last = [one for one, there in zip(self._patterns, marks, strict=True) if there]
        return bool(last) and not last[-1].takes


def read(text: str, document: str) -> Ignored:
    """The patterns of a file. Raises Invalid."""
    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if line.startswith("#") or not (line := line.strip()):
            continue
        takes = line.startswith("!")
        cleaned = _clean(line[1:].strip() if takes else line)
        if not cleaned:
            if takes:
                raise Invalid("", "there is no pattern after !", document=f"{document}:{number}")
            continue
        try:
            found.append(Line(Pattern(cleaned), takes))
        except re.error as error:
            raise Invalid("", f"{line!r} is no pattern ({error})", document=f"{document}:{number}") from None
    return Ignored(found)


def _clean(text: str) -> str:
    """A path without `.`, `..` and repeated slashes, from the folder that is built: "" is the folder itself."""
    found: list[str] = []
    for word in text.split("/"):
        if word == ".." and found:
            found.pop()
        elif word not in ("", ".", ".."):
            found.append(word)
    return "/".join(found)
