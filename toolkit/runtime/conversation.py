"""The handshake of a launch, between the runtime (parent) and the process that becomes the container (child).

    parent                                   child
      │── clone3 ─────────────────────────────▶│ new namespaces
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

At any point the child may send FAILED with the error that stopped it, and then it exits; a pipe that closes too early
means that the other side died. A message out of order is a bug and raises.
"""

import os

from toolkit import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program

MAPPED, JOINED, MOUNTED, HOOKED, READY, GO, FAILED, WARNING, ROOT, PID = b"MJTHRGFW/P"
_PROGRAM_FAILED, _PROGRAM_WARNS = b"Ew"  # interpreter.c

_NAMES = {
    MAPPED: "mapped", JOINED: "joined", MOUNTED: "mounted", HOOKED: "hooked",
    READY: "ready", GO: "go", FAILED: "failed", WARNING: "warning", ROOT: "root", PID: "pid",
}  # fmt: skip


class Conversation:
    """One end of two pipes. `say` sends one byte, `hear` waits for one.

    An error follows FAILED and WARNING; the mounts.place_of of the container's root follows ROOT.
    """

    __slots__ = ("program", "reading", "root", "warnings", "writing")

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self.warnings: "list[str]" = []
        self.root: "list[int]" = []  # the container's root, as the child reported it
        self.program: "Program | None" = None  # what the other side carries out, to understand its failures

    def say(self, message: int) -> None:
        """Send `message`. If the other side is gone, the next `hear` notices it."""
        try:
            os.write(self.writing, bytes((message,)))
        except BrokenPipeError:
            pass

    def hear(self, expected: int) -> None:
        """Wait for `expected`. Raises the other side's error, or LaunchFailed if it is gone."""
        while True:
            got = os.read(self.reading, 1)
            if got and got[0] == expected:
                return
            if got and got[0] == WARNING:
                self.warnings.append(_read_error(self.reading).doing)
                continue
            if got and got[0] == _PROGRAM_WARNS and self.program is not None:
                text = self.program.warning(*self._numbers())
                if text:
                    self.warnings.append(text)
                continue
            if got and got[0] == ROOT:
                place = _read_exactly(self.reading, 24)
                self.root = [int.from_bytes(place[at : at + 8], "little") for at in (0, 8, 16)]
                continue
            self._other(got)

    def hear_pid(self) -> int:
        """Wait for PID, and the number that follows it. Raises like `hear`."""
        self.hear(PID)
        return int.from_bytes(_read_exactly(self.reading, 8), "little")

    def hear_end(self) -> None:
        """Wait until the other side closes its pipe, when it hands over. Raises its error if it failed."""
        got = os.read(self.reading, 1)
        if got:
            self._other(got)

    def _other(self, got: bytes) -> None:
        if not got:
            raise errors.LaunchFailed("start the container", because="its first process died while it was set up")
        if got[0] == FAILED:
            raise _read_error(self.reading)
        if got[0] == _PROGRAM_FAILED and self.program is not None:
            raise self.program.failure(*self._numbers())
        raise AssertionError(f"{_NAMES.get(got[0], got[0])!r} said out of turn")

    def _numbers(self) -> "tuple[int, int]":
        told = _read_exactly(self.reading, 11)
        return int.from_bytes(told[3:7], "little"), int.from_bytes(told[7:], "little")

    def go(self, message: "bytes | None" = None) -> None:
        """Send GO, followed by a message if the other side waits for one."""
        self.say(GO)
        if message is not None:
            os.write(self.writing, len(message).to_bytes(8, "little") + message)

    def fail(self, error: "errors.CtkError") -> None:
        """Send FAILED with the error that stops the child."""
        self._tell(FAILED, error)

    def warning(self, text: str) -> None:
        """Send a warning for the user, which does not stop the child."""
        self._tell(WARNING, errors.CtkError(text))

    def tell_root(self, place: "tuple[int, int, int]") -> None:
        """Send where the container's root is: mounts.place_of."""
        try:
            os.write(self.writing, bytes((ROOT,)) + b"".join(number.to_bytes(8, "little") for number in place))
        except BrokenPipeError:
            pass

    def close(self) -> None:
        """Close both pipes."""
        os.close(self.reading)
        os.close(self.writing)

    def _tell(self, kind: int, error: "errors.CtkError") -> None:
        fields = (
            type(error).__name__, error.doing, error.because, error.hint, error.code, str(error.exit_code),
            str(getattr(error, "errno", 0)), getattr(error, "path", ""),
        )  # fmt: skip
        body = "\0".join(fields).encode("utf-8", "replace")
        try:
            os.write(self.writing, bytes((kind,)) + len(body).to_bytes(4, "little") + body)
        except OSError:
            pass


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


def _read_error(fd: int) -> "errors.CtkError":
    size = int.from_bytes(_read_exactly(fd, 4), "little")
    fields = _read_exactly(fd, min(size, 1 << 20)).decode("utf-8", "replace").split("\0")
    kind, doing, because, hint, code, exit_code, errno, path = (fields + [""] * 8)[:8]
    error: "errors.CtkError"
    if kind == "SystemCall":
        error = errors.SystemCall(doing, int(errno or 0), because, hint=hint)
    elif kind == "Invalid":
        error = errors.Invalid(path, because, hint=hint)
        error.doing = doing
    else:
        known = getattr(errors, kind, errors.CtkError)
        error = known(doing, because=because, hint=hint)
    error.code = code or error.code
    error.exit_code = int(exit_code or 1)
    return error
