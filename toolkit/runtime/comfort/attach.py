"""`ctk attach`: connect our terminal to a held container until it ends or we detach. holder.py is the other side."""

import os

from toolkit.errors import CtkError, Invalid, NotFound
from toolkit.kernel import terminal
from toolkit.oci import json_text
from toolkit.runtime import console, foreground, lifecycle, log, relay, signals
from toolkit.runtime import record as records
from toolkit.runtime.comfort import ending, holder
from toolkit.runtime.comfort.detach_keys import DETACH_KEYS, Keys, keys
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from typing import Any

    from toolkit.runtime.comfort.ending import End
    from toolkit.runtime.record import Record

_HELLO_S = 10.0


def attach(root: str, container_id: str, *, detach_keys: str = DETACH_KEYS, proxy: bool = True) -> int:
    """The container's exit code, 0 after detaching. `proxy`: forward signals to it. Raises CtkError."""
    sequence = keys(detach_keys)
    container = records.load(root, container_id)
    end = _connect(container)
    try:
        end.settimeout(_HELLO_S)
        hello, input_fd = _hello(end)
        end.settimeout(None)
    except TimeoutError:
        end.close()
        hint = f"was it stopped? `kill -CONT` wakes the parent of process {container.pid}"
        raise CtkError(f"attach to {container_id!r}", because="its holder does not answer", hint=hint) from None
    if not hello:
        raise CtkError(f"attach to {container_id!r}", because="its holder refused the connection")
    has_terminal = b"t" in hello
    wake = foreground.wake_up()
    ours = has_terminal and os.isatty(0)
    before: "list[object] | None" = None
    if ours:
        foreground.as_a_job()
        before = terminal.raw(0)
    session = _Session(container, end, input_fd, has_terminal, Keys(sequence if ours else b""), proxy)
    try:
        if ours:
            session.resize(redraw=True)
        found = session.run(wake)
    finally:
        if before is not None:
            terminal.restore(0, before)
    if found is None:
        log.say(f"{chr(10) if ours else ''}ctk: detached from {container_id!r}, which runs on\n")
        return 0
    if os.isatty(2):
        ending.tell(found, asked=False)
    return int(found["code"])


def _connect(container: "Record") -> "socket":
    import _socket

    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    console.bound(end)
    try:
        folder = os.open(container.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            end.connect(f"/proc/self/fd/{folder}/{holder.SOCKET}")
        finally:
            os.close(folder)
    except (FileNotFoundError, ConnectionRefusedError):
        doing = f"attach to {container.id!r}"
        if not lifecycle.alive(container):
            raise CtkError(
                doing, because="its program has ended", hint=f"see `ctk logs {quote(container.id)}`"
            ) from None
        raise NotFound(
            doing,
            because="nothing holds its terminal or its output",
            hint=f"`ctk run --detach --hold` does; for another process in it: ctk exec -t {quote(container.id)} sh",
        ) from None
    except OSError as error:
        raise CtkError(f"attach to {container.id!r}", because=console.refused(error)) from None
    return end


def _hello(end: "socket") -> "tuple[bytes, int]":
    data, ancillary, _, _ = end.recvmsg(256, 32)
    for level, kind, payload in ancillary:
        if (level, kind) == (1, 1):  # SOL_SOCKET, SCM_RIGHTS
            fd = int.from_bytes(payload[:4], "little")
            os.set_inheritable(fd, False)
            return data, fd
    return data, -1


class _Session:
    def __init__(
        self, container: "Record", end: "socket", input_fd: int, has_terminal: bool, detach: Keys, proxy: bool
    ) -> None:
        self.container = container
        self.end = end
        self.input = input_fd
        self.terminal = has_terminal
        self.detach = detach
        self.proxy = proxy
        self.typed = relay.Outlet(input_fd)
        self.shown = (relay.Outlet(1), relay.Outlet(2))
        self.ended = False  # our own input

    def resize(self, *, redraw: bool = False) -> None:
        """Set the container's terminal to the size of ours; `redraw` changes it briefly, so that programs redraw."""
        try:
            size = terminal.get_size(0)
            if redraw:
                rows, columns = int.from_bytes(size[:2], "little"), int.from_bytes(size[2:4], "little")
                terminal.set_size(self.input, terminal.winsize(rows, max(columns - 1, 1)))
            terminal.set_size(self.input, size)
        except OSError:
            pass

    def run(self, wake: int) -> "End | None":
        """Run until the container's end and return its facts; None if we detached. Raises CtkError."""
        import select

        last: "End | None" = None
        while True:
            for shown in self.shown:
                if shown.lost:
                    return None
            if self.ended and self.input >= 0 and not self.typed.pending and not self.terminal:
                self._close_input()
            waiting = [shown for shown in self.shown if shown.pending]
            if last is not None and not waiting:
                return last
            poll = select.poll()
            poll.register(wake, select.POLLIN)
            for shown in waiting:
                poll.register(shown.fd, select.POLLOUT)
            if last is None:
                if not any(shown.full for shown in waiting):
                    poll.register(self.end.fileno(), select.POLLIN)
                if self.input >= 0 and self.typed.pending:
                    poll.register(self.input, select.POLLOUT)
                if self.input >= 0 and not self.ended and not self.typed.full:
                    poll.register(0, select.POLLIN)
            for fd, _ in poll.poll():
                if fd == wake:
                    numbers = os.read(wake, 512)
                    if self._signalled(numbers) or (last is not None and not relay.ENDING.isdisjoint(numbers)):
                        return last
                elif fd == self.end.fileno():
                    last = self._packet()
                elif fd == 0:
                    if self._typed():
                        return None
                elif fd == self.input:
                    self.typed.flush()
                    self.ended = self.ended or self.typed.lost
                else:
                    self.shown[fd - 1].flush()

    def _packet(self) -> "End | None":
        """Read a packet from the holder; returns the facts if it is the end. Raises CtkError."""
        try:
            packet = self.end.recv(1 << 17)
        except ConnectionResetError:  # it closed before it read our last packet; its own can still be read (unix(7))
            packet = self.end.recv(1 << 17)
        if packet[:1] == b"e":
            return _facts(packet[1:])
        if not packet:
            raise CtkError(
                f"stay attached to {self.container.id!r}",
                because="its holder disconnected us" if lifecycle.alive(self.container) else "its holder is gone",
                hint="the missing output is in `ctk logs`",
            )
        self.shown[packet[:1] == b"2"].put(packet[1:])
        return None

    def _close_input(self) -> None:
        try:
            self.end.send(b"c")
        except OSError:
            pass  # its holder is gone, as the next read will show
        os.close(self.input)
        self.input = -1

    def _typed(self) -> bool:
        """Read our input; returns whether it was the key sequence to detach."""
        try:
            data = os.read(0, 65536)
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        data, wanted = self.detach.pressed(data)
        self.typed.put(data)
        return wanted

    def _signalled(self, numbers: bytes) -> bool:
        """Handle signals sent to us; returns whether to detach."""
        for number in numbers:
            if number == foreground.SIGWINCH:
                if self.terminal and os.isatty(0):
                    self.resize()
            elif number in (1, 2, 3, 15, 10, 12):  # HUP, INT, QUIT, TERM, USR1, USR2
                # A hang-up of our terminal must not end the container, and neither must our own end.
                if not self.proxy or number == 1:
                    return True
                try:
                    pidfd = signals.open_init(self.container)
                except CtkError:
                    continue
                signals.send(pidfd, number)
                os.close(pidfd)
        return False


def _facts(text: bytes) -> "End":
    document = json_text.loads(text, "the holder's last packet")
    if not isinstance(document, dict) or not isinstance(document.get("code"), int):
        raise Invalid("", "it has no facts of an end", document="the holder's last packet")
    found: "Any" = document
    end: "End" = found
    return end
