"""A help page as text. Names are never cut; their descriptions are wrapped beside or below them."""

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

_WIDEST = 100  # longer lines are hard to read, even on a wider terminal
_LEFT = 26  # a longer name gets a line of its own


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and rows of (names, description)."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Usage, paragraphs, sections, and examples, which are shown as they are."""

    usage: str
    text: str
    sections: tuple[Section, ...]
    example: str = ""


def width() -> int:
    """The number of columns for a page on this terminal."""
    return min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)


def rendered(page: Page, columns: int, *, bold: bool) -> str:
    """The page in lines of at most `columns` characters, except for longer names; pure."""
    lines = [_strong("Usage: ", bold) + page.usage]
    for paragraph in page.text.split("\n\n"):
        if paragraph.strip():
            lines += ["", *textwrap.wrap(" ".join(paragraph.split()), columns)]
    left = min(_LEFT, max((len(name) for part in page.sections for name, _ in part.rows), default=0))
    for part in page.sections:
        lines += ["", _strong(f"{part.title}:", bold), *_rows(part.rows, left, columns, bold)]
    if page.example:
        lines += ["", *page.example.splitlines()]
    return "\n".join(lines) + "\n"


def _rows(rows: Sequence[tuple[str, str]], left: int, columns: int, bold: bool) -> list[str]:
    found = []
    margin = " " * (left + 4)
    for name, text in rows:
        wrapped = textwrap.wrap(text, columns, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
        names = textwrap.wrap(name, columns - 2, break_long_words=False, break_on_hyphens=False) or [""]
        shown = ["  " + _strong(part, bold) for part in names]
        if len(names) == 1 and len(name) <= left and wrapped:
            shown[0] += " " * (left - len(name) + 2) + wrapped.pop(0).lstrip()
        found += [*shown, *wrapped]
    return found


def _strong(text: str, bold: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if bold else text


def first_day(*, root: bool) -> str:
    """The most important commands for a new user, in a dozen lines; pure."""
    rows = (
        ("up bookworm my-cont", "make a Debian system and open a shell in it"),
        ("recipe run first-container", "the same by hand, step by step"),
        ("recipe list", "fourteen more tutorials that run"),
        ("", ""),
        ("list", "list the containers"),
        ("exec -t my-cont sh", "open another shell in a running one"),
        ("inspect my-cont", "show its namespaces, limits and rights"),
        ("stop my-cont, rm my-cont", "stop it, remove it"),
        ("doctor", "check what this host can do"),
    )
    # All others need root, or a user with subordinate ids, which `doctor` checks.
    sudo = "" if root else "sudo "
    plain = ("recipe list", "doctor")
    lines = [(f"  {'' if left in plain else sudo}ctk {left}" if left else "", right) for left, right in rows]
    table = "".join(f"{left:<39}{right}".rstrip() + "\n" for left, right in lines)
    begin = "ctk makes a Debian or Ubuntu root file system and runs it as a container.\n\n"
    return begin + table + "\nctk --help lists every command, ctk COMMAND --help its options.\n"
