"""Requests to one repository of one registry: authorization, redirects, retries, and errors in plain words.

Redirects to another origin are followed for reads only, and never get the login.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from toolkit.errors import CtkError, Interrupted, Unreachable, Untrusted
from toolkit.events import Emit, Note
from toolkit.fetch.response import Response, discard
from toolkit.fetch.session import Bounds, Sessions
from toolkit.fetch.tls import Distrusted, NotSecure
from toolkit.fetch.transfer import Broken
from toolkit.image.registry import answers, origins
from toolkit.image.registry.answers import Asked
from toolkit.image.registry.hosts import Place
from toolkit.image.registry.token import PULL, Authority
from toolkit.text import one_line

_MOST_REDIRECTS = 5
LONGEST_WAIT_S = 60.0
"""If a registry asks us to wait longer than this, that is an error, which says how long."""
_TOLD_WAIT_S = 2.0
_FEW_PULLS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Limits(NamedTuple):
    """Seconds to connect, seconds without a byte, tries after the first, and seconds between the first two tries."""

    connect_s: float = 10.0
    stall_s: float = 15.0
    retries: int = 3
    back_off_s: float = 0.5


class _Request(NamedTuple):
    """A request without its address. `actions` and `more` are what its token has to allow."""

    method: str
    doing: str
    actions: str
    more: str
    headers: Mapping[str, str]
    body: "bytes | Iterable[bytes] | None"
    patience_s: float

    @property
    def repeatable(self) -> bool:
        """Whether its body can be sent twice."""
        return self.body is None or isinstance(self.body, bytes)


class Connection:
    """One repository. Usable from any thread.

    `sessions` are for the registry itself, `strangers` for all hosts that it leads to.
    """

    def __init__(
        self, place: Place, authority: Authority, sessions: Sessions, strangers: Sessions, limits: Limits, emit: Emit
    ) -> None:
        self.place = place
        self._authority = authority
        self._sessions = sessions
        self._strangers = strangers
        self._limits = limits
        self._emit = emit
        self._base = place.bases[0] if len(place.bases) == 1 else ""
        self._told: set[str] = set()
        self.challenged = False
        """Whether the registry has asked for a login."""
        self._lock = threading.Lock()

    @property
    def base(self) -> str:
        """Scheme and host; before the first response the one that is tried first."""
        return self._base or self.place.bases[0]

    def path(self, rest: str) -> str:
        """The path of an endpoint of the repository."""
        return f"/v2/{self.place.repository}/{rest}"

    def asked(self, doing: str) -> Asked:
        """The description of a request for error messages."""
        return Asked(doing, self.place.host, self._authority.name)

    def request(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        actions: str = PULL,
        more: str = "",
        headers: Mapping[str, str] | None = None,
        body: "bytes | Iterable[bytes] | None" = None,
        again: bool = True,
        patience_s: float = 0.0,
    ) -> Response:
        """The response, whatever its status, once temporary failures are over; the caller closes it.

        `path` is a path of the registry, or a whole URL that it gave us. `again`: the request may be sent twice; a body
        that is not bytes is never sent twice. Raises CtkError; Broken if `again` is false and the connection fails.
        """
        asked = _Request(method, doing, actions, more, headers or {}, body, patience_s)
        again = again and asked.repeatable
        attempt = 0
        while True:
            because, wait_s = "", self._limits.back_off_s * 2**attempt
            try:
                response = self._authorized(path, asked)
            except Broken as error:
                if not again:
                    raise
                because = str(error)
                last = attempt >= error.tries_again(self._limits.retries)
            else:
                self._heed(response, doing)
                if response.status_code not in answers.PASSING or not again:
                    return response
                stated = answers.wait_s(response.headers)
                wait_s = wait_s if stated is None else stated
                last = attempt >= self._limits.retries or wait_s > LONGEST_WAIT_S
                if last:
                    raise self.failure(response, doing)
                discard(response)
                if wait_s > _TOLD_WAIT_S:
                    text = f"{self.place.host} says {response.status_code} and asks us to wait {wait_s:.0f} s"
                    self._emit(Note(text, warning=True))
            if last:
                tries = f" (tried {attempt + 1} times)" if attempt else ""
                raise self._unreachable(doing, because + tries)
            if self._sessions.cancelled.wait(wait_s):
                raise Interrupted(doing, because="interrupted")
            attempt += 1

    def read(self, response: Response, doing: str, limit: int) -> bytes:
        """The body, of at most `limit` bytes. Raises Untrusted, Broken, Interrupted."""
        with response:
            self.check_encoding(response, doing)
            return b"".join(self._sessions.stream(response, doing, Bounds(limit)))

    def check_encoding(self, response: Response, doing: str) -> None:
        """Raise Untrusted for a compressed body: its bytes would not be those that a digest is of."""
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity":
            because = f"{self.place.host} sends it compressed ({encoding[:40]!r}), though we asked for it uncompressed"
            raise Untrusted(doing, because=because)

    def failure(self, response: Response, doing: str) -> CtkError:
        """The error for a response that is not good; it is closed."""
        body = b""
        with response:
            try:
                for piece in self._sessions.stream(response, doing, Bounds(answers.LIMIT_BYTES)):
                    body += piece
            except (Broken, Untrusted):
                pass  # the status says enough
        asked = self.asked(doing)
        if response.url and not origins.same(response.url, self.base):
            asked = Asked(doing, urlsplit(response.url).hostname or asked.host)
        return answers.failure(asked, response.status_code, response.reason or "", body, response.headers)

    def _authorized(self, path: str, request: _Request) -> Response:
        asked = self.asked(request.doing)
        sent = self._authority.header(request.actions, asked, request.more)
        for _ in range(2):  # a token may have expired, and the registry may have changed its mind on basic or bearer
            response = self._redirected(path, request, sent)
            if response.status_code != 401 or not origins.same(response.url, self.base) or not request.repeatable:
                return response
            self.challenged = True
            offered = response.headers.get("WWW-Authenticate", "")
            try:
                following = self._authority.answer(offered, sent, request.actions, asked, request.more)
            except BaseException:
                response.close()
                raise
            if not following or following == sent:
                return response
            discard(response)
            sent = following
        return self._redirected(path, request, sent)

    def _redirected(self, path: str, request: _Request, authorization: str) -> Response:
        if path.startswith("/"):
            response = self._first(path, request, authorization)
        else:
            response = self._at(path, request, authorization)
        for _ in range(_MOST_REDIRECTS):
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return response
            response.close()
            url = origins.target(response.url, _text(response.headers["Location"]), request.doing)
            if request.method not in ("GET", "HEAD") and not origins.same(url, self.base):
                because = f"{self.place.host} redirects the upload to {urlsplit(url).netloc!r}"
                raise Untrusted(request.doing, because=because)
            if not request.repeatable:
                raise Broken(f"{self.place.host} redirects an upload that has begun")
            response = self._at(url, request, authorization)
        response.close()
        raise Unreachable(request.doing, because="too many redirects")

    def _at(self, url: str, request: _Request, authorization: str) -> Response:
        """The response of a URL: with our authorization if it is the registry's own origin, else without."""
        own = origins.same(url, self.base)
        sessions = self._sessions if own else self._strangers
        return self._ask(sessions, url, request, authorization if own else "")

    def _first(self, path: str, request: _Request, authorization: str) -> Response:
        """The response of a path of the registry; the first call finds out whether it speaks https."""
        bases = (self._base,) if self._base else self.place.bases
        for base in bases:
            try:
                response = self._ask(self._sessions, base + path, request, authorization)
            except Distrusted as error:
                raise self._distrusted(request.doing, error) from None
            except Broken as error:
                if base != bases[-1]:
                    continue
                if isinstance(error, NotSecure) and base.startswith("https:"):
                    raise self._not_secure(request.doing, error) from None
                raise
            self._base = base
            return response
        raise AssertionError("a place has a base")

    def _ask(self, sessions: Sessions, url: str, request: _Request, authorization: str) -> Response:
        return sessions.ask(
            request.method,
            url,
            request.doing,
            headers={**request.headers, "Authorization": authorization} if authorization else request.headers,
            body=request.body,
            follow=False,
            patience_s=request.patience_s,
        )

    def _heed(self, response: Response, doing: str) -> None:
        """Tell what the user should know, once: few pulls left, and the registry's own warnings."""
        left = answers.remaining(response.headers)
        if left is not None and left <= _FEW_PULLS and response.status_code != 429:
            self._tell("limit", f"{self.place.host}: {answers.limits(response.headers)}, as {self.asked(doing).who}")
        warning = response.headers.get("Warning", "")
        if warning.startswith("299 - "):  # distribution-spec 1.1, "Warnings"
            self._tell(warning, f"{self.place.host} warns: {one_line(_text(warning[6:]))[:500]}")

    def _tell(self, what: str, text: str) -> None:
        with self._lock:
            if what in self._told or len(self._told) > 20:
                return
            self._told.add(what)
        self._emit(Note(text, warning=True))

    def _unreachable(self, doing: str, because: str) -> CtkError:
        hint = "check the name of the registry, the network and the proxy settings"
        return Unreachable(doing, because=f"{self.place.server}: {because}", hint=hint)

    def _not_secure(self, doing: str, error: Broken) -> CtkError:
        host = self.place.host
        because = f"{host} does not speak https there ({error})"
        hint = f"if you trust the network up to it: --plain-http, or `insecure = true` for {host} in registries.conf"
        return Unreachable(doing, because=because, hint=hint)

    def _distrusted(self, doing: str, error: Broken) -> CtkError:
        host = self.place.server
        hint = f"put the certificate of its authority into /etc/containers/certs.d/{host}/ca.crt"
        return Untrusted(doing, because=f"{host}: {error}", hint=hint)


def _text(header: str) -> str:
    """A header's text: http.client decodes it as Latin-1, and servers that send other characters mean UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header
