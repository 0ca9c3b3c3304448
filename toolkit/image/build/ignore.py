"""Files of the build's folder that are left out: .containerignore or .dockerignore. Pure.

A line is a pattern as of Go's filepath.Match, and `**` for any number of folders; with `!` what it matches is taken
after all. The last line that matches counts; what matches a folder matches all that is in it.

Source: Dockerfile reference, ".dockerignore file"; moby/patternmatcher.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from toolkit.errors import Invalid

FILES = (".containerignore", ".dockerignore")


class Pattern(NamedTuple):
    """A line. `takes`: it begins with `!`."""

    matches: re.Pattern[str]
    takes: bool


class Ignored:
    """The patterns of a file. A folder's `marks` say which of them match it, and are asked for what is in it."""

    def __init__(self, patterns: Sequence[Pattern] = ()) -> None:
        self._patterns = tuple(patterns)
        self.top: tuple[bool, ...] = (False,) * len(self._patterns)
        self.may_take = any(one.takes for one in self._patterns)

    def marks(self, path: str, above: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which patterns match this path; `above` are the marks of its folder."""
        return tuple(
            there or bool(one.matches.fullmatch(path)) for one, there in zip(self._patterns, above, strict=True)
        )

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
            found.append(Pattern(re.compile(expression(cleaned), re.DOTALL), takes))
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


def expression(pattern: str) -> str:
    """The regular expression for a pattern of Go's filepath.Match with `**`. Raises re.error.

    Of several `*` in a name each but the last takes the first place that fits what follows it, and never tries another
    (as fnmatch.translate has it): a stranger's `*a*a*a*b` would take years.
    """
    found: list[str] = []
    star = -1  # where the last * of this name is
    at = 0
    while at < len(pattern):
        one = pattern[at]
        at += 1
        if pattern.startswith("**", at - 1):
            at += 1
            star = -1
            if pattern.startswith("/", at):
                at += 1
                found.append("(?:.*/)?")
            else:
                found.append(".*" if at == len(pattern) else "(?:.*/)?")
        elif one == "*":
            if star >= 0:
                found[star] = "(?>[^/]*?"
                found.append(")")
            star = len(found)
            found.append("[^/]*")
        elif one == "?":
            found.append("[^/]")
        elif one == "[":
            end = _end_of_class(pattern, at)
            found.append(_class(pattern[at:end]))
            at = end + 1
        elif one == "\\":
            if at == len(pattern):
                raise re.error("a backslash at its end")
            found.append(re.escape(pattern[at]))
            at += 1
        else:
            star = -1 if one == "/" else star
            found.append(re.escape(one))
    return "".join(found)


def _end_of_class(pattern: str, at: int) -> int:
    start = at + 1 if pattern.startswith("^", at) else at
    at = start
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "]" and at > start:
            return at
        at += 1
    raise re.error("a [ is not closed")


def _class(inside: str) -> str:
    negated = inside.startswith("^")
    inside = inside[negated:]
    escaped = re.sub(r"\\(.)|([\[\]^&~|])", lambda found: "\\" + (found[1] or found[2]), inside)
    return f"(?!/)[{'^' if negated else ''}{escaped}]"


def has_wildcards(text: str) -> bool:
    """Whether a source of COPY is a pattern."""
    return any(one in text for one in "*?[\\")
