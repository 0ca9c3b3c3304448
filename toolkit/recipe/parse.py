"""Markdown to Recipe. Only a part of Markdown is read: the title, sections, fenced blocks, comments."""

import os
import re

from toolkit.errors import Invalid
from toolkit.recipe.model import Block, Command, Recipe, Step

_FENCE = re.compile(r"^(`{3,})\s*(\S*)\s*(.*)$")
_HOST_PROMPT = re.compile(r"^([$#]) (.*)$")
# The prompt of a program, as shown in the terminal: "root@runc:/# ", "bash-5.2$ ", "/ # ".
_INNER_PROMPT = re.compile(r"^[\w@.:~/\[\]-]+ ?[#$]( .*)?$")
_INNER_COMMAND = re.compile(r"^[\w@.:~/\[\]-]+ ?[#$] ?(.*)$")
_NEEDS = re.compile(r"<!--\s*needs:\s*(.*?)\s*-->")
_MINUTES = re.compile(r"<!--\s*minutes:\s*(\d+)\s*-->")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def parse(text: str, path: str) -> Recipe:
    """The recipe in `text`. `path` gives its name and is used in errors.

    Raises Invalid, with the line, for a block that can't be read.
    """
    title, section, number = "", "", 0
    words: list[str] = []
    steps: list[Step] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        fence = _FENCE.match(line)
        if fence is not None:
            end = _end_of(lines, at, fence[1], path)
            if fence[2] == "console":
                number += 1
                block = _block(lines[at + 1 : end], fence[3], path, at + 1)
                steps.append(Step(number, section, _prose(words), block))
                words = []
            else:
                words += lines[at : end + 1]
            at = end + 1
            continue
        if line.startswith("# ") and not title:
            title = line[2:].strip()
        elif line.startswith("## "):
            if _prose(words):
                steps.append(Step(number, section, _prose(words), None))
            words, section = [], line[3:].strip()
        else:
            words.append(line)
        at += 1
    if _prose(words):
        steps.append(Step(number, section, _prose(words), None))
    if not title:
        raise Invalid("", "it has no title (a line that begins with '# ')", document=path)
    if not number:
        raise Invalid("", "it has no ```console block, so there is nothing to run", document=path)
    needs, minutes = _NEEDS.search(text), _MINUTES.search(text)
    return Recipe(
        name=name_of(path),
        title=title,
        summary=_first_paragraph(steps[0].words),
        steps=tuple(steps),
        path=path,
        needs=tuple(needs[1].split()) if needs else (),
        minutes=int(minutes[1]) if minutes else 0,
    )


def name_of(path: str) -> str:
    """The name of a recipe file without its number: '01-first-container.md' is 'first-container'."""
    return re.sub(r"^\d+-", "", os.path.basename(path).removesuffix(".md"))


def _end_of(lines: list[str], start: int, fence: str, path: str) -> int:
    for at in range(start + 1, len(lines)):
        if lines[at].rstrip() == fence:
            return at
    raise Invalid(f"line {start + 1}", "the fenced block is never closed", document=path)


def _prose(words: list[str]) -> str:
    return _COMMENT.sub("", "\n".join(words)).strip()


def _first_paragraph(words: str) -> str:
    return " ".join(words.split("\n\n")[0].split())


def _block(lines: list[str], attributes: str, path: str, line: int) -> Block:
    given: dict[str, str] = {}
    for word in attributes.split():
        key, _, value = word.partition("=")
        given[key] = value
    known = {"terminal", "expect-fail", "cleanup", "stays", "timeout", "if"}
    if unknown := set(given) - known:
        because = f"unknown attribute {sorted(unknown)[0]!r}; there are {', '.join(sorted(known))}"
        raise Invalid(f"line {line}", because, document=path)
    commands = _commands(lines)
    if not commands:
        raise Invalid(f"line {line}", "the block has no line that begins with '$ ' or '# '", document=path)
    return Block(
        commands=commands,
        terminal=given.get("terminal", "1"),
        expect_fail="expect-fail" in given,
        cleanup="cleanup" in given,
        stays="stays" in given,
        timeout_s=float(given.get("timeout", "600")),
        conditions=tuple(word for word in given.get("if", "").split(",") if word),
        line=line,
    )


def _commands(lines: list[str]) -> tuple[Command, ...]:
    """The commands of a block. If it begins with a line at a program's prompt, that is typed into what still runs."""
    found: list[Command] = []
    head: tuple[str, bool] | None = None
    groups: list[tuple[str, list[str]]] = []  # (typed line, output after it); the first one is the command itself

    def close() -> None:
        if head is None:
            return
        first, *inner = groups
        typed = tuple(Command(text, True, _expectation(out)) for text, out in inner)
        found.append(Command(head[0], head[1], _expectation(first[1]), typed))

    at = 0
    while at < len(lines):
        line = lines[at]
        host = _HOST_PROMPT.match(line)
        inner = None if host else _INNER_COMMAND.match(line) if _INNER_PROMPT.match(line) else None
        if host is not None:
            close()
            text = host[2]
            while (text.endswith("\\") or _open_heredoc(text)) and at + 1 < len(lines):
                at += 1
                text += "\n" + lines[at].removeprefix("> ")
            head, groups = (text, host[1] == "#"), [(text, [])]
        elif inner is not None:
            if head is None:
                head, groups = ("", True), [("", [])]
            groups.append((inner[1], []))
        elif head is not None:
            groups[-1][1].append(line)
        at += 1
    close()
    return tuple(found)


def _open_heredoc(text: str) -> bool:
    match = re.search(r"<<-?\s*['\"]?(\w+)['\"]?", text.split("\n")[0])
    return match is not None and match[1] not in text.split("\n")[1:]


def _expectation(lines: list[str]) -> tuple[str, ...]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return tuple(lines)
