"""Text of somebody else's on a terminal: what would move the cursor or change colours is shown, not obeyed."""

import dataclasses
from typing import Any

from toolkit.events import Event


def event(told: Event) -> Event:
    """The event with its own texts `printable`: what a package's script prints, what a mirror calls its files."""
    texts: dict[str, Any] = {
        field.name: printable(text)
        for field in dataclasses.fields(told)
        if isinstance(text := getattr(told, field.name), str) and not text.isprintable()
    }
    return dataclasses.replace(told, **texts) if texts else told


def printable(text: str) -> str:
    """`text` with control characters as escapes; newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def line(text: str) -> str:
    """`printable` in one line."""
    return printable(text).replace("\n", "\\n")
