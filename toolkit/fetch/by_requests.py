"""HTTP by requests and urllib3: for mirrors, for proxies, and for whatever direct.py does not take.

One session a thread (sessions are not meant to be shared).
"""

import sys
import threading
import types
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from toolkit.errors import Unreachable, Untrusted, Usage
from toolkit.fetch import heads, tls
from toolkit.fetch.addresses import is_loopback
from toolkit.fetch.permanent_errors import is_lasting
from toolkit.fetch.response import Response
from toolkit.fetch.tls import Tls
from toolkit.fetch.transfer import Broken, plain

if TYPE_CHECKING:
    import ssl

    import requests

_MOST_REDIRECTS = 8


class ByRequests:
    """Sends requests, for any number of threads. The arguments are those of Sessions; `certificate` is a pair."""

    def __init__(
        self,
        connect_s: float,
        stall_s: float,
        tls: Callable[[str], Tls | None] | None,
        certificate: tuple[str, str] | None,
        *,
        guarded: bool,
        cookies: bool,
        direct: bool,
    ) -> None:
        self._timeout = (connect_s, stall_s)
        self._tls = tls
        self._certificate = certificate
        self._guarded = guarded
        self._cookies = cookies
        self._direct = direct
        self._contexts: dict[str, tuple[Tls, ssl.SSLContext] | None] = {}
        self._local = threading.local()
        self._proxies: dict[str, dict[str, str]] = {}  # by scheme and server
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        doing: str,
        headers: Mapping[str, str],
        body: "bytes | Iterable[bytes] | None",
        login: tuple[str, str] | None,
        *,
        follow: bool,
        patience_s: float,
        answered: bool,
    ) -> Response:
        """The response, whatever its status. `answered`: some server has answered before. Raises as Sessions.ask."""
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
            raise tls.failure(error, plain(error)) from None
        except requests.exceptions.RequestException as error:
            # A server that has answered before exists, and may be restarting.
            raise Broken(plain(error), lasting=not answered and is_lasting(error)) from None
        except (urllib3.exceptions.LocationParseError, ValueError) as error:
            raise Untrusted(doing, because=f"redirected to something other than http: {plain(error)}") from None
        return _response(response)

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

        from toolkit.fetch.adapter import Adapter

        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, Adapter(guarded=self._guarded))
        session.headers.update(heads.ALWAYS)
        session.max_redirects = _MOST_REDIRECTS
        # requests would read the environment and ~/.netrc for each file; the answers don't change for a server, and a
        # password file must not be used here.
        session.trust_env = False
        session.verify = tls.named_authorities() or session.verify
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
            from toolkit.fetch.adapter import Adapter

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


def _response(response: "requests.Response") -> Response:
    import urllib3.exceptions

    raw_read = getattr(response.raw, "read1", None) or response.raw.read

    def read(size: int) -> bytes:
        try:
            data: bytes = raw_read(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Broken(plain(error)) from None
        return data

    method = response.request.method or ""
    return Response(
        method, response.url, response.status_code, response.reason or "", response.headers, read, response.close
    )


def _context(settings: Tls) -> "ssl.SSLContext":
    """The context that requests adds this machine's authorities to, if it is to verify."""
    import ssl

    from toolkit.fetch.adapter import tls_context

    if not settings.verify:
        import urllib3

        # The user has turned verification off, and a library prints nothing.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    # urllib3's own kind of context: before version 2 it checks names itself, and Python's check would refuse addresses.
    context = tls_context(ssl.CERT_REQUIRED if settings.verify else ssl.CERT_NONE)
    tls.load_own(context, settings)
    return context
