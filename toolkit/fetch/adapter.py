"""requests' connections with our limits for heads (heads.py), and with our rules for addresses and certificates."""

import io
import socket
import ssl
from typing import Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from toolkit.fetch import heads
from toolkit.fetch.response import MOST_REDIRECT_BYTES


class _Plain(HTTPConnection):
    response_class = heads.Response


def tls_context(cert_reqs: Any) -> ssl.SSLContext:
    """urllib3's context, with which authorities serve that lack extensions of RFC 5280, as people's own often do.

    From Python 3.13 on urllib3 refuses them. curl, Go (skopeo, podman, docker) and older Pythons take them.
    """
    context = create_urllib3_context(cert_reqs=resolve_cert_reqs(cert_reqs))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class _Secure(HTTPSConnection):
    response_class = heads.Response

    def connect(self) -> None:
        if self.ssl_context is None:  # as urllib3 does in ssl_wrap_socket
            self.ssl_context = tls_context(self.cert_reqs)
        super().connect()


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


def _checked(sock: socket.socket, proxied: bool) -> socket.socket:
    """The socket, if it may lead where it does; a proxy decides for itself."""
    if not proxied:
        try:
            heads.check_peer(sock)
        except BaseException:
            sock.close()
            raise
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
                if len(raw.read(MOST_REDIRECT_BYTES + 1, decode_content=False)) > MOST_REDIRECT_BYTES:
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
