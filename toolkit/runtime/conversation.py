"""The handshake of a launch, between the runtime (parent) and the process that becomes the container (child).

    parent                                   child
      │── posix_spawn, clone3 ────────────────▶│ new namespaces (first_process.py)
      │◀───────────────────────────────── PID ──│
      │   (user namespace: uid_map, gid_map)   │
      │── MAPPED ─────────────────────────────▶│ becomes root of it
      │   makes cgroups, joins the child       │ mounts what needs no cgroup
      │── JOINED ─────────────────────────────▶│ unshares the cgroup namespace, the rest of the root
      │◀──────────────────────────── MOUNTED ──│ only if hooks want to see the root before pivot_root
      │   prestart, createRuntime hooks        │
      │── HOOKED ─────────────────────────────▶│ createContainer hooks, pivot_root, credentials
      │◀─────────────────────── ROOT, READY ──│
      │   rlimits, device rules, state on disk │
      │── GO ─────────────────────────────────▶│ hands over (handover.py): the pipe closes
      │◀──────────────────────────────── EOF ──│

At any point the child may tell the operation that stopped it (interpreter.c), and then it exits; a pipe that closes too
early means that the other side died. A message out of order is a bug and raises. COPY asks for what a program can't do
(copy_up.py); MAP and OFFSETS belong to launches in two steps (intermediate.py).
"""

import os

from toolkit import errors
from toolkit.runtime import stops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program
    from toolkit.runtime.copy_up import Copier

MAPPED, JOINED, MOUNTED, HOOKED, READY, GO, ROOT, PID, MAP, OFFSETS, COPY, NEXT = b"MJTHRG/Pmocx"
_PROGRAM_FAILED, _PROGRAM_WARNS = b"Ew"  # interpreter.c

_NAMES = {
    MAPPED: "mapped", JOINED: "joined", MOUNTED: "mounted", HOOKED: "hooked",
    READY: "ready", GO: "go", ROOT: "root", PID: "pid",
    MAP: "map", OFFSETS: "offsets", COPY: "copy", NEXT: "next",
}  # fmt: skip


class Conversation:
    """One end of two pipes. `say` sends one byte, `hear` waits for one.

    The mounts.place_of of the container's root follows ROOT, a number follows PID.
    """

    __slots__ = ("copier", "following", "program", "reading", "root", "warnings", "writing")

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self.warnings: "list[str]" = []
        self.root: "list[int]" = []  # the container's root, as the child reported it
        self.copier: "Copier | None" = None  # fills new file systems for the other side
        self.program: "Program | None" = None  # what the other side carries out, to understand its failures
        self.following: "Program | None" = None  # what it executes after that

    def say(self, message: int) -> None:
        """Send `message`. If the other side is gone, the next `hear` notices it."""
        try:
            os.write(self.writing, bytes((message,)))
        except BrokenPipeError:
            pass

    def hear(self, expected: int) -> None:
        """Wait for `expected`. Raises the other side's error, or LaunchFailed if it is gone."""
        while True:
            got = self._next()
            if got and got[0] == expected:
                return
            if not self._beside(got):
                self._other(got)

    def _next(self) -> bytes:
        try:
            return os.read(self.reading, 1)
        except BlockingIOError:
            return b""  # see entering.hear_pid

    def _beside(self, got: bytes) -> bool:
        """Take what is told beside the handshake; False if it is not that."""
        if got == stops.PASSED:
            seconds, nanoseconds = self._two_words()
            if stops.watch is not None:
                stops.watch(seconds * 10**9 + nanoseconds)
        elif got and got[0] == _PROGRAM_WARNS and self.program is not None:
            text = self.program.warning(*self._numbers())
            if text:
                self.warnings.append(text)
        elif got and got[0] == COPY and self.copier is not None:
            self.copier.copy()
        elif got and got[0] == NEXT and self.following is not None:
            self.program = self.following
        elif got and got[0] == ROOT:
            place = _read_exactly(self.reading, 24)
            self.root = [int.from_bytes(place[at : at + 8], "little") for at in (0, 8, 16)]
        else:
            return False
        return True

    def hear_pid(self) -> int:
        """Wait for PID, and the number that follows it. Raises like `hear`."""
        self.hear(PID)
        return int.from_bytes(_read_exactly(self.reading, 8), "little")

    def hear_end(self) -> None:
        """Wait until the other side closes its pipe, when it hands over. Raises its error if it failed."""
        while got := self._next():
            if not self._beside(got):
                self._other(got)

    def _other(self, got: bytes) -> None:
        if not got:
            raise errors.LaunchFailed("start the container", because="its first process died while it was set up")
        if got[0] == _PROGRAM_FAILED and self.program is not None:
            raise self.program.failure(*self._numbers())
        raise AssertionError(f"{_NAMES.get(got[0], got[0])!r} said out of turn")

    def _numbers(self) -> "tuple[int, int]":
        told = _read_exactly(self.reading, 11)
        return int.from_bytes(told[3:7], "little"), int.from_bytes(told[7:], "little")

    def _two_words(self) -> "tuple[int, int]":
        told = _read_exactly(self.reading, 16)
        return int.from_bytes(told[:8], "little"), int.from_bytes(told[8:], "little")

    def go(self, message: "bytes | None" = None) -> None:
        """Send GO, followed by a message if the other side waits for one."""
        self.say(GO)
        if message is not None:
            os.write(self.writing, len(message).to_bytes(8, "little") + message)

    def close(self) -> None:
        """Close both pipes."""
        os.close(self.reading)
        os.close(self.writing)


def pair() -> "tuple[Conversation, Conversation]":
    """The parent's end and the child's. Raises OSError."""
    child_reads, parent_writes = os.pipe()
    parent_reads, child_writes = os.pipe()
    return Conversation(parent_reads, parent_writes), Conversation(child_reads, child_writes)


def _read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            break
        data += more
    return data
