"""Signals that end us, as exceptions: unfinished work is cleaned up on the way out, and the exit code is 128 + n."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. It is a KeyboardInterrupt so that code that cleans up after Ctrl-C does so here too."""


class Caught:
    """The signal that ended us: SIGINT unless another one came."""

    number = int(signal.SIGINT)


@contextmanager
def as_exceptions() -> Iterator[Caught]:
    """Make SIGTERM and SIGHUP raise `Ended` in the main thread. A SIGHUP that was ignored (nohup) stays ignored.

    The signal is read from the yielded value, not from the exception: typer's versions wrap that in different ways.
    """
    caught = Caught()

    def end(number: int, _: FrameType | None) -> NoReturn:
        caught.number = number
        raise Ended(signal.Signals(number).name)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN:
            before[number] = handler
            signal.signal(number, end)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
