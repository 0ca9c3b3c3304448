"""Events on a terminal: what would move the cursor or change colours in their texts is shown, not obeyed."""

import dataclasses
from typing import Any

from toolkit.events import Event
from toolkit.text import printable


def event(told: Event) -> Event:
    """The event with its own texts `printable`: what a package's script prints, what a mirror calls its files."""
    texts: dict[str, Any] = {
        field.name: printable(text)
        for field in dataclasses.fields(told)
        if isinstance(text := getattr(told, field.name), str) and not text.isprintable()
    }
    return dataclasses.replace(told, **texts) if texts else told
