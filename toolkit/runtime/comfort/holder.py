"""The holder: the process that stays with a detached container, in place of the terminal that it was started from.

It is `ctk run` itself, gone into the background: the container's parent, it keeps its output for `ctk logs`, holds its
terminal or its standard input for `ctk attach`, notes why it ended, and ends with it. There is no daemon.

`attach.sock` in the record takes whoever may (the container's owner, root): a SOCK_SEQPACKET connection, on which each
packet has a letter and data:

    h flags   first; with the descriptor to write to (terminal or standard input), if there is one; flags: t has a
              terminal, i takes input
    1 bytes   written to standard output, or to the terminal
    2 bytes   written to standard error
    e facts   the end, as ending.facts has it, in JSON

A client may send one packet, `c`: its input has ended, and the container's standard input (not a terminal) is closed.
"""

import os

from toolkit.errors import CtkError
from toolkit.runtime import foreground, launch, outside
from toolkit.runtime.comfort import ending, journal
from toolkit.runtime.verbs import run as plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.launch import Launch
    from toolkit.runtime.record import Record

SOCKET = "attach.sock"
_CHUNK = 32768
_PATIENCE_MS = 5000
"""A client that takes nothing for so long is dropped: it must not hold the container up for ever."""


def start(under_way: "Launch", *, held: bool) -> int:
    """Begin the container from a holder of its own; 0 once its program runs, else the holder's exit code.

    Only --rm needs one that is not `held`: it then waits and removes, and the container keeps our standard streams.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        began = os.read(reading, 1)
        os.close(reading)
        return 0 if began else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    # From here on an error leaves through the verb's own end, with its message where the caller's errors go.
    os.close(reading)
    os.setsid()
    outside.hold_signals()
    foreground.become_subreaper()
    options = under_way.options
    options.detach = False
    under_way.extra["held"] = held
    streams = Streams(under_way, interactive=options.interactive) if held else None
    plain.begin(under_way)
    container = under_way.record
    assert container is not None
    if streams is not None:
        streams.begun(under_way)
        listener = _listen(container)
        journal.take_over(container)
        log = journal.Writer(container)
    os.write(writing, b"0")
    os.close(writing)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    if streams is None:
        code = foreground.wait(under_way.pid)
    else:
        loop = _Loop(under_way.pid, streams, listener, log)
        code = loop.run()
        loop.say_end(_note(container, code))
        log.close()
    if options.rm:
        plain.remove(under_way)
    return code


def _note(container: "Record", code: int) -> "dict[str, Any]":
    """The facts of the end; kept in the record, unless the container has been removed meanwhile."""
    facts = ending.facts(container, code, foreground.signal_of_end)
    try:
        container.lock()
        ending.keep(container, facts)
    except CtkError:
        pass
    finally:
        container.unlock()
    return facts


class Streams:
    """Where a held container's standard streams lead: pipes, or its terminal."""

    def __init__(self, under_way: "Launch", *, interactive: bool) -> None:
        spec, _, _ = launch.read_bundle(under_way.options)
        self.terminal = bool((spec.get("process") or {}).get("terminal"))
        self.input = -1  # what `attach` writes to
        self.outputs: "dict[int, int]" = {}  # descriptor: stream 1 or 2
        self._theirs: "list[int]" = []
        if self.terminal:
            return
        if interactive:
            theirs, self.input = os.pipe2(os.O_CLOEXEC)
        else:
            theirs = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._theirs.append(theirs)
        for stream in (1, 2):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            self.outputs[ours] = stream
            self._theirs.append(theirs)
        under_way.stdio = (self._theirs[0], self._theirs[1], self._theirs[2])

    def begun(self, under_way: "Launch") -> None:
        """The container has its ends; ours alone are kept."""
        for fd in self._theirs:
            os.close(fd)
        if self.terminal:
            self.input = under_way.master
            self.outputs = {under_way.master: 1}


def _listen(container: "Record") -> "Any":
    """The listening socket in the container's record. Raises OSError."""
    import _socket

    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    folder = os.open(container.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        end.bind(
            f"/proc/self/fd/{folder}/{SOCKET}"
        )  # the record's own path may be longer than the 107 bytes of unix(7)
    finally:
        os.umask(before)
        os.close(folder)
    end.listen(8)
    end.setblocking(False)
    return end


class _Loop:
    def __init__(self, pid: int, streams: Streams, listener: "Any", log: "journal.Writer") -> None:
        import select

        self.pid = pid
        self.streams = streams
        self.listener = listener
        self.log = log
        self.clients: "dict[int, Any]" = {}
        self.select = select
        self.poll = select.poll()
        self.wake = foreground.wake_up()
        for fd in (self.wake, listener.fileno(), *streams.outputs):
            self.poll.register(fd, select.POLLIN)

    def run(self) -> int:
        """Until the container's first process has ended; its exit code."""
        code = foreground.reap(self.pid)
        while code < 0:
            for fd, _ in self.poll.poll():
                if fd == self.wake:
                    foreground.pass_on(self.pid, os.read(fd, 512))
                    code = foreground.reap(self.pid)
                elif fd in self.streams.outputs:
                    self._read(fd)
                elif fd == self.listener.fileno():
                    self._accept()
                else:
                    self._hear(fd)
        self._drain()
        return code

    def say_end(self, facts: "dict[str, Any]") -> None:
        """Tell those who are attached."""
        from toolkit.oci import json_text

        for fd in list(self.clients):
            self._send(fd, b"e" + json_text.dumps(facts).encode())

    def _hear(self, fd: int) -> None:
        try:
            said = self.clients[fd].recv(16)
        except OSError:
            said = b""
        if said == b"c":
            if self.streams.input >= 0 and not self.streams.terminal:
                os.close(self.streams.input)
                self.streams.input = -1
        else:
            self._gone(fd)

    def _drain(self) -> None:
        """What it wrote last is still in the pipes or the terminal; others that hold these are not waited for."""
        rest = self.select.poll()
        for fd in self.streams.outputs:
            rest.register(fd, self.select.POLLIN)
        while self.streams.outputs and (ready := rest.poll(0)):
            for fd, _ in ready:
                if not self._read(fd):
                    rest.unregister(fd)

    def _read(self, fd: int) -> bool:
        """Keep and hand out what is there; False at the end (EIO of a terminal that nobody has open any more)."""
        stream = self.streams.outputs[fd]
        try:
            data = os.read(fd, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self.poll.unregister(fd)
            del self.streams.outputs[fd]
            return False
        self.log.write(stream, data)
        for client in list(self.clients):
            self._send(client, str(stream).encode() + data)
        return True

    def _accept(self) -> None:
        import _socket

        try:
            fd, _ = self.listener._accept()
        except OSError:
            return
        client = _socket.socket(fileno=fd)
        uid = int.from_bytes(client.getsockopt(1, 17, 12)[4:8], "little")  # SOL_SOCKET, SO_PEERCRED: pid, uid, gid
        if uid not in (0, os.geteuid()):
            client.close()
            return
        client.setblocking(False)
        flags = b"h" + b"t" * self.streams.terminal + b"i" * (self.streams.input >= 0)
        ancillary = [(1, 1, self.streams.input.to_bytes(4, "little"))] if self.streams.input >= 0 else []
        try:
            client.sendmsg([flags], ancillary)
        except OSError:
            client.close()
            return
        self.clients[fd] = client
        self.poll.register(fd, self.select.POLLIN)

    def _send(self, fd: int, packet: bytes) -> None:
        client = self.clients[fd]
        for _ in range(2):
            try:
                client.send(packet)
                return
            except BlockingIOError:
                slow = self.select.poll()
                slow.register(fd, self.select.POLLOUT)
                if not slow.poll(_PATIENCE_MS):
                    break
            except OSError:
                break
        self._gone(fd)

    def _gone(self, fd: int) -> None:
        self.poll.unregister(fd)
        self.clients.pop(fd).close()
