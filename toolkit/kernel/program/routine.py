"""A part of a program that stands once in it, and is carried out wherever it is called."""

import os

from toolkit.errors import SystemCall
from toolkit.kernel.program.program import MEMORY, Cell, Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.errors import CtkError
    from toolkit.kernel.program.program import Owner, Program


class Routine:
    """`body` writes it, once, and only if it is called; it ends with `back` or `fail`.

    `arguments` are its cells, `size` of them. A failure belongs to the owner of the call.
    """

    __slots__ = ("_back", "_body", "_called", "_callers", "_number", "_record", "_room", "arguments", "p")

    def __init__(self, p: "Program", size: int, body: "Callable[[], None]") -> None:
        self.p = p
        self._body = body
        self._room = p.room(8 * (size + 1))
        self.arguments = [Cell(self._room - MEMORY + 8 * index) for index in range(size)]
        self._number = Cell(self._room - MEMORY + 8 * size)  # of the call, in its higher bytes
        self._back, self._record = p.cell(), p.cell()
        self._called = (Label(), Label())  # with a record of the arguments; with the arguments in place
        self._callers: list[tuple[Owner | None, str]] = []

    def call(self, *values: int, then: Label, said: str = "") -> None:
        """Carry it out with these values, and go on at `then`. `said`: what a failure is called."""
        p = self.p
        record = p.words(*values, len(self._callers) << 16)
        self._known(said)
        p.own("set", record, result=self._record)
        p.set_label(then, self._back)
        p.go(self._called[0])

    def call_in_place(self, then: Label) -> None:
        """The same with what is in `arguments` already, for another routine. It must not `fail`."""
        self._known("")
        self.p.set_label(then, self._back)
        self.p.go(self._called[1])

    def back(self) -> None:
        """Go on where it was called."""
        self.p.go_to(self._back)

    def fail(self, error: Cell) -> None:
        """Fail with the errno that is in `error` as a system call returns it: negative."""
        self.p.own("subtract", self._number, error, result=error)
        self.p.fail(error)

    def _known(self, said: str) -> None:
        if not self._callers:
            self.p.aside(self._write)
        self._callers.append((self.p.owner, said))

    def _write(self) -> None:
        p = self.p
        p.owned_by(self._owner)
        p.place(self._called[0])
        p.own("copy", self._room, self._record, 8 * len(self.arguments) + 8)
        p.place(self._called[1])
        self._body()

    def _owner(self, error: SystemCall) -> "CtkError":
        owner, said = self._callers[error.errno >> 16]
        number = error.errno & 0xFFFF
        told = SystemCall(said or error.doing, number, os.strerror(number).lower())
        return owner(told) if owner is not None else told
