"""One finding of `ctk doctor`."""

from dataclasses import asdict, dataclass
from typing import Any

OK, NOTE, WARN, BAD = "ok", "note", "warn", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is OK, NOTE (a neutral fact), WARN (some things won't work) or BAD (`needed_by` won't work).

    `fix` is the exact command to type; "" if there is nothing to fix, or no single command for it.
    """

    topic: str
    state: str
    what: str
    needed_by: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        return asdict(self)
