"""Patterns of Go's filepath.Match, with `**` for any number of folders. Pure.

A text is matched by sets of places in it, each set a number whose bit N stands for the place before character N. Each
part of the pattern makes the next set from the last one, so the time is the pattern's length times the text's, whatever
a stranger has written. A regular expression tries `**a**a**a` in every way that there is.
"""

import re
from collections.abc import Callable, Iterator
from functools import cached_property, partial

Places = int
Part = Callable[["Text", Places], Places]


class Text:
    """A path that patterns are matched with: where each character is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end: Places = 1 << len(text)
        self.where: dict[str, Places] = {}
        for at, character in enumerate(text):
            self.where[character] = self.where.get(character, 0) | 1 << at

    @cached_property
    def no_slash(self) -> Places:
        """Before each character that is no slash."""
        return (self.end - 1) & ~self.where.get("/", 0)

    def behind(self, places: Places) -> Places:
        """The first of these places, and all behind it."""
        return (self.end << 1) - (places & -places)


class Pattern:
    """A pattern. Raises re.error if it is none."""

    def __init__(self, pattern: str) -> None:
        self._parts = list(_parts(pattern))

    def matches(self, text: Text) -> bool:
        """Whether all of the text is matched."""
        places = 1
        for part in self._parts:
            places = part(text, places)
            if not places:
                return False
        return places & text.end != 0


def has_wildcards(text: str) -> bool:
    """Whether it stands for more than itself."""
    return any(one in text for one in "*?[\\")


def _parts(pattern: str) -> Iterator[Part]:
    at = 0
    plain = ""
    while at < len(pattern):
        one = pattern[at]
        at += 1
        if one == "\\":
            if at == len(pattern):
                raise re.error("a backslash at its end")
            plain += pattern[at]
            at += 1
            continue
        if one not in "*?[":
            plain += one
            continue
        if plain:
            yield partial(_characters, plain)
            plain = ""
        if pattern.startswith("**", at - 1):
            at += 1 + pattern.startswith("/", at + 1)
            yield _rest if at == len(pattern) and pattern[-1] == "*" else _folders
        elif one == "[":
            end = _end_of_class(pattern, at)
            yield partial(_of_class, re.compile(_class(pattern[at:end]), re.DOTALL))
            at = end + 1
        else:
            yield _star if one == "*" else _any
    if plain:
        yield partial(_characters, plain)


def _characters(plain: str, text: Text, places: Places) -> Places:
    for one in plain:
        places = (places & text.where.get(one, 0)) << 1
        if not places:
            break
    return places


def _any(text: Text, places: Places) -> Places:
    return (places & text.no_slash) << 1


def _of_class(matches: re.Pattern[str], text: Text, places: Places) -> Places:
    fitting = sum(where for one, where in text.where.items() if matches.fullmatch(one))
    return (places & fitting) << 1


def _star(text: Text, places: Places) -> Places:
    """From each place to the end of its name: the sum carries from the first of a name's places to that end."""
    return ((places & text.no_slash) + text.no_slash) ^ text.no_slash | places


def _folders(text: Text, places: Places) -> Places:
    return places | (text.behind(places) & text.where.get("/", 0)) << 1


def _rest(text: Text, places: Places) -> Places:
    return text.behind(places)


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
