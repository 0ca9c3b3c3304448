"""`ctk explain --run`: carry a launch out and show its steps. It is `ctk run` itself, observed at its stops."""

import time
from typing import Protocol

from toolkit.explain.launch import Launch
from toolkit.runtime import argv, stops


class Watcher(Protocol):
    """Shows the steps. It is called in the container's first process, where nothing may be imported or opened."""

    def begins(self) -> None:
        """Before anything is done."""

    def done(self, step: int, nanoseconds: int) -> None:
        """The plan's step with this index took so long."""


def run(launch: Launch, watcher: Watcher) -> int:
    """Run the launch and return the program's exit code, as `ctk run` does. Raises CtkError."""
    from toolkit.runtime import main
    from toolkit.runtime.verbs import run as verb

    options, at = argv.parse_global(["run"])
    options.program = "ctk"
    argv.parse_verb(options, ["run", "--bundle", launch.bundle, launch.id], at)
    main.settle(options)
    passed, clock = stops.passed, time.perf_counter_ns
    state = [0, clock()]

    def shown(side: str) -> None:
        # The runtime passes a stop after each of the plan's steps (toolkit/runtime/child.py), and some at its end.
        passed(side)
        if side == "child":
            now = clock()
            watcher.done(state[0], now - state[1])
            state[0] += 1
            state[1] = clock()

    # In place of the function for so long: handed down as a parameter it would go through every launch, for this alone.
    stops.passed = shown
    try:
        watcher.begins()
        return verb.run(options)
    finally:
        stops.passed = passed
