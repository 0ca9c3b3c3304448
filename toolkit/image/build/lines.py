"""The text of a Containerfile as instructions: comments, continued lines, flags and here-documents. Pure.

Source: Dockerfile reference, "Format", "Parser directives", "Here-Documents"; where it is silent, BuildKit's behaviour.
"""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from toolkit.errors import Invalid
from toolkit.image.build import words

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*")
_HEREDOC = re.compile(r"(\d*)<<(-?)(.+)", re.DOTALL)
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")
_SPACE = " \t\r\v\f"
LIMIT_BYTES = 4 << 20


class Where(NamedTuple):
    """A place in a file. As a text: `Containerfile:3`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def invalid(self, because: str, hint: str = "") -> Invalid:
        """The error for what is written here."""
        return Invalid("", because, hint=hint, document=str(self))


class Heredoc(NamedTuple):
    """`<<NAME` and the lines up to NAME. `expand`: variables in it are replaced, for the name was not quoted."""

    name: str
    content: str
    expand: bool


class Line(NamedTuple):
    """An instruction. `name` is in upper case; `flags` are (name, value), None for a flag without `=`.

    `rest` is what follows the flags, `text` the whole instruction for people.
    """

    where: Where
    name: str
    flags: tuple[tuple[str, str | None], ...]
    rest: str
    heredocs: tuple[Heredoc, ...]
    text: str

    def json(self) -> tuple[str, ...] | None:
        """`rest` as a JSON array of texts; None if it is not one, and so the shell's form."""
        return json_words(self.rest)


class Containerfile(NamedTuple):
    """`escape` is the character of the directive, a backslash or a grave accent."""

    lines: tuple[Line, ...]
    escape: str


def json_words(text: str) -> tuple[str, ...] | None:
    """A JSON array of texts; None if `text` is not one."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        return None
    return tuple(found)


def read(data: bytes, file: str) -> Containerfile:
    """The instructions of a Containerfile. Raises Invalid."""
    if len(data) > LIMIT_BYTES:
        raise Invalid("", f"it has {len(data)} bytes, and {LIMIT_BYTES} is the limit", document=file)
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        raise Where(file, data[: error.start].count(b"\n") + 1).invalid("it is not UTF-8") from None
    if "\0" in text:
        raise Where(file, text[: text.index("\0")].count("\n") + 1).invalid("there is a NUL byte in it")
    physical = [line.removesuffix("\r") for line in text.split("\n")]
    escape = _escape(physical, file)
    return Containerfile(tuple(_instructions(physical, file, escape)), escape)


def _escape(physical: list[str], file: str) -> str:
    """The escape character: directives stand before everything else, each once."""
    seen = set()
    escape = "\\"
    for number, line in enumerate(physical, 1):
        found = _DIRECTIVE.fullmatch(line.lstrip(_SPACE))
        if not found or (name := found[1].lower()) not in ("escape", "syntax", "check"):
            return escape
        where = Where(file, number)
        if name in seen:
            raise where.invalid(f"the directive {name!r} is there twice")
        seen.add(name)
        if name == "escape":
            if found[2] not in ("\\", "`"):
                raise where.invalid(f"the escape character is {found[2]!r}: it can be \\ or `")
            escape = found[2]
    return escape


def _instructions(physical: list[str], file: str, escape: str) -> Iterator[Line]:
    mark = re.escape(escape)
    continued = re.compile(rf"(.*[^{mark}]|){mark}[ \t]*", re.DOTALL)
    at = 0
    while at < len(physical):
        where, line = Where(file, at + 1), physical[at].lstrip(_SPACE)
        at += 1
        if not line or line.startswith("#"):
            continue
        parts = []
        while found := continued.fullmatch(line):
            parts.append(found[1])
            while at < len(physical) and _is_nothing(physical[at]):
                at += 1
            if at == len(physical):
                line = ""
                break
            line = physical[at]
            at += 1
        parts.append(line)
        whole = "".join(parts).strip(_SPACE)
        if not whole:
            continue
        one = _instruction(where, whole, escape)
        heredocs = []
        for head in _heads(one, escape):
            content, at = _body(physical, at, head, where)
            heredocs.append(Heredoc(head.name, content, head.expand))
        yield one._replace(heredocs=tuple(heredocs))


def _is_nothing(line: str) -> bool:
    """Whether a line inside a continued one counts for nothing: it is empty, or a comment."""
    line = line.strip(_SPACE)
    return not line or line.startswith("#")


def _instruction(where: Where, whole: str, escape: str) -> Line:
    name, *after = re.split(r"[ \t\r\v\f]+", whole, maxsplit=1)
    name, rest = name.upper(), after[0] if after else ""
    if not name.isalpha():
        raise where.invalid(f"{name!r} is not an instruction")
    flags = []
    while rest.startswith("--"):
        word, rest = words.first(rest, escape, where)
        if word == "--":
            break
        key, equals, value = word[2:].partition("=")
        flags.append((key, value if equals else None))
    return Line(where, name, tuple(flags), rest, (), whole)


class _Head(NamedTuple):
    name: str
    tabs: bool
    expand: bool


def _heads(line: Line, escape: str) -> Iterator[_Head]:
    """The here-documents that begin in a line."""
    if line.name not in _WITH_HEREDOCS or "<<" not in line.rest or line.json() is not None:
        return
    for word in words.raw(line.rest, escape, line.where):
        found = _HEREDOC.fullmatch(word)
        if not found or found[3].startswith("<"):
            continue
        name = words.unquoted(found[3], escape, line.where)
        if name and not re.search(r"[\s<>|;&$]", name):
            yield _Head(name, bool(found[2]), name == found[3])


def _body(physical: list[str], at: int, head: _Head, where: Where) -> tuple[str, int]:
    """The lines of a here-document, and the number of the line after it."""
    found: list[str] = []
    for number in range(at, len(physical)):
        line = physical[number].lstrip("\t") if head.tabs else physical[number]
        if line == head.name:
            return "".join(found), number + 1
        found.append(line + "\n")
    raise where.invalid(f"the here-document has no end: no line is {head.name!r}")
