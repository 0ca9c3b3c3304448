"""The state of the screen: a fold over the list of events. Pure; drawing it is `live.py`'s and `plain.py`'s work.

Events carry no clock, so each step of the fold is told when it happened (seconds of a monotonic clock).
"""

from dataclasses import dataclass, replace
from typing import Literal, assert_never

from toolkit.events import Done, Event, Finished, Line, Note, Planned, Progressed, Started

Status = Literal["waiting", "running", "done", "skipped"]

# A rate over the last few seconds follows a mirror that slows down; one over the whole stage would hide it.
RATE_WINDOW_S = 4.0
_SAMPLES = 24


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of the list. `samples` are (seconds, done) pairs, oldest first, for the rate."""

    name: str
    title: str
    status: Status = "waiting"
    began_s: float = 0.0
    seconds: float = 0.0
    done: int = 0
    total: int = 0
    unit: str = ""
    item: str = ""
    detail: str = ""
    samples: tuple[tuple[float, int], ...] = ()

    def rate(self) -> float:
        """Units a second over the last RATE_WINDOW_S; 0.0 while there is nothing to measure."""
        if len(self.samples) < 2:
            return 0.0
        last_s, last = self.samples[-1]
        first_s, first = next((at, done) for at, done in self.samples if at >= last_s - RATE_WINDOW_S)
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


@dataclass(frozen=True, slots=True)
class Screen:
    """All that there is to see. `notes` and `lines` keep the order in which they came."""

    stages: tuple[Stage, ...] = ()
    notes: tuple[Note, ...] = ()
    line: str = ""
    began_s: float = -1.0
    done: Done | None = None

    def stage(self, name: str) -> Stage:
        """The stage called `name`; one that was never planned gets its own name as title."""
        return next((stage for stage in self.stages if stage.name == name), Stage(name, name))

    def number(self, name: str) -> int:
        """The place of `name` in the list, from 1."""
        return next((at for at, stage in enumerate(self.stages, 1) if stage.name == name), len(self.stages))

    def with_stage(self, stage: Stage) -> "Screen":
        if any(known.name == stage.name for known in self.stages):
            return replace(self, stages=tuple(stage if s.name == stage.name else s for s in self.stages))
        return replace(self, stages=(*self.stages, stage))


def step(screen: Screen, event: Event, at_s: float) -> Screen:
    """The screen after `event`, which happened at `at_s`."""
    if screen.began_s < 0:
        screen = replace(screen, began_s=at_s)
    match event:
        case Planned(stages):
            known = {stage.name: stage for stage in screen.stages}
            # What was planned before and has not begun comes in the new plan's order, behind all that it left out.
            ahead = [known.get(name, Stage(name, title)) for name, title in stages]
            ahead = [stage for stage in ahead if stage.name not in known or stage.status == "waiting"]
            moved = {stage.name for stage in ahead}
            stayed = tuple(stage for stage in screen.stages if stage.name not in moved)
            return replace(screen, stages=stayed + tuple(ahead))
        case Started(name, total, unit):
            stage = replace(
                screen.stage(name), status="running", began_s=at_s, total=total, unit=unit, samples=((at_s, 0),)
            )
            return replace(screen.with_stage(stage), line="")
        case Progressed(name, done, total, unit, item):
            stage = screen.stage(name)
            return screen.with_stage(
                replace(
                    stage,
                    status="running",
                    began_s=stage.began_s or at_s,
                    done=done,
                    total=total or stage.total,
                    unit=unit or stage.unit,
                    item=item or stage.item,
                    samples=(*stage.samples[-_SAMPLES:], (at_s, done)),
                )
            )
        case Finished(name, seconds, detail, skipped):
            status: Status = "skipped" if skipped else "done"
            return screen.with_stage(
                replace(screen.stage(name), status=status, seconds=seconds, detail=detail, item="")
            )
        case Line(_, text):
            return replace(screen, line=text.rstrip())
        case Note():
            return replace(screen, notes=(*screen.notes, event))
        case Done():
            return replace(screen, done=event)
        case _:
            assert_never(event)
