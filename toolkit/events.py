"""The events that a stage can emit. The set is closed: a renderer handles each of them (`assert_never`).

A stage emits facts, and `emit` is its last parameter; nothing below `ui` prints. The screen is computed from the list
of events, and a file of events (one JSON object a line, `as_json`) is the build log.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Planned:
    """The stages to come, in order: (name, title in plain words)."""

    stages: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Started:
    """A stage begins. `total` is in `unit`s (bytes, packages, …); 0 means not known."""

    stage: str
    total: int = 0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Progressed:
    """`done` of `total` `unit`s so far (absolute, not a delta); `item` is the one being worked on."""

    stage: str
    done: int
    total: int = 0
    unit: str = ""
    item: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """A stage succeeded. `detail` is one line in plain words; `skipped`: its result was already there."""

    stage: str
    seconds: float
    detail: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a program's output inside a stage (a maintainer script, a hook). Shown only when asked for."""

    stage: str
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know; `warning` if it may be a mistake."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Traced:
    """Something that was done, in detail, for `--explain`: nothing is emitted unless that was asked for.

    `kind` says which facts there are (toolkit/explain/pull/steps.py); none of them is a secret.
    """

    kind: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """The whole command succeeded. `result` is machine-readable, `next_steps` are the commands to type next."""

    text: str
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)
    next_steps: tuple[str, ...] = ()


Event = Planned | Started | Progressed | Finished | Line | Note | Traced | Done
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """An `Emit` that drops everything."""


def as_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object; `event` names its kind in lower case."""
    return {"event": type(event).__name__.lower(), **asdict(event)}
