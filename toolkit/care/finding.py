"""What `ctk doctor` has to say about one thing."""

from dataclasses import asdict, dataclass
from typing import Any

OK, NOTE, WARN, BAD = "ok", "note", "warn", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is OK, NOTE (a fact, neither good nor bad), WARN (some things won't work) or BAD (`needed_by` won't).

    `fix` holds the exact line to type, "" where there is nothing to mend or no line would do.
    """

    topic: str
    state: str
    what: str
    needed_by: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return asdict(self)
