"""Makes the texts of events safe for a terminal: control characters are shown, not interpreted."""

from typing import Any

from toolkit.events import Event
from toolkit.text import printable


def event(given: Event) -> Event:
    """The event with `printable` texts: output of maintainer scripts, file names from a mirror."""
    texts: dict[str, Any] = {
        name: printable(text)
        for name, text in given._asdict().items()
        if isinstance(text, str) and not text.isprintable()
    }
    return given._replace(**texts) if texts else given
