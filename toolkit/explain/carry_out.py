"""Carry a launch out while it is shown: `ctk explain --run`. It is `ctk run` itself, watched at its stops."""

import time
from typing import Protocol

from toolkit.explain.launch import Launch
from toolkit.runtime import argv, stops


class Watcher(Protocol):
    """Who shows it; called in the container's first process, where nothing may be imported or opened."""

    def begins(self) -> None:
        """Before anything is done."""

    def done(self, step: int, nanoseconds: int) -> None:
        """The plan's step of this number took so long."""


def run(launch: Launch, watcher: Watcher) -> int:
    """The program's exit code, as `ctk run` gives it. Raises CtkError."""
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

    stops.passed = shown
    try:
        watcher.begins()
        return verb.run(options)
    finally:
        stops.passed = passed
