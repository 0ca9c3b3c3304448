"""Signals that end us, as exceptions: what was begun is cleaned up on the way out, then the shell gets 128 + n."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. A KeyboardInterrupt, because whoever cleans up after Ctrl-C must do so after these."""


class Caught:
    """The signal that ended us: SIGINT unless another one came."""

    number = int(signal.SIGINT)


@contextmanager
def as_exceptions() -> Iterator[Caught]:
    """Within it SIGTERM and SIGHUP raise `Ended` in the main thread; a SIGHUP that was ignored (nohup) stays so.

    What is caught is told apart by the value: typer wraps the exception, differently in its different versions.
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
