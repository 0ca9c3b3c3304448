"""The holder, a container monitor: the process that stays with a detached container after its terminal is left.

It is `ctk run` itself in the background. As the container's parent it keeps the output for `ctk logs`, holds the
terminal or the standard input for `ctk attach`, records why the container ended, and ends with it. There is no daemon.

`attach.sock` in the record accepts SOCK_SEQPACKET connections from the container's owner and root. Each packet has a
letter and data:

    h flags   the first packet; with the descriptor to write to (terminal or standard input), if there is one; flags:
              t has a terminal, i takes input
    1 bytes   written to standard output, or to the terminal
    2 bytes   written to standard error
    e facts   the end, as in ending.facts, in JSON

A client may send one packet, `c`: its input has ended, and the container's standard input (not a terminal) is closed.
"""

import _signal
import os
import time

from toolkit.errors import CtkError
from toolkit.runtime import foreground, launch, log, notify, outside, relay, removal, session
from toolkit.runtime.comfort import ending, journal, oom
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

    from toolkit.runtime.comfort.ending import End
    from toolkit.runtime.launch import Launch
    from toolkit.runtime.record import Record
    from toolkit.runtime.relay import Watch

SOCKET = "attach.sock"
_NOTIFIED = "t"  # the service manager has been notified that the container is ready, and will confirm
_CHUNK = 32768
_KEPT_BYTES = 1 << 20
"""This much is buffered for a slow client; then the container waits for it, as for any slow terminal."""
_STILL_S = 1.0
"""A client that reads nothing for so long is dropped: it or its terminal was stopped. `ctk logs` has the rest."""
_PATIENCE_S = 5.0
"""After the end: the time for clients to read the rest."""
_MOST_CLIENTS = 64


def start(under_way: "Launch", *, held: bool) -> int:
    """Start the container from a holder process; returns 0 once its program runs, else the holder's exit code.

    Without `held`, which only --rm uses, it only waits and removes, and the container keeps our standard streams.
    """
    reading, writing = os.pipe()
    before = outside.hold_signals()
    pid = os.fork()
    if pid:
        os.close(writing)
        code = _begun(pid, reading, before)
        if code == 0 and held and os.isatty(2):
            who = under_way.options.id
            ways = f"ctk logs {quote(who)}, ctk attach {quote(who)}, ctk stop {quote(who)}"
            log.say(f"ctk: {who!r} runs in the background: {ways}\n")
        return code
    # From here on an error ends the verb as usual, with its message where the caller's errors go.
    os.close(reading)
    os.setsid()
    foreground.become_subreaper()
    options = under_way.options
    options.detach = False
    under_way.extra["held"] = held
    streams = Streams(under_way, interactive=options.interactive) if held else None
    session.begin(under_way)
    container = under_way.record
    assert container is not None
    if streams is not None:
        streams.begun(under_way)
        try:
            listener = _listen(container)
            journal.take_over(container)
            output = journal.Writer(container)
        except OSError:  # a full disk: undo it, because no holder would stay with the container
            removal.delete(container, force=True)
            raise
    if asked := _signal.sigpending() & relay.ENDING:
        # The command was interrupted while it waited: undo it, so that it has not started anything.
        removal.delete(container, force=True)
        return 128 + int(min(asked))
    watches: "list[Watch]" = []
    if under_way.notify is None:
        log.write(writing, "0")
        os.close(writing)
    else:
        # The command ends only when the unit is ready: a manager would take an earlier end for a failure.
        under_way.notify.main_pid = under_way.pid
        under_way.notify.on_progress = lambda heard: log.write(writing, "0" if heard else _NOTIFIED)
        watches.append(under_way.notify)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    loop = None
    if streams is None:
        code = session.wait(under_way.pid, -1, watches)
    else:
        watch = oom.Watch(container)
        loop = _Loop(under_way.pid, streams, listener, output, [watch, *watches])
        code = loop.run()
        loop.say_end(_note(container, code, watch))
        output.close()
    if options.rm:
        session.remove(under_way)
    if loop is not None:
        loop.let_go()
    return code


def _begun(pid: int, reading: int, before: "set[int]") -> int:
    """Wait until the holder `pid` has started the container; returns 0, or its exit code.

    Signals to the command are forwarded to the holder, which undoes what it has done: otherwise the command could end
    by a signal, and the container would still start afterwards.
    """
    for number in relay.ENDING:
        _signal.signal(number, lambda number, _: os.kill(pid, number))
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    began = os.read(reading, 1)
    if began == _NOTIFIED.encode():
        import select

        poll = select.poll()
        poll.register(reading, select.POLLIN)
        poll.poll(notify.BARRIER_S * 1000)
    os.close(reading)
    return 0 if began else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _note(container: "Record", code: int, watch: "oom.Watch") -> "End":
    """The facts of the end, also written to the record unless the container was removed meanwhile."""
    facts = ending.facts(container, code, foreground.signal_of_end, watch)
    try:
        removal.lock(container)
        ending.keep(container, facts)
    except CtkError:
        pass
    finally:
        container.unlock()
    return facts


class Streams:
    """A held container's standard streams: pipes, or its terminal."""

    def __init__(self, under_way: "Launch", *, interactive: bool) -> None:
        spec, _, _ = launch.read_bundle(under_way.options)
        self.terminal = bool((spec.get("process") or {}).get("terminal"))
        self.input = -1  # the descriptor that `attach` writes to
        self.outputs: "dict[int, int]" = {}  # descriptor: stream 1 or 2
        self.peer: "relay.Peer | None" = None  # the terminal's
        self._theirs: "list[int]" = []
        if self.terminal:
            return
        if interactive:
            theirs, self.input = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self.input, False)  # several clients may be attached, with room for one of them
        else:
            theirs = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._theirs.append(theirs)
        for stream in (1, 2):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            self.outputs[ours] = stream
            self._theirs.append(theirs)
        under_way.stdio = (self._theirs[0], self._theirs[1], self._theirs[2])

    def begun(self, under_way: "Launch") -> None:
        """Close the container's ends, which it has now, and keep ours."""
        for fd in self._theirs:
            os.close(fd)
        if self.terminal:
            self.input = under_way.master
            self.peer = relay.Peer(under_way.master)
            self.outputs = {under_way.master: 1}


def _listen(container: "Record") -> "socket":
    """The listening socket in the container's record. Raises OSError."""
    import _socket

    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    folder = os.open(container.folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    try:
        end.bind(f"/proc/self/fd/{folder}/{SOCKET}")  # the record's path may be longer than the 107 bytes of unix(7)
    finally:
        os.umask(before)
        os.close(folder)
    end.listen(8)
    end.setblocking(False)
    return end


class _Client:
    """An attached client, and the packets that wait for it."""

    __slots__ = ("_packets", "_size", "end", "took_s")

    def __init__(self, end: "socket") -> None:
        self.end = end
        self._packets: "list[bytes]" = []
        self._size = 0
        self.took_s = 0.0  # when it last read something, or had nothing to read

    @property
    def waiting(self) -> bool:
        """Whether packets are waiting for it."""
        return bool(self._packets)

    @property
    def late(self) -> bool:
        """Whether so many packets are waiting that no more should be added."""
        return self._size > _KEPT_BYTES

    def put(self, packet: bytes) -> bool:
        """Send a packet, or keep it for later; False if the client is gone."""
        if not self._packets:
            self.took_s = time.monotonic()
        self._packets.append(packet)
        self._size += len(packet)
        return self.flush()

    def flush(self) -> bool:
        """Send as much as it accepts now; False if it is gone."""
        while self._packets:
            try:
                self.end.send(self._packets[0])
            except BlockingIOError:
                break
            except OSError:
                return False
            self._size -= len(self._packets.pop(0))
            self.took_s = time.monotonic()
        return True


class _Loop:
    def __init__(
        self, pid: int, streams: Streams, listener: "socket", output: "journal.Writer", watches: "list[Watch]"
    ) -> None:
        import select

        self.pid = pid
        self.streams = streams
        self.listener = listener
        self.output = output
        self.clients: "dict[int, _Client]" = {}
        self.watches = watches
        self.select = select
        self.wake = foreground.wake_up()

    def run(self) -> int:
        """Run until the container's first process has ended; returns its exit code."""
        code = foreground.reap(self.pid)
        while code < 0:
            for fd, events in self._ready():
                if fd == self.wake:
                    foreground.pass_on(self.pid, os.read(fd, 512))
                    code = foreground.reap(self.pid)
                elif fd in self.streams.outputs:
                    self._read(fd)
                elif fd == self.listener.fileno():
                    self._accept()
                elif fd in self.clients:  # it may have left while another event was handled
                    self._serve(fd, events)
                for watch in self.watches:
                    if watch.fd == fd:
                        watch.heard()
        self._drain()
        return code

    def _ready(self) -> "list[tuple[int, int]]":
        poll = self.select.poll()
        late = [client for client in self.clients.values() if client.late]
        for fd in (self.wake, self.listener.fileno(), *(() if late else self.streams.outputs)):
            poll.register(fd, self.select.POLLIN)
        for watch in self.watches:
            if watch.fd >= 0:
                poll.register(watch.fd, watch.events)
        for fd, client in self.clients.items():
            poll.register(fd, self.select.POLLIN | (self.select.POLLOUT if client.waiting else 0))
        if not late:
            return poll.poll()
        ready = poll.poll(_STILL_S * 1000)
        still_s = time.monotonic() - _STILL_S
        for fd, client in list(self.clients.items()):
            if client.late and client.took_s < still_s and not any(fd == other for other, _ in ready):
                self._gone(fd)
        return ready

    def say_end(self, facts: "End") -> None:
        """Send the end to the attached clients, and accept no more."""
        from toolkit.oci import json_text

        self.listener.close()
        packet = b"e" + json_text.dumps(facts).encode()
        for fd in list(self.clients):
            self._send(fd, packet)

    def let_go(self) -> None:
        """Give slow clients some time to read the rest, then disconnect them."""
        end_s = time.monotonic() + _PATIENCE_S
        while (slow := [fd for fd, client in self.clients.items() if client.waiting]) and time.monotonic() < end_s:
            poll = self.select.poll()
            for fd in slow:
                poll.register(fd, self.select.POLLOUT)
            for fd, _ in poll.poll(max(end_s - time.monotonic(), 0) * 1000):
                if not self.clients[fd].flush():
                    self._gone(fd)

    def _serve(self, fd: int, events: int) -> None:
        client = self.clients[fd]
        if events & self.select.POLLOUT and not client.flush():
            self._gone(fd)
        elif events & ~self.select.POLLOUT:
            self._hear(fd)

    def _hear(self, fd: int) -> None:
        try:
            said = self.clients[fd].end.recv(16)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said == b"c":
            if self.streams.input >= 0 and not self.streams.terminal:
                os.close(self.streams.input)
                self.streams.input = -1
        else:
            self._gone(fd)

    def _drain(self) -> None:
        """Read the last output from the pipes or the terminal; don't wait for other processes that go on writing."""
        left = relay.LAST_BYTES
        while self.streams.outputs and left > 0:
            rest = self.select.poll()
            for fd in self.streams.outputs:
                rest.register(fd, self.select.POLLIN)
            ready = rest.poll(0)
            size = sum([self._read(fd) for fd, _ in ready])
            if not ready or (not size and self.streams.terminal):
                break
            left -= size

    def _read(self, fd: int) -> int:
        """Read output, log it and send it to the clients; returns how many bytes it was."""
        stream = self.streams.outputs[fd]
        peer = self.streams.peer
        data = (os.read(fd, _CHUNK) or None) if peer is None else relay.read(fd, peer)
        if data is None:
            del self.streams.outputs[fd]
        if not data:
            return 0
        self.output.write(stream, data)
        packet = str(stream).encode() + data
        for client in list(self.clients):
            self._send(client, packet)
        return len(data)

    def _accept(self) -> None:
        import _socket

        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # typeshed lacks it
        except OSError:
            return
        end = _socket.socket(fileno=fd)
        uid = int.from_bytes(end.getsockopt(1, 17, 12)[4:8], "little")  # SOL_SOCKET, SO_PEERCRED: pid, uid, gid
        if uid not in (0, os.geteuid()) or len(self.clients) >= _MOST_CLIENTS:
            end.close()
            return
        end.setblocking(False)
        flags = b"h" + b"t" * self.streams.terminal + b"i" * (self.streams.input >= 0)
        ancillary = [(1, 1, self.streams.input.to_bytes(4, "little"))] if self.streams.input >= 0 else []
        try:
            end.sendmsg([flags], ancillary)
        except OSError:
            end.close()
            return
        self.clients[fd] = _Client(end)

    def _send(self, fd: int, packet: bytes) -> None:
        if not self.clients[fd].put(packet):
            self._gone(fd)

    def _gone(self, fd: int) -> None:
        self.clients.pop(fd).end.close()
