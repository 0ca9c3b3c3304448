"""The state of the screen: a fold over the events. Pure; `live.py` and `plain.py` draw it.

Events have no time, so each step of the fold gets the time of its event (seconds of a monotonic clock).
"""

from typing import Literal, NamedTuple, assert_never

from toolkit.events import Done, Event, Finished, Line, Note, Planned, Progressed, Started, Traced

Status = Literal["waiting", "running", "done", "skipped"]

# The rate is that of the last few seconds: one over the whole stage would hide that a mirror slows down.
RATE_WINDOW_S = 4.0
_SAMPLES = 24


class Stage(NamedTuple):
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
        """Units per second over the last RATE_WINDOW_S; 0.0 if there are too few samples."""
        if len(self.samples) < 2:
            return 0.0
        last_s, last = self.samples[-1]
        first_s, first = next((at, done) for at, done in self.samples if at >= last_s - RATE_WINDOW_S)
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


class Screen(NamedTuple):
    """The whole state. `notes` and `lines` are in the order of their events."""

    stages: tuple[Stage, ...] = ()
    notes: tuple[Note, ...] = ()
    line: str = ""
    began_s: float = -1.0
    done: Done | None = None

    def stage(self, name: str) -> Stage:
        """The stage `name`. One that was never planned has its name as its title."""
        return next((stage for stage in self.stages if stage.name == name), Stage(name, name))

    def number(self, name: str) -> int:
        """The position of `name` in the list, from 1."""
        return next((at for at, stage in enumerate(self.stages, 1) if stage.name == name), len(self.stages))

    def with_stage(self, stage: Stage) -> "Screen":
        if any(known.name == stage.name for known in self.stages):
            return self._replace(stages=tuple(stage if s.name == stage.name else s for s in self.stages))
        return self._replace(stages=(*self.stages, stage))


def step(screen: Screen, event: Event, at_s: float) -> Screen:
    """The screen after `event`, which happened at `at_s`."""
    if screen.began_s < 0:
        screen = screen._replace(began_s=at_s)
    match event:
        case Planned(stages):
            known = {stage.name: stage for stage in screen.stages}
            # Stages that have not started are put in the order of the new plan, after those that it does not name.
            ahead = [known.get(name, Stage(name, title)) for name, title in stages]
            ahead = [stage for stage in ahead if stage.name not in known or stage.status == "waiting"]
            moved = {stage.name for stage in ahead}
            stayed = tuple(stage for stage in screen.stages if stage.name not in moved)
            return screen._replace(stages=stayed + tuple(ahead))
        case Started(name, total, unit):
            stage = screen.stage(name)._replace(
                status="running", began_s=at_s, total=total, unit=unit, samples=((at_s, 0),)
            )
            return screen.with_stage(stage)._replace(line="")
        case Progressed(name, done, total, unit, item):
            stage = screen.stage(name)
            return screen.with_stage(
                stage._replace(
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
                screen.stage(name)._replace(status=status, seconds=seconds, detail=detail, item="")
            )
        case Line(_, text):
            return screen._replace(line=text.rstrip())
        case Note():
            return screen._replace(notes=(*screen.notes, event))
        case Done():
            return screen._replace(done=event)
        case Traced():
            return screen
        case _:
            assert_never(event)
