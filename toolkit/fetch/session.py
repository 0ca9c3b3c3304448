"""HTTP requests over persistent connections: what the clients of mirrors and of registries have in common.

One `requests` session a thread (sessions are not meant to be shared), limits for heads and bodies, and errors in plain
words. The clients decide which responses are good, whether to try again, and which login to use.
"""

import os
import sys
import threading
import time
import types
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit import __version__
from toolkit.errors import CtkError, Interrupted, Unreachable, Untrusted, Usage, reason
from toolkit.fetch import exchange
from toolkit.fetch.addresses import is_loopback
from toolkit.fetch.permanent_errors import is_lasting
from toolkit.fetch.transfer import Broken, Pace
from toolkit.text import number

if TYPE_CHECKING:
    import ssl

    import requests

    from toolkit.fetch.exchange import Exchange

_CHUNK_BYTES = 64 * 1024
_MOST_REDIRECTS = 8
# Slower than this over half a minute counts as a stall.
_DRIP_BYTES_PER_S = 512
_DRIP_WINDOW_S = 30.0


class NotSecure(Broken):
    """The server does not speak TLS: the URL is https, and the server's port is for http."""


class Distrusted(Broken):
    """We do not trust the server's certificate, or it is for another name."""


class Tls(NamedTuple):
    """How to talk to one server (HOST:PORT), in addition to the authorities that this machine trusts.

    `authorities`, `certificate` and `private_key` are PEM files; without `verify` any certificate is accepted.
    """

    authorities: tuple[str, ...] = ()
    certificate: str = ""
    private_key: str = ""
    verify: bool = True


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
        _check_certificate(certificate, private_key)
        self.cancelled = threading.Event() if cancelled is None else cancelled
        self._answered = False  # whether any server has answered any request
        self._certificate = (certificate, private_key or certificate) if certificate else None
        self._tls = tls
        self._contexts: dict[str, tuple[Tls, ssl.SSLContext] | None] = {}
        self._guarded = guarded
        self._cookies = cookies
        self._direct = direct
        self._trace = trace
        self._timeout = (connect_s, stall_s)
        self._local = threading.local()
        self._proxies: dict[str, dict[str, str]] = {}  # by scheme and server
        self._sessions: list[requests.Session] = []
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
    ) -> "requests.Response":
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
    ) -> "requests.Response":
        session = self._session()
        import requests
        import urllib3.exceptions

        try:
            verify = self._secure(session, url)
            auth = requests.auth.HTTPBasicAuth(*(part.encode() for part in login)) if login else None
            response = session.request(
                method,
                url,
                stream=True,
                timeout=(self._timeout[0], max(patience_s, self._timeout[1])),
                headers=headers,
                data=body,
                auth=auth,
                proxies=self._proxies_for(url),
                verify=verify,
                allow_redirects=follow,
            )
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL) as error:
            # The only schemes with an adapter are http and https, so this is a redirect to something else.
            raise Untrusted(doing, because=f"redirected to something other than http: {error}") from None
        except requests.exceptions.TooManyRedirects:
            raise Unreachable(doing, because="too many redirects") from None
        except requests.exceptions.MissingSchema as error:
            raise Usage(doing, because=str(error)) from None
        except requests.exceptions.SSLError as error:
            text = str(error).lower().replace("_", " ")
            kind = Distrusted if "certificate verify failed" in text else NotSecure if _is_not_tls(text) else Broken
            raise kind(plain(error)) from None
        except requests.exceptions.RequestException as error:
            # A server that has answered before exists, and may be restarting.
            raise Broken(plain(error), lasting=not self._answered and is_lasting(error)) from None
        except (urllib3.exceptions.LocationParseError, ValueError) as error:
            raise Untrusted(doing, because=f"redirected to something other than http: {plain(error)}") from None
        self._answered = True
        return response

    def stream(
        self, response: "requests.Response", doing: str, bounds: Bounds, pace: Pace | None = None
    ) -> Iterator[bytes]:
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

    def _body(
        self, response: "requests.Response", doing: str, bounds: Bounds, done: int, pace: Pace
    ) -> Iterator[bytes]:
        """The body as it arrives, from byte `done` on; no more than `exact` or `limit` bytes in all."""
        import urllib3.exceptions

        read = getattr(response.raw, "read1", None) or response.raw.read
        bound = bounds.limit if bounds.exact is None else bounds.exact
        began = time.monotonic()
        while True:
            if self.cancelled.is_set():
                raise Interrupted(doing, because="interrupted")
            try:
                # Ask for one byte beyond the bound, so that "too long" is noticed and not cut off.
                chunk = read(min(_CHUNK_BYTES, bound + 1 - done), decode_content=False)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise Broken(f"aborted after {done} bytes: {plain(error)}") from None
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
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()

    def _session(self) -> "requests.Session":
        known: requests.Session | None = getattr(self._local, "session", None)  # noqa: F823 - a type alone
        if known is not None:
            return known
        _import_requests()
        import requests

        from toolkit.fetch.heads import Adapter

        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, Adapter(guarded=self._guarded))
        session.headers.update({"User-Agent": f"ctk/{__version__}", "Accept-Encoding": "identity"})
        session.max_redirects = _MOST_REDIRECTS
        # requests would read the environment and ~/.netrc for each file; the answers don't change for a server, and a
        # password file must not be used here.
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or session.verify
        session.cert = self._certificate
        if not self._cookies:
            import http.cookiejar

            session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._local.session = session
        with self._lock:
            self._sessions.append(session)
        return session

    def _secure(self, session: "requests.Session", url: str) -> "bool | str":
        """Prepare the session for the TLS of the URL's server; what requests shall verify it with."""
        parts = urllib.parse.urlsplit(url)
        if self._tls is None or parts.scheme != "https":
            return session.verify or False
        with self._lock:
            if parts.netloc not in self._contexts:
                settings = self._tls(parts.netloc)
                self._contexts[parts.netloc] = None if settings is None else (settings, _context(settings))
            found = self._contexts[parts.netloc]
        if found is None:
            return session.verify or False
        prefix = f"https://{parts.netloc.lower()}/"
        if prefix not in session.adapters:
            from toolkit.fetch.heads import Adapter

            session.mount(prefix, Adapter(guarded=self._guarded, context=found[1]))
        return (session.verify or False) if found[0].verify else False

    def _proxies_for(self, url: str) -> dict[str, str]:
        server = url.partition("?")[0].split("/", 3)[:3]
        found = self._proxies.get("/".join(server))
        if found is None:
            import requests

            here = self._direct and is_loopback(urllib.parse.urlsplit(url).hostname or "")
            found = {} if here else dict(requests.utils.get_environ_proxies(url))
            self._proxies["/".join(server)] = found
        return found


def _import_requests() -> None:
    """Import requests without charset_normalizer, which takes a tenth of our start.

    It guesses the encoding of texts, and we read bytes. requests would warn if there were none, or if it had come to
    want a newer one. What stands in for it is gone afterwards, for those that do need it.
    """
    if "requests" in sys.modules or "charset_normalizer" in sys.modules:
        return
    stand_in: Any = types.ModuleType("charset_normalizer")
    stand_in.__version__ = "3.0.0"
    warnings.filterwarnings("ignore", message="urllib3 .* doesn't match a supported version")
    sys.modules["charset_normalizer"] = stand_in
    try:
        import requests  # noqa: F401
    finally:
        sys.modules.pop("charset_normalizer", None)


def discard(response: "requests.Response") -> None:
    """Close a response whose body nobody needs; a short one is read, so that its connection can be used again."""
    import urllib3.exceptions

    length = number(response.headers.get("Content-Length", ""))
    try:
        if response.request.method == "HEAD" or response.status_code == 204 or 0 <= length <= _CHUNK_BYTES:
            response.raw.read(_CHUNK_BYTES, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError):
        pass  # then it can't
    response.close()


def _is_not_tls(text: str) -> bool:
    """Whether OpenSSL's error means that what it read was not TLS at all."""
    return any(
        words in text for words in ("wrong version number", "record layer failure", "http request", "eof occurred")
    )


def plain(error: BaseException) -> str:
    """The innermost reason of a requests or urllib3 error, without their object addresses."""
    seen: BaseException = error
    for _ in range(8):
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in seen.args if isinstance(arg, BaseException)), None)
        if inner is None or inner is seen:
            break
        seen = inner
    text = getattr(seen, "strerror", None) or str(seen)
    # urllib3 wraps the system's reason in text of its own: "<…>: Failed to …: [Errno 111] Connection refused".
    for lead in ("] ", ">: "):
        if lead in text:
            text = text.rpartition(lead)[2]
    return text.partition(" (_ssl.c:")[0].strip(" .)").lower() or type(seen).__name__


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


def _context(tls: Tls) -> "ssl.SSLContext":
    """The context that requests adds this machine's authorities to, if it is to verify."""
    import ssl

    from toolkit.fetch.heads import tls_context

    if not tls.verify:
        import urllib3

        # The user has turned verification off, and a library prints nothing.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    # urllib3's own kind of context: before version 2 it checks names itself, and Python's check would refuse addresses.
    context = tls_context(ssl.CERT_REQUIRED if tls.verify else ssl.CERT_NONE)
    _check_certificate(tls.certificate, tls.private_key)
    if tls.certificate:
        context.load_cert_chain(tls.certificate, tls.private_key or None)
    for path in tls.authorities:
        try:
            context.load_verify_locations(path)
        except OSError as error:  # SSLError is one
            because = (getattr(error, "reason", "") or reason(error)).lower().replace("_", " ")
            raise Usage(f"use the certificate authority {path!r}", because=because, hint="it is a PEM file") from None
    return context


def _check_certificate(certificate: str, private_key: str) -> None:
    """Raise Usage, before any request, for a certificate or key that TLS could not use."""
    if not certificate:
        if private_key:
            raise Usage("read the command line", because="--private-key needs --certificate FILE")
        return
    import ssl

    encrypted = "its private key has a passphrase"
    doing = f"use the certificate {certificate!r}" + (f" and its key {private_key!r}" if private_key else "")

    def ask() -> str:
        raise Usage(doing, because=encrypted, hint="openssl pkey -in KEY -out PLAIN removes it; keep PLAIN private")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, private_key or None, ask)
    except OSError as error:  # SSLError is one
        because = (getattr(error, "reason", "") or reason(error)).lower().replace("_", " ")
        raise Usage(doing, because=because, hint="both are PEM files; the key may be in the certificate's") from None
