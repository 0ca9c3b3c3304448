"""netlink(7): messages to the kernel about links, addresses and routes (rtnetlink(7)) or nftables, and its answers.

Encoded here, because `import pyroute2` takes 200 ms of processor time, which is five containers. Numbers are in the
machine's byte order, attributes padded to four bytes (<linux/netlink.h>). tests/oracle/test_netlink.py compares the
bytes with pyroute2's.
"""

import _socket
import os
import sys

from toolkit.errors import SystemCall
from toolkit.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

BYTE_ORDER = sys.byteorder

ROUTE, NETFILTER = 0, 12  # protocols of AF_NETLINK
REQUEST, ACK, DUMP, EXCL, CREATE, APPEND = 0x1, 0x4, 0x300, 0x200, 0x400, 0x800

_ERROR, _DONE = 2, 3  # NLMSG_*
_INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: something changed during the dump, which may be inconsistent
_CAPPED, _HAS_ATTRIBUTES = 0x100, 0x200  # NLM_F_CAPPED, NLM_F_ACK_TLVS, of an acknowledgement
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # NFNL_MSG_*
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_NESTED, _KIND_MASK = 0x8000, 0x3FFF

_FLAGS = {
    "NLM_F_REQUEST": REQUEST,
    "NLM_F_ACK": ACK,
    "NLM_F_EXCL": EXCL,
    "NLM_F_CREATE": CREATE,
    "NLM_F_APPEND": APPEND,
}
_DUMP_FLAGS = {"NLM_F_REQUEST": REQUEST, "NLM_F_DUMP": DUMP}
_KINDS = {
    ROUTE: {
        16: "RTM_NEWLINK", 17: "RTM_DELLINK", 18: "RTM_GETLINK", 20: "RTM_NEWADDR", 21: "RTM_DELADDR",
        22: "RTM_GETADDR", 24: "RTM_NEWROUTE", 26: "RTM_GETROUTE",
    },
    NETFILTER: {
        0xA00: "NFT_MSG_NEWTABLE", 0xA01: "NFT_MSG_GETTABLE", 0xA02: "NFT_MSG_DELTABLE", 0xA03: "NFT_MSG_NEWCHAIN",
        0xA06: "NFT_MSG_NEWRULE", 0xA09: "NFT_MSG_NEWSET", 0xA0C: "NFT_MSG_NEWSETELEM", 0xA0D: "NFT_MSG_GETSETELEM",
        0xA0E: "NFT_MSG_DELSETELEM",
    },
}  # fmt: skip
_NAMES = {ROUTE: "NETLINK_ROUTE", NETFILTER: "NETLINK_NETFILTER"}


def u16(number: int) -> bytes:
    """Two bytes in the machine's order."""
    return number.to_bytes(2, BYTE_ORDER)


def u32(number: int) -> bytes:
    """Four bytes in the machine's order."""
    return number.to_bytes(4, BYTE_ORDER)


def text(words: str) -> bytes:
    """A string as the kernel takes it, with the NUL."""
    return os.fsencode(words) + b"\0"


def attribute(kind: int, *parts: bytes) -> bytes:
    """One attribute (struct nlattr), padded."""
    data = b"".join(parts)
    size = 4 + len(data)
    return u16(size) + u16(kind) + data + bytes(-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that consists of attributes, and says so (NLA_F_NESTED)."""
    return attribute(kind | _NESTED, *parts)


def attributes(data: bytes) -> "Iterator[tuple[int, bytes]]":
    """(kind, content) of each attribute in `data`; what is cut off at the end is left out."""
    while len(data) >= 4:
        size = int.from_bytes(data[:2], BYTE_ORDER)
        if not 4 <= size <= len(data):
            return
        yield int.from_bytes(data[2:4], BYTE_ORDER) & _KIND_MASK, data[4:size]
        data = data[(size + 3) & ~3 :]


class Message:
    """A request: its type (RTM_…, or an nftables one), NLM_F_* flags beside NLM_F_REQUEST, and its body."""

    __slots__ = ("body", "flags", "kind")

    def __init__(self, kind: int, flags: int, body: bytes) -> None:
        self.kind, self.flags, self.body = kind, flags | REQUEST, body

    def encoded(self, sequence: int) -> bytes:
        """With its header (struct nlmsghdr)."""
        header = u32(16 + len(self.body)) + u16(self.kind) + u16(self.flags) + u32(sequence) + bytes(4)
        return header + self.body


class Refused(SystemCall):
    """The kernel refused a message, the one at index `at` of those that were sent; -1: the transaction as a whole."""

    def __init__(self, call: str, errno: int, reason: str, at: int) -> None:
        super().__init__(call, errno, reason)
        self.at = at


class _Answer:
    """One message from the kernel: number of the request, type, flags, content."""

    __slots__ = ("content", "flags", "kind", "sequence")

    def __init__(self, data: bytes) -> None:
        self.kind, self.flags = int.from_bytes(data[4:6], BYTE_ORDER), int.from_bytes(data[6:8], BYTE_ORDER)
        self.sequence = int.from_bytes(data[8:12], BYTE_ORDER)
        self.content = data[16:]

    @property
    def errno(self) -> int:
        """Of NLMSG_ERROR or NLMSG_DONE: 0 for an acknowledgement."""
        return -int.from_bytes(self.content[:4], BYTE_ORDER, signed=True)

    def explained(self) -> str:
        """The kernel's own words for an error (NLMSGERR_ATTR_MSG); "" if it has none."""
        if self.kind != _ERROR or not self.flags & _HAS_ATTRIBUTES:
            return ""
        size = 16 if self.flags & _CAPPED else int.from_bytes(self.content[4:8], BYTE_ORDER)
        found = dict(attributes(self.content[4 + ((size + 3) & ~3) :]))
        return found.get(1, b"").rstrip(b"\0").decode("ascii", "replace")


class Socket:
    """A netlink socket of the network namespace that we stand in; it stays there when we leave.

    A context manager that closes it. Raises SystemCall.
    """

    def __init__(self, protocol: int = ROUTE) -> None:
        self._protocol = protocol
        self._sequence = 0
        try:
            self._end = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            libc.failed(f"socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, {_NAMES[protocol]})", error)
        # An acknowledgement need not repeat the request, and an error shall have the kernel's own words with it.
        for option in (_CAP_ACK, _EXT_ACK):
            try:
                self._end.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                pass  # before Linux 4.12: with the request, and without words

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._end.close()

    def tell(self, *messages: Message) -> None:
        """Send all in one write, and wait for the kernel's answer to each. Raises Refused for the first that failed.

        The kernel carries out the others all the same (rtnetlink(7)): what must not follow a failure is told later.
        """
        first = self._send([Message(one.kind, one.flags | ACK, one.body) for one in messages])
        waiting = len(messages)
        failure: _Answer | None = None
        while waiting:
            for answer in self._receive():
                if answer.kind == _ERROR and first <= answer.sequence <= self._sequence:
                    waiting -= 1
                    if answer.errno and (failure is None or answer.sequence < failure.sequence):
                        failure = answer
        if failure is not None:
            at = failure.sequence - first
            self._refuse(messages[at], failure, at)

    def ask(self, message: Message) -> bytes:
        """The body of the kernel's answer to a question about one thing. Raises Refused (ENOENT, ENODEV: no such)."""
        number = self._send([message])
        while True:
            for answer in self._receive():
                if answer.sequence != number:
                    continue
                if answer.kind == _ERROR:
                    self._refuse(message, answer, 0)
                return answer.content

    def dump(self, message: Message) -> "list[bytes]":
        """The bodies of all that the kernel has of what the message asks for. Raises Refused.

        Asked again if something was changed while the kernel told it (NLM_F_DUMP_INTR).
        """
        asked = Message(message.kind, message.flags | DUMP, message.body)
        sound = False
        while not sound:
            bodies, sound = self._dumped(asked)
        return bodies

    def _dumped(self, asked: Message) -> "tuple[list[bytes], bool]":
        number = self._send([asked])
        bodies: list[bytes] = []
        sound = True
        while True:
            for answer in self._receive():
                if answer.sequence != number:
                    continue
                if answer.kind in (_ERROR, _DONE):
                    if answer.errno:
                        self._refuse(asked, answer, 0)
                    return bodies, sound
                sound = sound and not answer.flags & _INTERRUPTED
                bodies.append(answer.content)

    def commit(self, messages: "Sequence[Message]") -> None:
        """An nftables transaction: all messages are carried out, or none. Raises Refused for the first that failed."""
        if not messages:
            return
        edge = bytes((0, 0)) + _NFTABLES.to_bytes(2, "big")  # struct nfgenmsg: family, version, res_id
        # The kernel acknowledges in the order of the messages, so that of the last one ends the answer; an error is
        # told without being asked for. Two hundred acknowledgements would fill the socket's buffer.
        last = messages[-1]
        body = [*messages[:-1], Message(last.kind, last.flags | ACK, last.body)]
        begin = self._send([Message(_BATCH_BEGIN, 0, edge), *body, Message(_BATCH_END, 0, edge)])
        failure: _Answer | None = None
        ended = False
        while not ended:
            for answer in self._receive():
                if answer.kind != _ERROR or not begin <= answer.sequence <= self._sequence:
                    continue
                if answer.sequence == begin:  # no right to it, no memory, or refused as a whole at its end
                    self._refuse(Message(_BATCH_BEGIN, 0, b""), answer, -1)
                if answer.errno and failure is None:
                    failure = answer
                ended |= answer.sequence == begin + len(messages)
        if failure is not None:
            at = failure.sequence - begin - 1
            self._refuse(messages[at], failure, at)

    def _send(self, messages: "Sequence[Message]") -> int:
        """Returns the number of the first."""
        first = self._sequence + 1
        self._sequence += len(messages)
        try:
            self._end.send(b"".join([one.encoded(first + at) for at, one in enumerate(messages)]))
        except OSError as error:
            libc.failed(self._call(messages[0]), error)
        return first

    def _receive(self) -> "Iterator[_Answer]":
        try:
            data, (sender, _) = self._end.recvfrom(1 << 16)
        except OSError as error:
            libc.failed(f"recvfrom({_NAMES[self._protocol]})", error)
        while not sender and len(data) >= 16:  # 0: the kernel
            size = int.from_bytes(data[:4], BYTE_ORDER)
            yield _Answer(data[:size])
            data = data[(size + 3) & ~3 or 16 :]

    def _call(self, message: Message) -> str:
        kind = _KINDS[self._protocol].get(message.kind, hex(message.kind))
        if self._protocol == NETFILTER and message.kind == _BATCH_BEGIN:
            kind = "NFNL_MSG_BATCH_BEGIN"
        names = _DUMP_FLAGS if message.flags & DUMP == DUMP else _FLAGS
        return f"sendto({{nlmsg_type={kind}, nlmsg_flags={libc.flag_names(message.flags, names)}}})"

    def _refuse(self, message: Message, answer: _Answer, at: int) -> None:
        words = answer.explained()
        reason = os.strerror(answer.errno).lower() + (f" ({words})" if words else "")
        raise Refused(self._call(message), answer.errno, reason, at)
