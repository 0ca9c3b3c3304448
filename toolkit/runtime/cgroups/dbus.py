"""The part of D-Bus that is needed to talk to systemd: one connection, method calls, waiting for a signal.

Source: the D-Bus specification 0.42, "Message Protocol" and "Authentication Protocol". Why no library: decision 0006.
"""

import time

from toolkit.errors import CtkError, HostLacks, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_SIZES = {"y": 1, "b": 4, "n": 2, "q": 2, "i": 4, "u": 4, "x": 8, "t": 8, "d": 8}
_SIGNED = "nix"
_ALIGNMENT = _SIZES | {"s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8}
_LONGEST_MESSAGE = 1 << 27  # the specification's limit
_LONGEST_LINE = 1 << 14
_TIMEOUT_S = 30.0
"""The time-out for one reply, and for one signal."""


class Refused(CtkError):
    """The peer replied with an error; `name` is its D-Bus name."""

    code = "E043"

    def __init__(self, doing: str, name: str, text: str) -> None:
        super().__init__(doing, because=text or name)
        self.name = name


def first_type(signature: str) -> str:
    """The first complete type of a signature: 'a(sv)u' -> 'a(sv)'."""
    if signature[0] == "a":
        return "a" + first_type(signature[1:])
    if signature[0] not in "({":
        return signature[0]
    depth = 0
    for at, letter in enumerate(signature):
        depth += (letter in "({") - (letter in ")}")
        if depth == 0:
            return signature[: at + 1]
    raise ValueError(f"signature {signature!r} does not end")


def split_types(signature: str) -> "list[str]":
    """The complete types of a signature, one by one."""
    types = []
    while signature:
        types.append(first_type(signature))
        signature = signature[len(types[-1]) :]
    return types


def write(out: bytearray, kind: str, value: "Any") -> None:
    """Append one value of the complete type `kind`, little-endian, aligned from the start of `out`.

    A variant is (its type, its value).
    """
    code = kind[0]
    out.extend(bytes(-len(out) % _ALIGNMENT[code]))
    if code == "d":
        import _struct

        out += _struct.pack("<d", value)
    elif code in _SIZES:
        out += int(value).to_bytes(_SIZES[code], "little", signed=code in _SIGNED)
    elif code in "so":
        data = value.replace("\0", "").encode("utf-8", "replace")
        out += len(data).to_bytes(4, "little") + data + b"\0"
    elif code == "g":
        out += bytes((len(value),)) + value.encode() + b"\0"
    elif code == "v":
        write(out, "g", value[0])
        write(out, value[0], value[1])
    elif code == "a":
        at = len(out)
        out += bytes(4)
        out.extend(bytes(-len(out) % _ALIGNMENT[kind[1]]))
        start = len(out)
        for item in value:
            write(out, kind[1:], item)
        out[at : at + 4] = (len(out) - start).to_bytes(4, "little")
    else:
        for part, item in zip(split_types(kind[1:-1]), value, strict=True):
            write(out, part, item)


class _Reader:
    """Reads the values of a message; the sender chooses its byte order."""

    def __init__(self, data: bytes, order: str, at: int = 0) -> None:
        self.data, self.order, self.at = data, order, at

    def integer(self, size: int, signed: bool = False) -> int:
        self.at += -self.at % size
        value = int.from_bytes(self.data[self.at : self.at + size], self.order, signed=signed)  # type: ignore[arg-type]
        self.at += size
        return value

    def value(self, kind: str) -> "Any":
        code = kind[0]
        if code == "d":
            import _struct

            raw = self.integer(8)
            return _struct.unpack("<d", raw.to_bytes(8, "little"))[0]
        if code in _SIZES:
            number = self.integer(_SIZES[code], code in _SIGNED)
            return bool(number) if code == "b" else number
        if code in "sog":
            size = self.integer(1 if code == "g" else 4)
            text = self.data[self.at : self.at + size].decode("utf-8", "replace")
            self.at += size + 1
            return text
        if code == "v":
            return self.value(self.value("g"))
        if code == "a":
            size = self.integer(4)
            self.at += -self.at % _ALIGNMENT[kind[1]]
            end = self.at + size
            items = []
            while self.at < end:
                items.append(self.value(kind[1:]))
            return items
        self.at += -self.at % 8
        return [self.value(part) for part in split_types(kind[1:-1])]


class Message:
    """A received message: its type, header fields by number, and the values of its body."""

    def __init__(self, data: bytes, order: str) -> None:
        self.kind = data[1]
        reader = _Reader(data, order, 12)
        self.fields: dict[int, Any] = dict(reader.value("a(yv)"))
        reader.at += -reader.at % 8
        self.body = [reader.value(part) for part in split_types(self.fields.get(_SIGNATURE, ""))]


class Bus:
    """A connection to one peer over a Unix socket. Raises HostLacks if nothing listens, Refused, CtkError."""

    def __init__(self, address: str, *, is_bus: bool) -> None:
        import _socket

        self.address = address
        self.serial = 0
        self.signals: list[Message] = []
        self.is_bus = is_bus
        self._buffer = b""
        self._begin(f"wait for D-Bus at {address!r}")
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(_TIMEOUT_S)
        try:
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
            # EXTERNAL without a uid: the peer takes it from the socket, which is also right in a user namespace, where
            # the peer sees another uid than we do.
            self._socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
            for wanted in (b"DATA", b"OK"):
                line = self._line()
                if not line.startswith(wanted):
                    raise CtkError(f"log in to D-Bus at {address!r}", because=f"it replied {line.decode()!r}")
            if is_bus:
                self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
        except OSError as error:
            self.close()
            raise HostLacks(f"connect to D-Bus at {address!r}", because=reason(error)) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _begin(self, doing: str) -> None:
        """Start the time-out of a request: it ends even if the peer keeps sending (systemd sends every signal)."""
        self._doing, self._deadline = doing, time.monotonic() + _TIMEOUT_S

    def _receive(self) -> None:
        left_s = self._deadline - time.monotonic()
        try:
            if left_s <= 0:
                raise TimeoutError
            self._socket.settimeout(left_s)
            data: bytes = self._socket.recv(65536)
        except TimeoutError:
            raise CtkError(self._doing, because=f"no reply within {_TIMEOUT_S:.0f} s") from None
        if not data:
            raise CtkError(f"read from D-Bus at {self.address!r}", because="the connection was closed")
        self._buffer += data

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._receive()
            if len(self._buffer) > _LONGEST_LINE:
                raise CtkError(f"log in to D-Bus at {self.address!r}", because="its reply is too long")
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _take(self, size: int) -> None:
        while len(self._buffer) < size:
            self._receive()

    def _message(self) -> Message:
        self._take(16)
        order = "little" if self._buffer[:1] == b"l" else "big"
        body = int.from_bytes(self._buffer[4:8], order)  # type: ignore[arg-type]
        fields = int.from_bytes(self._buffer[12:16], order)  # type: ignore[arg-type]
        size = 16 + fields + -fields % 8 + body
        if size > _LONGEST_MESSAGE:
            raise CtkError(f"read from D-Bus at {self.address!r}", because="the message is longer than D-Bus allows")
        self._take(size)
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return Message(data, order)

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", *values: "Any"
    ) -> "list[Any]":
        """Call a method and return its result; signals that arrive meanwhile are kept. Raises Refused, CtkError."""
        self.serial += 1
        body = bytearray()
        for kind, value in zip(split_types(signature), values, strict=True):
            write(body, kind, value)
        fields: list[Any] = [(_PATH, ("o", path)), (_INTERFACE, ("s", interface)), (_MEMBER, ("s", member))]
        if self.is_bus:
            fields.append((_DESTINATION, ("s", destination)))
        if signature:
            fields.append((_SIGNATURE, ("g", signature)))
        out = bytearray(b"l" + bytes((_CALL, 0, 1)))
        out += len(body).to_bytes(4, "little") + self.serial.to_bytes(4, "little")
        write(out, "a(yv)", fields)
        out.extend(bytes(-len(out) % 8))
        self._begin(f"call {interface}.{member}")
        try:
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.sendall(bytes(out + body))
            while True:
                message = self._message()
                if message.kind == _SIGNAL:
                    self.signals.append(message)
                elif message.fields.get(_REPLY_SERIAL) == self.serial:
                    break
        except OSError as error:
            raise CtkError(f"call {interface}.{member}", because=reason(error)) from None
        if message.kind == _ERROR:
            name = message.fields.get(_ERROR_NAME, "")
            raise Refused(f"call {interface}.{member}", name, str(message.body[0]) if message.body else "")
        return message.body

    def wait_for(self, member: str, position: int, value: "Any") -> "list[Any]":
        """The body of the first signal `member` whose argument at `position` is `value`. Raises CtkError."""
        self._begin(f"wait for the signal {member}")
        while True:
            while self.signals:
                signal = self.signals.pop(0)
                if signal.fields.get(_MEMBER) == member and signal.body[position : position + 1] == [value]:
                    return signal.body
            message = self._message()
            if message.kind == _SIGNAL:
                self.signals.append(message)
