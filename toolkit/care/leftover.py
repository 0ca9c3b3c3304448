"""What `ctk gc` finds: something that nobody needs, or something that looks like it and stays."""

from collections.abc import Callable
from dataclasses import dataclass

from toolkit.events import Emit


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that nobody needs: `remove` takes it away; it raises CtkError or OSError if it can't."""

    kind: str
    name: str
    why: str
    remove: Callable[[Emit], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that stays, and why; `hint` is the line that would remove it."""

    kind: str
    name: str
    why: str
    hint: str = ""


Found = Leftover | Kept
