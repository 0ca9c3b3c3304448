"""Signals that end us, as exceptions: unfinished work is cleaned up on the way out, and the exit code is 128 + n."""

import _signal  # the module `signal` makes enums of all numbers when it is imported: 3 ms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, NoReturn

_NAMES = {_signal.SIGTERM: "SIGTERM", _signal.SIGHUP: "SIGHUP"}


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP came. It is a KeyboardInterrupt so that code that cleans up after Ctrl-C does so here too."""


class Caught:
    """The signal that ended us: SIGINT unless another one came."""

    number = int(_signal.SIGINT)


class as_exceptions:
    """A context in which SIGTERM and SIGHUP raise `Ended` in the main thread. A SIGHUP that was ignored stays ignored.

    The signal is read from the context's value, not from the exception: typer's versions wrap that in different ways.
    """

    def __init__(self) -> None:
        self._caught = Caught()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Caught:
        for number in _NAMES:
            handler = _signal.getsignal(number)
            if handler != _signal.SIG_IGN:
                self._before[number] = handler
                _signal.signal(number, self._end)
        return self._caught

    def __exit__(
        self, _: "type[BaseException] | None", __: "BaseException | None", ___: "TracebackType | None"
    ) -> None:
        for number, handler in self._before.items():
            _signal.signal(number, handler)

    def _end(self, number: int, _: "FrameType | None") -> "NoReturn":
        self._caught.number = number
        raise Ended(_NAMES[number])
