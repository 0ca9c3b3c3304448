"""HTTP/1.1 without a proxy, by the standard library alone: what a registry's client needs of a connection.

requests and urllib3 take 0.13 s of processor time to be imported, more than everything that a small pull does beside
it. They stay for what they are good at, and whatever is not plain goes their way (by_requests.py): proxies, redirects
that are to be followed, cookies, a URL that has to be put right first. What is left here is connections that are kept,
and TLS with the same authorities. If one day requests starts fast, this file can go.
"""

import base64
import http.client
import re
import select
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from toolkit.fetch import heads
from toolkit.fetch.response import MOST_REDIRECT_BYTES, REDIRECTS, Headers, Response
from toolkit.fetch.tls import Tls, load_authorities, load_own, named_authorities
from toolkit.fetch.transfer import Broken, plain

if TYPE_CHECKING:
    import ssl

_PORTS = {"http": 80, "https": 443}
# ASCII, no login, nothing that has to be quoted (RFC 3986); a bracketed address without a zone.
_PLAIN_URL = re.compile(
    r"https?://(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(:[0-9]+)?(/(?:[!$&-;=?-Z_a-z~]|%[0-9A-Fa-f]{2})*)?"
)
_PIECE_BYTES = 64 * 1024
_HANDSHAKE = b"\x16"  # the first byte of a TLS record of that kind (RFC 8446 5.1)


def takes(url: str) -> bool:
    """Whether a URL can be sent as it is."""
    return _PLAIN_URL.fullmatch(url) is not None


class _Server(NamedTuple):
    scheme: str
    host: str
    port: int


class _Secured:
    """TLS with one server: what requests and urllib3 would use, at least TLS 1.2 and the same authorities.

    Without VERIFY_X509_STRICT, which Python's own default has from 3.13 on (adapter.py). Raises Usage for files that
    can't be used.
    """

    def __init__(self, settings: Tls) -> None:
        import ssl

        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._context.set_alpn_protocols(["http/1.1"])
        if not settings.verify:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        load_own(self._context, settings)
        self.complete = not settings.verify
        """Whether it knows all authorities that it may have to."""
        self._lock = threading.Lock()

    def wrap(self, sock: socket.socket, host: str) -> "ssl.SSLSocket":
        """Shake hands on a connected socket, which is closed if that fails. Raises OSError, Usage.

        The machine's authorities are read only if the other side answers in TLS: OpenSSL takes 20 to 50 ms for them,
        and a registry on this machine is asked by https first, and mostly speaks http.
        """
        import ssl

        patience_s = sock.gettimeout()
        secure = self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        try:
            if not self.complete:
                secure.setblocking(False)
                try:
                    secure.do_handshake()  # sends the first message; an answer that is there already is read, too
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
                secure.settimeout(patience_s)
                if socket.socket.recv(secure, 1, socket.MSG_PEEK) == _HANDSHAKE:
                    self.load()  # OpenSSL looks for authorities in the context once the certificates have come
            secure.do_handshake()
        except BaseException:
            secure.close()
            raise
        return secure

    def load(self) -> None:
        """Read the machine's authorities. Raises Usage."""
        with self._lock:
            if not self.complete:
                load_authorities(self._context, named_authorities() or _bundle())
                self.complete = True


class _Connection(http.client.HTTPConnection):
    """One connection. `guarded` as in Sessions."""

    response_class = heads.Response

    def __init__(self, server: _Server, secured: "_Secured | None", connect_s: float, *, guarded: bool) -> None:
        super().__init__(server.host, server.port, timeout=connect_s)
        self.default_port = _PORTS[server.scheme]  # which port the header Host leaves out
        self._secured = secured
        self._guarded = guarded

    def __del__(self) -> None:
        """Close it, if those who had it (a client, or a response that was not read to its end) are forgotten."""
        self.close()

    def connect(self) -> None:
        """Connect, and shake hands. Raises OSError (ssl.SSLError is one), OfThisNetwork, Usage."""
        complete = self._secured is None or self._secured.complete
        try:
            self.sock = self._connected()
        except OSError as error:
            if complete or self._secured is None or getattr(error, "reason", "") != "CERTIFICATE_VERIFY_FAILED":
                raise
            self._secured.load()  # the answer came so soon that nothing could be read before it
            self.sock = self._connected()

    def _connected(self) -> socket.socket:
        sock = socket.create_connection((self.host, self.port), self.timeout)
        try:
            if self._guarded:
                heads.check_peer(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock if self._secured is None else self._secured.wrap(sock, self.host.rstrip("."))
        except BaseException:
            sock.close()
            raise

    def is_dropped(self) -> bool:
        """Whether the server has closed it, or says something that nobody asked for."""
        if self.sock is None:
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))


class Direct:
    """Sends requests over connections that are kept. Usable from any thread. The arguments are those of Sessions."""

    def __init__(
        self, connect_s: float, stall_s: float, tls: Callable[[str], Tls | None] | None, *, guarded: bool
    ) -> None:
        self._connect_s = connect_s
        self._stall_s = stall_s
        self._tls = tls
        self._guarded = guarded
        self._secured: dict[str, _Secured] = {}  # by HOST:PORT as in the URL
        self._idle: dict[_Server, list[_Connection]] = {}
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: "bytes | Iterable[bytes] | None",
        login: tuple[str, str] | None,
        patience_s: float,
    ) -> Response:
        """The response, whatever its status; a redirect's without its body. `url` is one that `takes` takes.

        Raises Usage (files for TLS), OSError (ssl.SSLError is one), http.client.HTTPException, ValueError, and what
        the body raises.
        """
        parts = urlsplit(url)
        server = _Server(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connection(server, parts.netloc)
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(self._stall_s)
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in _completed(method, headers, body, login).items():
                connection.putheader(name, value)
            connection.endheaders()
            _send_body(connection, body)
            connection.sock.settimeout(max(patience_s, self._stall_s))
            raw = connection.getresponse()
            response = self._response(method, url, server, connection, raw)
            if response.status_code in REDIRECTS and "Location" in response.headers:
                _drain(response)
        except BaseException:
            connection.close()
            raise
        return response

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            for kept in self._idle.values():
                for connection in kept:
                    connection.close()
            self._idle.clear()

    def _connection(self, server: _Server, netloc: str) -> _Connection:
        with self._lock:
            kept = self._idle.get(server, [])
            while kept:
                connection = kept.pop()
                if not connection.is_dropped():
                    return connection
                connection.close()
            secured = self._secured_for(netloc) if server.scheme == "https" else None
        return _Connection(server, secured, self._connect_s, guarded=self._guarded)

    def _secured_for(self, netloc: str) -> _Secured:
        found = self._secured.get(netloc)
        if found is None:
            settings = self._tls(netloc) if self._tls is not None else None
            found = self._secured[netloc] = _Secured(settings or Tls())
        return found

    def _response(
        self, method: str, url: str, server: _Server, connection: _Connection, raw: http.client.HTTPResponse
    ) -> Response:
        held = [connection]  # until the response has ended

        def end(*, whole: bool) -> None:
            raw.close()
            for one in held:
                if not whole:
                    one.close()
                elif one.sock is not None:  # getresponse has closed one that the server won't keep
                    with self._lock:
                        self._idle.setdefault(server, []).append(one)
            held.clear()

        def read(size: int) -> bytes:
            try:
                data = raw.read1(size)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Broken(plain(error)) from None
            if not data or raw.length == 0:
                end(whole=not raw.length)
            return data

        def close() -> None:
            end(whole=False)

        if method == "HEAD" or raw.length == 0:
            end(whole=True)
        return Response(method, url, raw.status, raw.reason, Headers(raw.getheaders()), read, close)


def _completed(
    method: str,
    headers: Mapping[str, str],
    body: "bytes | Iterable[bytes] | None",
    login: tuple[str, str] | None,
) -> dict[str, str]:
    """The headers to send, without Host."""
    whole = {**heads.ALWAYS, "Accept": "*/*", **headers}
    if login is not None:
        whole["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    if method not in ("GET", "HEAD"):
        sized: Any = b"" if body is None else body
        whole["Content-Length"] = str(len(sized))
    return whole


def _send_body(connection: _Connection, body: "bytes | Iterable[bytes] | None") -> None:
    pieces: Iterable[Any] = body or ()
    if isinstance(body, bytes):  # sendall has one time-out for all that it is given
        view = memoryview(body)
        pieces = (view[start : start + _PIECE_BYTES] for start in range(0, len(view), _PIECE_BYTES))
    for piece in pieces:
        try:
            connection.send(piece)
        except BrokenPipeError:
            return  # it has answered without waiting for the end, and that answer says why


def _drain(response: Response) -> None:
    """Read a redirect's short body, so that the connection can be used again; give up a long one."""
    left = MOST_REDIRECT_BYTES
    try:
        while left > 0 and (data := response.read(left)):
            left -= len(data)
    except Broken:
        pass  # the redirect's target is known without it
    response.close()


def _bundle() -> str:
    """The authorities that requests uses."""
    import certifi

    return certifi.where()
