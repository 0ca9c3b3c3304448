"""Makes the texts of events safe for a terminal: control characters are shown, not interpreted."""

import dataclasses
from typing import Any

from toolkit.events import Event
from toolkit.text import printable


def event(given: Event) -> Event:
    """The event with `printable` texts: output of maintainer scripts, file names from a mirror."""
    texts: dict[str, Any] = {
        field.name: printable(text)
        for field in dataclasses.fields(given)
        if isinstance(text := getattr(given, field.name), str) and not text.isprintable()
    }
    return dataclasses.replace(given, **texts) if texts else given
