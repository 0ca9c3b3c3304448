"""Words of a Containerfile's instruction: quotes, escapes and variables, as Docker's own lexer takes them. Pure.

It is a part of what a shell does: single quotes keep all, double quotes keep all but the escape character and `$`, and
a value that is put in is not looked at again. A variable that is not set is empty.

Source: Dockerfile reference, "Environment replacement".
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from toolkit.image.build.lines import Where

_SPACE = " \t\n\r\v\f"
_PATTERNS = "#%/"  # ${x#pattern} and its like


class Scope(NamedTuple):
    """What variables mean at a place of a file."""

    values: Mapping[str, str]
    escape: str
    where: "Where"


def expand(text: str, scope: Scope) -> str:
    """`text` without its quotes and escapes, its variables replaced. Raises Invalid."""
    return _Reader(text, scope, replace=True).until("")


def unquoted(text: str, escape: str, where: "Where") -> str:
    """`text` without its quotes and escapes; variables stay. Raises Invalid."""
    return _Reader(text, Scope({}, escape, where), replace=False).until("")


def expand_only(text: str, scope: Scope) -> str:
    """`text` with its variables replaced; quotes stay, as in a here-document. Raises Invalid."""
    return _Reader(text, scope, replace=True, quotes=False).until("")


def expand_words(text: str, scope: Scope) -> list[str]:
    """Each word of `text`, expanded; one may become several, as a value has blanks. Raises Invalid."""
    return [word for one in raw(text, scope.escape, scope.where) for word in expand(one, scope).split()]


def raw(text: str, escape: str, where: "Where") -> Iterator[str]:
    """The words of `text`, divided by blanks outside quotes; quotes and escapes stay. Raises Invalid."""
    while text := text.lstrip(_SPACE):
        word, text = first(text, escape, where)
        yield word


def first(text: str, escape: str, where: "Where") -> tuple[str, str]:
    """The first raw word of `text`, and what follows it and the blanks behind it. Raises Invalid."""
    quote = ""
    at = 0
    while at < len(text):
        one = text[at]
        if one == escape and quote != "'":
            at += 2
            continue
        if quote:
            quote = "" if one == quote else quote
        elif one in "'\"":
            quote = one
        elif one in _SPACE:
            break
        at += 1
    if quote:
        raise where.invalid(f"a quote {quote} is not closed in {text!r}")
    return text[:at], text[at:].lstrip(_SPACE)


def pairs(text: str, escape: str, where: "Where", name: str) -> list[tuple[str, str]]:
    """The arguments of ENV and LABEL, `KEY=VALUE …` or `KEY VALUE`; the words are raw. Raises Invalid."""
    head = first(text, escape, where)
    if "=" not in head[0]:
        if not head[1]:
            raise where.invalid(f"{name} {head[0]} has no value", f"{name} {head[0] or 'KEY'}=VALUE")
        return [(head[0], head[1])]
    found = []
    for word in raw(text, escape, where):
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise where.invalid(f"{word!r} is not KEY=VALUE", "put a value with blanks in quotes")
        found.append((key, value))
    return found


class _Reader:
    def __init__(self, text: str, scope: Scope, *, replace: bool, quotes: bool = True) -> None:
        self._text = text
        self._scope = scope
        self._replace = replace
        self._quotes = quotes
        self._at = 0

    def until(self, end: str) -> str:
        """What is before the character `end` outside quotes, which is taken, too; "" is the end of the text."""
        found: list[str] = []
        while self._at < len(self._text):
            one = self._take()
            if end and one == end:
                return "".join(found)
            if one == "'" and self._quotes:
                found.append(self._single())
            elif one == '"' and self._quotes:
                found.append(self._double())
            elif one == self._scope.escape:
                after = self._take()
                found.append(after if self._quotes or after in ("$", one) else one + after)
            elif one == "$" and self._replace:
                found.append(self._variable())
            else:
                found.append(one)
        if end:
            raise self._invalid(f"a {{ is not closed in {self._text!r}")
        return "".join(found)

    def _take(self) -> str:
        one = self._text[self._at : self._at + 1]
        self._at += 1
        return one

    def _single(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise self._invalid(f"a quote ' is not closed in {self._text!r}")
        found, self._at = self._text[self._at : end], end + 1
        return found

    def _double(self) -> str:
        found: list[str] = []
        while self._at < len(self._text):
            one = self._take()
            if one == '"':
                return "".join(found)
            if one == "$" and self._replace:
                found.append(self._variable())
            elif one == self._scope.escape:
                after = self._take()
                found.append(after if after in ('"', "$", self._scope.escape) else one + after)
            else:
                found.append(one)
        raise self._invalid(f'a quote " is not closed in {self._text!r}')

    def _variable(self) -> str:
        """What stands for `$x` or `${x…}`, whose `$` was taken."""
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braced()
        name = self._name()
        return self._scope.values.get(name, "") if name else "$"

    def _name(self) -> str:
        start = self._at
        while self._at < len(self._text) and _may_be_in_name(self._text[self._at], first=self._at == start):
            self._at += 1
        return self._text[start : self._at]

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise self._invalid(f"${{ is followed by no name in {self._text!r}")
        value = self._scope.values.get(name)
        one = self._take()
        if one == "}":
            return value or ""
        empty_counts = one == ":"  # whether one that is set, but empty, is as one that is not set
        if empty_counts:
            one = self._take()
        if one not in ("-", "+", "?"):
            known = "ctk knows :- - :+ + :? and ?"
            what = "patterns" if one and one in _PATTERNS else "this"
            raise self._invalid(f"${{{name}{':' if empty_counts else ''}{one}…}}: {what} can't be used here", known)
        word = self.until("}")
        there = bool(value) if empty_counts else value is not None
        if one == "+":
            return word if there else ""
        if one == "?" and not there:
            raise self._invalid(f"{name}: {word or 'it is not set'}", f"--build-arg {name}=… sets it")
        return (value or "") if there else word

    def _invalid(self, because: str, hint: str = "") -> Exception:
        return self._scope.where.invalid(because, hint)


def _may_be_in_name(one: str, *, first: bool) -> bool:
    return one == "_" or (one.isascii() and (one.isalpha() if first else one.isalnum()))
