"""Limit the time and the size of a response's head (status line and headers), as for its body.

http.client reads it line by line, and each read may take as long as the socket's time-out: a server that sends a byte
now and then, or "100 Continue" without end (http.client, HTTPResponse.begin), could hang a build forever.
"""

import http.client
import io
import socket
import time
from typing import Any, cast

from toolkit import __version__
from toolkit.fetch.addresses import is_of_this_network
from toolkit.fetch.permanent_errors import HeadTooLong, OfThisNetwork
from toolkit.fetch.response import REDIRECTS

ALWAYS = {"User-Agent": f"ctk/{__version__}", "Accept-Encoding": "identity"}
"""The headers of every request of ours: a compressed body would not have the size and hash that we know."""

_MOST_BYTES = 1 << 20  # http.client alone would accept 100 headers of 64 KiB, after any number of responses "100"


class _Stream(io.RawIOBase):
    """The bytes from a socket. Until `open_ended` is called, all reads together have the time-out of a single one."""

    def __init__(self, sock: socket.socket) -> None:
        self._raw: Any = sock.makefile("rb", buffering=0)
        self._sock = sock
        self._patience_s = sock.gettimeout()
        self._deadline = time.monotonic() + self._patience_s if self._patience_s else 0.0
        self._left_bytes = _MOST_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._deadline:
            return cast("int | None", self._raw.readinto(buffer))
        if self._left_bytes <= 0:
            raise HeadTooLong(f"its headers did not end within {_MOST_BYTES} bytes")
        try:
            self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            if self._left_bytes == _MOST_BYTES:
                raise  # nothing came: the server may be busy, and is asked again
            raise HeadTooLong(f"its headers did not end within {self._patience_s:.0f} s") from None
        self._left_bytes -= count or 0
        return count

    def open_ended(self) -> None:
        """The head is complete: from here on each read has the socket's own time-out."""
        self._deadline = 0.0
        self._sock.settimeout(self._patience_s)

    def close(self) -> None:
        self._raw.close()
        super().close()


class Response(http.client.HTTPResponse):
    """http.client's response, with these limits."""

    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self._stream = _Stream(sock)
        self.fp = io.BufferedReader(self._stream)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        if self.status not in REDIRECTS:  # the body of a redirect counts as part of the head
            self._stream.open_ended()


def check_peer(sock: socket.socket) -> None:
    """Raise OfThisNetwork if it leads there: an untrusted server must not send us to such an address."""
    peer = str(sock.getpeername()[0])
    if is_of_this_network(peer):
        raise OfThisNetwork(f"it leads to {peer}, an address that only this machine's network can reach")
