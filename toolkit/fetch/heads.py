"""The head of a server's answer (status line and headers) gets a bound of time and of size, as its body has.

http.client reads it line by line, and each read may take as long as the socket's time-out: a server that sends a byte
now and then, or "100 Continue" without end (http.client, HTTPResponse.begin), held a build up for ever.
"""

import http.client
import io
import socket
import time
from typing import Any, cast

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from toolkit.fetch.permanent_errors import HeadTooLong

_MOST_BYTES = 1 << 20  # http.client alone would take 100 headers of 64 KiB, behind any number of answers "100"
_MOST_REDIRECT_BYTES = 1 << 16


class _Stream(io.RawIOBase):
    """What comes from a socket. Until `open_ended`, all of it has the time that is otherwise that of one read."""

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
                raise  # not a word: it may be busy, and is asked again
            raise HeadTooLong(f"its headers did not end within {self._patience_s:.0f} s") from None
        self._left_bytes -= count or 0
        return count

    def open_ended(self) -> None:
        """The head is whole: from here on each read has the socket's own time."""
        self._deadline = 0.0
        self._sock.settimeout(self._patience_s)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self._stream = _Stream(sock)
        self.fp = io.BufferedReader(self._stream)

    def begin(self) -> None:
        super().begin()
        if self.status not in requests.models.REDIRECT_STATI:  # the body of such a one counts as part of the head
            self._stream.open_ended()


class _Plain(HTTPConnection):
    response_class = _Response


class _Secure(HTTPSConnection):
    response_class = _Response


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


_POOLS = {"http": _PlainPool, "https": _SecurePool}


class Adapter(requests.adapters.HTTPAdapter):
    """requests' own, whose connections bound the heads of answers, and the bodies of redirects; of a proxy, too."""

    def send(self, *arguments: Any, **named: Any) -> requests.Response:
        """An answer; of a redirect without its body, which requests would read and unpack, however long it is."""
        response = super().send(*arguments, **named)
        if response.is_redirect:
            raw = response.raw
            try:
                # A short one leaves a connection that can be used again.
                if len(raw.read(_MOST_REDIRECT_BYTES + 1, decode_content=False)) > _MOST_REDIRECT_BYTES:
                    raw.close()
            except (urllib3.exceptions.HTTPError, OSError):
                raw.close()  # where it leads is known all the same
            response.raw = io.BytesIO()
        return response

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **named)
        manager.pool_classes_by_scheme = _POOLS
        return manager
