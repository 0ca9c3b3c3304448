"""The D-Bus wire: values against byte strings of the specification's rules, and a conversation with a small peer."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import CtkError, HostLacks
from toolkit.runtime.cgroups import dbus


def marshalled(kind: str, value: Any) -> bytes:
    out = bytearray()
    dbus.write(out, kind, value)
    return bytes(out)


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        ("y", 7, b"\x07"),
        ("b", True, b"\x01\0\0\0"),
        ("n", -2, b"\xfe\xff"),
        ("u", 1 << 31, b"\0\0\0\x80"),
        ("t", 2**64 - 1, b"\xff" * 8),
        ("x", -1, b"\xff" * 8),
        ("d", 1.5, b"\0\0\0\0\0\0\xf8\x3f"),
        ("s", "foo", b"\x03\0\0\0foo\0"),
        ("g", "a(sv)", b"\x05a(sv)\0"),
        ("v", ("u", 1), b"\x01u\0\0\x01\0\0\0"),
        ("ay", b"\x01\x02", b"\x02\0\0\0\x01\x02"),
        # The length of an array does not count the padding before its first item, which is there if it is empty too.
        ("at", [5], b"\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0"),
        ("at", [], b"\0\0\0\0\0\0\0\0"),
        ("a(su)", [("a", 1)], b"\x0c\0\0\0\0\0\0\0\x01\0\0\0a\0\0\0\x01\0\0\0"),
    ],
)
def test_values_on_the_wire(kind: str, value: Any, data: bytes) -> None:
    assert marshalled(kind, value) == data


def test_values_come_back_as_they_went() -> None:
    kind = "a(sv)"
    value = [
        ("One", ("as", ["x", "y"])),
        ("Two", ("t", 5)),
        ("Three", ("a(ss)", [("/dev/null", "rw")])),
        ("Four", ("d", 0.5)),
    ]
    data = marshalled(kind, value)
    read = dbus._Reader(data, "little").value(kind)
    assert read == [["One", ["x", "y"]], ["Two", 5], ["Three", [["/dev/null", "rw"]]], ["Four", 0.5]]


def test_signatures_are_split_into_complete_types() -> None:
    assert dbus.split_types("ssa(sv)a(sa(sv))b") == ["s", "s", "a(sv)", "a(sa(sv))", "b"]


def message(kind: int, reply_to: int, fields: list[Any], signature: str, *values: Any, order: str = "l") -> bytes:
    body = bytearray()
    for part, value in zip(dbus.split_types(signature), values, strict=True):
        dbus.write(body, part, value)
    out = bytearray(order.encode() + bytes((kind, 0, 1)) + len(body).to_bytes(4, "little") + (99).to_bytes(4, "little"))
    fields = [*fields, (5, ("u", reply_to))] if reply_to else fields
    dbus.write(out, "a(yv)", [*fields, (8, ("g", signature))])
    out.extend(bytes(-len(out) % 8))
    return bytes(out + body)


class Peer:
    """Answers one connection: the log-in, then whatever `answer` gives for each call it reads."""

    def __init__(self, path: str, answer: "Callable[[dbus.Message, int], bytes]", ok: bytes = b"OK 1234\r\n") -> None:
        self.calls: list[dbus.Message] = []
        self.hello = b""
        self._answer, self._ok = answer, ok
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        self.connection = connection
        # What has not read all of ours when it closes resets the connection (unix(7)); that is no fault of its.
        with connection, contextlib.suppress(ConnectionResetError):
            while b"BEGIN\r\n" not in self.hello:
                self.hello += connection.recv(4096)
            connection.sendall(b"DATA\r\n" + self._ok)
            data = b""
            while part := connection.recv(4096):
                data += part
                while len(data) >= 16:
                    fields = int.from_bytes(data[12:16], "little")
                    size = 16 + fields + -fields % 8 + int.from_bytes(data[4:8], "little")
                    if len(data) < size:
                        break
                    call = dbus.Message(data[:size], "little")
                    self.calls.append(call)
                    connection.sendall(self._answer(call, int.from_bytes(data[8:12], "little")))
                    data = data[size:]

    def stop(self) -> None:
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "bus")


def test_a_call_its_answer_and_a_signal_that_comes_first(address: str) -> None:
    def answer(call: dbus.Message, serial: int) -> bytes:
        removed = [(1, ("o", "/x")), (2, ("s", "org.x")), (3, ("s", "JobRemoved"))]
        return (
            message(4, 0, removed, "uoss", 1, "/job/other", "a.scope", "done")
            + message(4, 0, removed, "uoss", 2, "/job/7", "b.scope", "done")
            + message(2, serial, [], "o", "/job/7")
        )

    peer = Peer(address, answer)
    bus = dbus.Bus(address, is_bus=False)
    job = bus.call("org.x", "/org/x", "org.x.Manager", "StartUnit", "sa(sv)", "b.scope", [("PIDs", ("au", [5]))])[0]
    assert bus.wait_for("JobRemoved", 1, job) == [2, "/job/7", "b.scope", "done"]
    bus.close()
    peer.stop()
    # No uid in the log-in: inside a user namespace ours is not the one that the peer sees on the socket.
    assert peer.hello == b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
    (call,) = peer.calls
    assert call.fields[1] == "/org/x" and call.fields[3] == "StartUnit"
    assert 6 not in call.fields  # no destination where there is no bus
    assert call.body == ["b.scope", [["PIDs", [5]]]]


def test_an_error_is_raised_with_its_name(address: str) -> None:
    peer = Peer(address, lambda _, serial: message(3, serial, [(4, ("s", "org.x.UnitExists"))], "s", "it is there"))
    bus = dbus.Bus(address, is_bus=False)
    with pytest.raises(dbus.Refused, match="it is there") as caught:
        bus.call("org.x", "/", "org.x", "Start")
    assert caught.value.name == "org.x.UnitExists"
    bus.close()
    peer.stop()


def test_on_a_bus_the_first_call_is_hello_and_calls_have_a_destination(address: str) -> None:
    peer = Peer(address, lambda _, serial: message(2, serial, [], "s", ":1.5"))
    bus = dbus.Bus(address, is_bus=True)
    assert bus.call("org.x", "/", "org.x", "Do") == [":1.5"]
    bus.close()
    peer.stop()
    assert [call.fields[3] for call in peer.calls] == ["Hello", "Do"]
    assert peer.calls[1].fields[6] == "org.x"


def test_a_refused_login_is_told(address: str) -> None:
    peer = Peer(address, lambda *_: b"", ok=b"REJECTED EXTERNAL\r\n")
    with pytest.raises(CtkError, match="REJECTED"):
        dbus.Bus(address, is_bus=False)
    peer.stop()


def test_nobody_listening_is_told(address: str) -> None:
    with pytest.raises(HostLacks, match="no such file or directory"):
        dbus.Bus(address, is_bus=False)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
    with pytest.raises(HostLacks, match="connection refused"):
        dbus.Bus(address, is_bus=False)
    os.unlink(address)


def test_a_peer_that_only_sends_signals_is_not_waited_for_for_ever(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is for the answer: systemd's private socket sends everybody all signals."""
    removed = [(1, ("o", "/x")), (2, ("s", "org.x")), (3, ("s", "JobRemoved"))]
    signals = message(4, 0, removed, "u", 1)
    ended = threading.Event()

    def chatter(call: dbus.Message, serial: int) -> bytes:
        return signals

    peer = Peer(address, chatter)
    peer_sends = threading.Thread(target=lambda: _again_and_again(peer, signals, ended))
    bus = dbus.Bus(address, is_bus=False)
    monkeypatch.setattr(dbus, "_TIMEOUT_S", 0.5)
    peer_sends.start()
    try:
        for ask in (lambda: bus.call("org.x", "/", "org.x", "Start"), lambda: bus.wait_for("JobRemoved", 0, 2)):
            began = time.monotonic()
            with pytest.raises(CtkError, match="no reply within"):
                ask()
            assert time.monotonic() - began < 3
    finally:
        ended.set()
        peer_sends.join(10)
        bus.close()
        peer.stop()


def _again_and_again(peer: Peer, data: bytes, ended: threading.Event) -> None:
    """A signal each tenth of a second, for ten seconds at most."""
    for _ in range(100):
        if ended.wait(0.1):
            return
        peer.connection.sendall(data)
