"""Limit the time and the size of a response's head (status line and headers), as for its body.

http.client reads it line by line, and each read may take as long as the socket's time-out: a server that sends a byte
now and then, or "100 Continue" without end (http.client, HTTPResponse.begin), could hang a build forever.
"""

import http.client
import io
import socket
import ssl
import time
from typing import Any, cast

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from toolkit.fetch.addresses import is_of_this_network
from toolkit.fetch.permanent_errors import HeadTooLong, OfThisNetwork

_MOST_BYTES = 1 << 20  # http.client alone would accept 100 headers of 64 KiB, after any number of responses "100"
_MOST_REDIRECT_BYTES = 1 << 16


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


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self._stream = _Stream(sock)
        self.fp = io.BufferedReader(self._stream)

    def begin(self) -> None:
        super().begin()
        if self.status not in requests.models.REDIRECT_STATI:  # the body of a redirect counts as part of the head
            self._stream.open_ended()


class _Plain(HTTPConnection):
    response_class = _Response


def tls_context(cert_reqs: Any) -> ssl.SSLContext:
    """urllib3's context, with which authorities serve that lack extensions of RFC 5280, as people's own often do.

    From Python 3.13 on urllib3 refuses them. curl, Go (skopeo, podman, docker) and older Pythons take them.
    """
    context = create_urllib3_context(cert_reqs=resolve_cert_reqs(cert_reqs))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class _Secure(HTTPSConnection):
    response_class = _Response

    def connect(self) -> None:
        if self.ssl_context is None:  # as urllib3 does in ssl_wrap_socket
            self.ssl_context = tls_context(self.cert_reqs)
        super().connect()


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


def _checked(sock: socket.socket, proxied: bool) -> socket.socket:
    """Check the socket's peer: an untrusted server must not send us to such an address; a proxy decides for itself."""
    peer = str(sock.getpeername()[0])
    if not proxied and is_of_this_network(peer):
        sock.close()
        raise OfThisNetwork(f"it leads to {peer}, an address that only this machine's network can reach")
    return sock


class _GuardedPlain(_Plain):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn(), self.proxy is not None)


class _GuardedSecure(_Secure):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn(), self.proxy is not None)


class _GuardedPlainPool(_PlainPool):
    ConnectionCls = _GuardedPlain


class _GuardedSecurePool(_SecurePool):
    ConnectionCls = _GuardedSecure


_POOLS = {"http": _PlainPool, "https": _SecurePool}
_GUARDED_POOLS = {"http": _GuardedPlainPool, "https": _GuardedSecurePool}


class Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter with limits for the heads of responses and the bodies of redirects, a proxy's as well.

    `guarded`: it does not connect to addresses of this machine's own network (addresses.py). `context` is for TLS.
    """

    def __init__(self, *, guarded: bool = False, context: ssl.SSLContext | None = None) -> None:
        self._pools = _GUARDED_POOLS if guarded else _POOLS
        self._named: dict[str, Any] = {} if context is None else {"ssl_context": context}
        super().__init__()

    def send(self, *arguments: Any, **named: Any) -> requests.Response:
        """The response; a redirect's without its body, which requests would read and unpack, however long it is."""
        response = super().send(*arguments, **named)
        if response.is_redirect:
            raw = response.raw
            try:
                # After a short body the connection can be used again.
                if len(raw.read(_MOST_REDIRECT_BYTES + 1, decode_content=False)) > _MOST_REDIRECT_BYTES:
                    raw.close()
            except (urllib3.exceptions.HTTPError, OSError):
                raw.close()  # the redirect's target is known without it
            response.raw = urllib3.HTTPResponse(body=io.BytesIO(), preload_content=False)
        return response

    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **(named | self._named))
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **(named | self._named))
        manager.pool_classes_by_scheme = self._pools
        return manager
