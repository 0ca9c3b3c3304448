"""Plain lines, for a pipe, a log or a terminal that cannot move its cursor. Nothing is ever taken back."""

import threading
import time
from typing import Self, TextIO

from toolkit.events import Done, Event, Finished, Line, Note, Planned, Progressed, Started
from toolkit.ui import printable
from toolkit.ui.quantity import part, span
from toolkit.ui.screen import Screen, step

# A stage that takes long says so now and then: a silent log looks like a hang.
HEARTBEAT_S = 10.0


def lines(event: Event, after: Screen, *, verbose: bool = False) -> list[str]:
    """What `event` adds to the output; pure. `after` is the screen with it."""
    match event:
        case Finished(name, seconds, detail, skipped):
            stage = after.stage(name)
            what = f"{_place(after, name)} {stage.title}"
            if skipped:
                return [f"{what}: already there" + (f" ({detail})" if detail else "")]
            return [f"{what}: {detail} ({span(seconds)})" if detail else f"{what} ({span(seconds)})"]
        case Note(text, warning):
            return [f"warning: {text}" if warning else text]
        case Line(_, text):
            return ["  " + text.rstrip()] if verbose else []
        case Done(text, seconds, _, next_steps):
            told = [f"{text} ({span(seconds)})" if seconds else text]
            return told + (["next:", *("  " + line for line in next_steps)] if next_steps else [])
        case _:
            return []


def _place(screen: Screen, name: str) -> str:
    return f"[{screen.number(name)}/{len(screen.stages)}]"


def heartbeat(screen: Screen, name: str) -> str:
    """A line for a stage under way."""
    stage = screen.stage(name)
    done = part(stage.done, stage.total, stage.unit)
    return f"{_place(screen, name)} {stage.title}: {done} so far"


class PlainLines:
    """A context giving an Emit that prints one line a fact, prefixed as every message of ctk is."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose
        self._screen = Screen()
        self._told_s = 0.0
        self._held: dict[str, list[str]] = {}  # lines of stages that ended before one in front of them
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write([line for told in self._held.values() for line in told])
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        event = printable.event(event)
        now = time.monotonic()
        with self._lock:
            self._screen = step(self._screen, event, now)
            told = lines(event, self._screen, verbose=self._verbose)
            match event:
                case Started() | Planned():
                    self._told_s = now
                case Progressed(name) if now - self._told_s > HEARTBEAT_S:
                    told = [heartbeat(self._screen, self._first_running() or name)]
                case Finished(name):
                    self._held[name] = told
                    told = self._in_order()
                case Done():
                    told = [line for held in self._held.values() for line in held] + told
                    self._held = {}
            if told:
                self._told_s = now
                self._write(told)

    def _first_running(self) -> str:
        return next((stage.name for stage in self._screen.stages if stage.status == "running"), "")

    def _in_order(self) -> list[str]:
        """The lines of ended stages with none running in front of them; they are told now, by their numbers."""
        first = self._first_running()
        last = self._screen.number(first) if first else len(self._screen.stages) + 1
        ready = sorted((name for name in self._held if self._screen.number(name) < last), key=self._screen.number)
        return [line for name in ready for line in self._held.pop(name)]

    def _write(self, told: list[str]) -> None:
        self._stream.write("".join(f"ctk: {line}\n" for line in told))
        self._stream.flush()
