"""`ctk explain --run`: carry a launch out and show its steps. It is `ctk run` itself, observed at its stops."""

import time
from typing import Protocol

from toolkit.explain.launch import Launch
from toolkit.runtime import argv, stops


class Watcher(Protocol):
    """Shows the steps."""

    def begins(self) -> None:
        """Before anything is done."""

    def done(self, step: int, nanoseconds: int) -> None:
        """The plan's step with this index took so long."""


def run(launch: Launch, watcher: Watcher) -> int:
    """Run the launch and return the program's exit code, as `ctk run` does. Raises CtkError."""
    from toolkit.runtime import main
    from toolkit.runtime.verbs import run as verb

    options, verb_at = argv.parse_global(["run"])
    options.program = "ctk"
    argv.parse_verb(options, ["run", "--bundle", launch.bundle, launch.id], verb_at)
    main.settle(options)
    state = [0, time.perf_counter_ns()]

    def at(now: int) -> None:
        watcher.done(state[0], now - state[1])
        state[0] += 1
        state[1] = now

    # The program of the launch tells when each of the plan's steps is done (first_process.py), then some at its end.
    stops.watch = at
    try:
        watcher.begins()
        return verb.run(options)
    finally:
        stops.watch = None
