"""What `ctk gc` finds: something to remove, or something that looks similar and stays."""

from collections.abc import Callable
from dataclasses import dataclass

from toolkit.events import Emit


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that is no longer needed. `remove` removes it; it raises CtkError or OSError if it can't."""

    kind: str
    name: str
    why: str
    remove: Callable[[Emit], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that stays, and why. `hint` is the command that would remove it."""

    kind: str
    name: str
    why: str
    hint: str = ""


Found = Leftover | Kept
