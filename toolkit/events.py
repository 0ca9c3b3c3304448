"""The events that a stage can emit. The set is closed: a renderer handles each of them (`assert_never`).

A stage emits facts, and `emit` is its last parameter; nothing below `ui` prints. The screen is computed from the list
of events, and a file of events (one JSON object a line, `as_json`) is the build log.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Planned(NamedTuple):
    """The stages to come, in order: (name, title in plain words)."""

    stages: tuple[tuple[str, str], ...]


class Started(NamedTuple):
    """A stage begins. `total` is in `unit`s (bytes, packages, …); 0 means not known."""

    stage: str
    total: int = 0
    unit: str = ""


class Progressed(NamedTuple):
    """`done` of `total` `unit`s so far (absolute, not a delta); `item` is the one being worked on."""

    stage: str
    done: int
    total: int = 0
    unit: str = ""
    item: str = ""


class Finished(NamedTuple):
    """A stage succeeded. `detail` is one line in plain words; `skipped`: its result was already there."""

    stage: str
    seconds: float
    detail: str = ""
    skipped: bool = False


class Line(NamedTuple):
    """One line of a program's output inside a stage (a maintainer script, a hook). Shown only when asked for."""

    stage: str
    text: str


class Note(NamedTuple):
    """Something that the user should know; `warning` if it may be a mistake."""

    text: str
    warning: bool = False


class Traced(NamedTuple):
    """Something that was done, in detail, for `--explain`: nothing is emitted unless that was asked for.

    `kind` says which facts there are (toolkit/explain/pull/steps.py); none of them is a secret.
    """

    kind: str
    facts: dict[str, Any]


class Done(NamedTuple):
    """The whole command succeeded. `result` is machine-readable, `next_steps` are the commands to type next."""

    text: str
    seconds: float
    result: dict[str, Any] = {}  # noqa: RUF012 (nobody writes to it)
    next_steps: tuple[str, ...] = ()


Event = Planned | Started | Progressed | Finished | Line | Note | Traced | Done
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """An `Emit` that drops everything."""


def as_json(event: Event) -> dict[str, Any]:
    """The event as a JSON object; `event` names its kind in lower case."""
    return {"event": type(event).__name__.lower(), **event._asdict()}
