"""HTTP requests over persistent connections: what the clients of mirrors and of registries have in common.

Limits for heads and bodies, and errors in plain words. A plain request goes over a connection of direct.py, any other
by requests. The clients decide which responses are good, whether to try again, and which login to use.
"""

import http.client
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from toolkit.errors import CtkError, Interrupted, Untrusted
from toolkit.fetch import exchange
from toolkit.fetch.addresses import is_loopback
from toolkit.fetch.direct import Direct, takes
from toolkit.fetch.permanent_errors import is_lasting
from toolkit.fetch.response import Response
from toolkit.fetch.tls import Tls, check_certificate
from toolkit.fetch.tls import failure as tls_failure
from toolkit.fetch.transfer import Broken, Pace, plain
from toolkit.text import number

if TYPE_CHECKING:
    from toolkit.fetch.by_requests import ByRequests
    from toolkit.fetch.exchange import Exchange

_CHUNK_BYTES = 64 * 1024
# Slower than this over half a minute counts as a stall.
_DRIP_BYTES_PER_S = 512
_DRIP_WINDOW_S = 30.0


class Bounds(NamedTuple):
    """How many bytes a body may have: at most `limit`, or exactly `exact` if `stated_by` states its size.

    `start` is the offset of the first byte that is wanted; with `resumed` the body begins there.
    """

    limit: int
    exact: int | None = None
    start: int = 0
    resumed: bool = False
    stated_by: str = "the signed index"
    too_short_hint: str = ""


class Sessions:
    """Sends requests, for any number of threads. `certificate` and `private_key` are PEM files, for all servers.

    `tls` says how to talk to a server (HOST:PORT); None: as to any. `guarded`: no connection is made to an address that
    only this machine's network can reach (link-local, a cloud's metadata service), whichever name resolves to it.
    `cookies`: they are kept, and sent to every port of their host. `direct`: no proxy is used for this machine itself.
    `trace` is told each request. Raises Usage for files that can't be used.
    """

    def __init__(
        self,
        *,
        connect_s: float = 10.0,
        stall_s: float = 8.0,
        certificate: str = "",
        private_key: str = "",
        tls: "Callable[[str], Tls | None] | None" = None,
        guarded: bool = False,
        cookies: bool = True,
        direct: bool = False,
        cancelled: threading.Event | None = None,
        trace: "Callable[[Exchange], None] | None" = None,
    ) -> None:
        check_certificate(certificate, private_key)
        self.cancelled = threading.Event() if cancelled is None else cancelled
        self._answered = False  # whether any server has answered any request
        self._certificate = (certificate, private_key or certificate) if certificate else None
        self._tls = tls
        self._guarded = guarded
        self._cookies = cookies
        self._direct = direct
        self._trace = trace
        self._connect_s = connect_s
        self._stall_s = stall_s
        self._connections = Direct(connect_s, stall_s, tls, guarded=guarded)
        self._by_requests: ByRequests | None = None
        self._lock = threading.Lock()

    def ask(
        self,
        method: str,
        url: str,
        doing: str,
        *,
        headers: Mapping[str, str],
        body: "bytes | Iterable[bytes] | None" = None,
        login: tuple[str, str] | None = None,
        follow: bool = True,
        patience_s: float = 0.0,
        purpose: str = "",
    ) -> Response:
        """The response, whatever its status. `stream` reads its body; the caller closes it.

        A `body` that is an iterable must have a length. `patience_s` is how long the response's head may take, if that
        is longer than usual; `purpose` is for the trace. Raises Broken, Untrusted (a redirect to something other than
        http), Unreachable, Usage.
        """
        if self._trace is None:
            return self._ask(method, url, doing, headers, body, login, follow, patience_s)
        tls = self._tls(urllib.parse.urlsplit(url).netloc) if self._tls and url.startswith("https:") else None
        told = exchange.sent(doing, purpose, method, url, headers, body, basic=login is not None, tls=tls)
        try:
            response = self._ask(method, url, doing, headers, body, login, follow, patience_s)
        except (Broken, CtkError) as error:
            self._trace(told._replace(error=str(error)))
            raise
        self._trace(told.answered(response))
        return response

    def _ask(
        self,
        method: str,
        url: str,
        doing: str,
        headers: Mapping[str, str],
        body: "bytes | Iterable[bytes] | None",
        login: tuple[str, str] | None,
        follow: bool,
        patience_s: float,
    ) -> Response:
        if self._is_direct(url, follow):
            response = self._send(method, url, doing, headers, body, login, patience_s)
        else:
            with self._lock:
                if self._by_requests is None:
                    from toolkit.fetch.by_requests import ByRequests

                    self._by_requests = ByRequests(
                        self._connect_s,
                        self._stall_s,
                        self._tls,
                        self._certificate,
                        guarded=self._guarded,
                        cookies=self._cookies,
                        direct=self._direct,
                    )
            response = self._by_requests.send(
                method, url, doing, headers, body, login,
                follow=follow, patience_s=patience_s, answered=self._answered,
            )  # fmt: skip
        self._answered = True
        return response

    def _is_direct(self, url: str, follow: bool) -> bool:
        """Whether the URL needs nothing of what requests does: see direct.py."""
        if follow or self._cookies or self._certificate is not None or not takes(url):
            return False
        return not _has_proxies() or (self._direct and is_loopback(urllib.parse.urlsplit(url).hostname or ""))

    def _send(
        self,
        method: str,
        url: str,
        doing: str,
        headers: Mapping[str, str],
        body: "bytes | Iterable[bytes] | None",
        login: tuple[str, str] | None,
        patience_s: float,
    ) -> Response:
        import ssl

        try:
            return self._connections.send(method, url, headers, body, login, patience_s)
        except ssl.SSLError as error:
            raise tls_failure(error, plain(error)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Broken(plain(error), lasting=not self._answered and is_lasting(error)) from None

    def stream(self, response: Response, doing: str, bounds: Bounds, pace: Pace | None = None) -> Iterator[bytes]:
        """The body from `bounds.start` on, as it arrives. Raises Broken, Interrupted, Untrusted (a wrong size)."""
        stated = number(response.headers.get("Content-Length", ""))
        done = bounds.start if bounds.resumed else 0
        whole = stated + done if stated >= 0 else -1
        check_stated(doing, whole, bounds)
        skip = 0 if bounds.resumed else bounds.start  # a server may send the whole file again
        for chunk in self._body(response, doing, bounds, done, pace or Pace(0)):
            done += len(chunk)
            if done - len(chunk) >= skip:
                yield chunk
            elif done > skip:
                yield chunk[skip - done :]
        if done < whole:
            raise Broken(f"aborted after {done} of {whole} bytes")
        if bounds.exact is not None and done != bounds.exact:
            raise too_short(doing, done, bounds)

    def _body(self, response: Response, doing: str, bounds: Bounds, done: int, pace: Pace) -> Iterator[bytes]:
        """The body as it arrives, from byte `done` on; no more than `exact` or `limit` bytes in all."""
        bound = bounds.limit if bounds.exact is None else bounds.exact
        began = time.monotonic()
        while True:
            if self.cancelled.is_set():
                raise Interrupted(doing, because="interrupted")
            try:
                # Ask for one byte beyond the bound, so that "too long" is noticed and not cut off.
                chunk = response.read(min(_CHUNK_BYTES, bound + 1 - done))
            except Broken as error:
                raise Broken(f"aborted after {done} bytes: {error}") from None
            if not chunk:
                return
            done += len(chunk)
            if done > bound:
                raise too_long(doing, bounds)
            yield chunk
            pace.took(len(chunk))
            spent = time.monotonic() - began
            if spent > _DRIP_WINDOW_S and done < spent * _DRIP_BYTES_PER_S:
                raise Broken(f"only {done} bytes in {spent:.0f} s", lasting=True)

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()
        if self._by_requests is not None:
            self._by_requests.close()


def _has_proxies() -> bool:
    """Whether the environment names any proxy; which one is for whom is for requests to say."""
    names = (name.lower() for name, value in os.environ.items() if value)
    return any(name.endswith("_proxy") and name != "no_proxy" for name in names)


def check_stated(doing: str, stated: int, bounds: Bounds) -> None:
    """Refuse a wrong size that the server states, before a byte is read; -1: it states none. Raises Untrusted."""
    if stated < 0:
        return
    if bounds.exact is not None and stated > bounds.exact:
        raise too_long(doing, bounds)
    if bounds.exact is not None and stated < bounds.exact:
        raise too_short(doing, stated, bounds)
    if bounds.exact is None and stated > bounds.limit:
        raise too_long(doing, bounds)


def too_long(doing: str, bounds: Bounds) -> Untrusted:
    """The error for a body longer than it may be."""
    if bounds.exact is None:
        return Untrusted(doing, because=f"it is longer than {bounds.limit} bytes, which no such file should be")
    return Untrusted(doing, because=f"it is longer than the {bounds.exact} bytes that {bounds.stated_by} states")


def too_short(doing: str, done: int, bounds: Bounds) -> Untrusted:
    """The error for a body that ends too early."""
    because = f"it has {done} bytes, {bounds.stated_by} states {bounds.exact}"
    return Untrusted(doing, because=because, hint=bounds.too_short_hint)
