"""Plain lines, for a pipe, a log or a terminal that can't move its cursor. Nothing is ever redrawn."""

import threading
import time
from typing import Self, TextIO

from toolkit.events import Done, Event, Finished, Line, Note, Planned, Progressed, Started
from toolkit.ui import printable
from toolkit.ui.quantity import part, span
from toolkit.ui.screen import Screen, step

# A long stage writes a line now and then: a silent log looks like a hang.
HEARTBEAT_S = 10.0


def lines(event: Event, after: Screen, *, verbose: bool = False) -> list[str]:
    """The lines that `event` adds to the output; pure. `after` is the screen after the event."""
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
            output = [f"{text} ({span(seconds)})" if seconds else text]
            return output + (["next:", *("  " + line for line in next_steps)] if next_steps else [])
        case _:
            return []


def _place(screen: Screen, name: str) -> str:
    return f"[{screen.number(name)}/{len(screen.stages)}]"


def heartbeat(screen: Screen, name: str) -> str:
    """A line for a running stage."""
    stage = screen.stage(name)
    done = part(stage.done, stage.total, stage.unit)
    return f"{_place(screen, name)} {stage.title}: {done} so far"


class PlainLines:
    """A context whose Emit prints one line per fact, with the prefix of all messages of ctk."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose
        self._screen = Screen()
        self._written_s = 0.0
        self._held: dict[str, list[str]] = {}  # lines of stages that ended before an earlier one did
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write([line for output in self._held.values() for line in output])
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        event = printable.event(event)
        now = time.monotonic()
        with self._lock:
            self._screen = step(self._screen, event, now)
            output = lines(event, self._screen, verbose=self._verbose)
            match event:
                case Started() | Planned():
                    self._written_s = now
                case Progressed(name) if now - self._written_s > HEARTBEAT_S:
                    output = [heartbeat(self._screen, self._first_running() or name)]
                case Finished(name):
                    self._held[name] = output
                    output = self._in_order()
                case Done():
                    output = [line for held in self._held.values() for line in held] + output
                    self._held = {}
            if output:
                self._written_s = now
                self._write(output)

    def _first_running(self) -> str:
        return next((stage.name for stage in self._screen.stages if stage.status == "running"), "")

    def _in_order(self) -> list[str]:
        """The lines of ended stages that have no running stage before them, in order; they can be written now."""
        first = self._first_running()
        last = self._screen.number(first) if first else len(self._screen.stages) + 1
        ready = sorted((name for name in self._held if self._screen.number(name) < last), key=self._screen.number)
        return [line for name in ready for line in self._held.pop(name)]

    def _write(self, output: list[str]) -> None:
        self._stream.write("".join(f"ctk: {line}\n" for line in output))
        self._stream.flush()
