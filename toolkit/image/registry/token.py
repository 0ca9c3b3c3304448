"""Authorization for one repository: basic logins, and tokens from the server that a registry names.

Source: RFC 7617 (basic); the distribution project's token authentication specification ("docs/spec/auth/token.md") and
its OAuth 2 variant for identity tokens ("oauth.md"). The scope of a token is our repository and what we do there,
whatever the registry suggests, and a token is sent to the registry only.
"""

import base64
import json
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from toolkit.errors import Unreachable, Untrusted
from toolkit.fetch import addresses
from toolkit.fetch.response import Response
from toolkit.fetch.session import Bounds, Sessions
from toolkit.fetch.transfer import Broken
from toolkit.image.registry import answers, challenge, origins, trace
from toolkit.image.registry.answers import Asked
from toolkit.image.registry.challenge import Challenge
from toolkit.image.registry.login import Login
from toolkit.text import quote

PULL, PUSH, DELETE = "pull", "pull,push", "delete"
"""The actions of a token's scope: for GET and HEAD, for writing, for DELETE."""

_LIMIT_BYTES = 1 << 20
_LONGEST_TOKEN = 64 << 10
_LEAST_S = 60  # a token without expires_in, or with less, counts as valid for so long (token.md)
_MARGIN_S = 10.0


class _Token(NamedTuple):
    header: str
    ends: float  # time.monotonic()


class Authority:
    """The Authorization headers for one repository of one registry. `login` is None for anonymous.

    `find` looks up the login for a realm's host that is not related to the registry. Usable from any thread.
    """

    def __init__(
        self,
        base: Callable[[], str],
        repository: str,
        login: Login | None,
        sessions: Sessions,
        strangers: Sessions,
        find: Callable[[str], Login | None],
    ) -> None:
        self.login = login
        self._base = base
        self._repository = repository
        self._sessions = sessions
        self._strangers = strangers
        self._find = find
        self._basic = False
        self._bearer: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Our name at the registry; "" for anonymous."""
        return "" if self.login is None else self.login.name or "an identity token"

    def header(self, actions: str, asked: Asked, more: str = "") -> str:
        """The header to send with a request; "" before the registry has asked for one. May ask for a new token.

        `more` is the scope of a second repository. Raises Untrusted, Unreachable, NotFound, Broken.
        """
        with self._lock:
            if self._basic and self.login is not None:
                return _basic(self.login)
            if self._bearer is None:
                return ""
            return self._token(actions, more, asked)

    def answer(self, header: str, refused: str, actions: str, asked: Asked, more: str = "") -> str:
        """The header to try next, after a 401 with the WWW-Authenticate `header` for a request with `refused`.

        "" if there is nothing else to try. Raises as `header`.
        """
        wanted = challenge.choose(header)
        with self._lock:
            if wanted is None:
                return ""
            if wanted.scheme == challenge.BASIC:
                if self.login is None or not self.login.password or refused.startswith("Basic "):
                    return ""
                self._basic = True
                return _basic(self.login)
            if refused.startswith("Bearer "):
                for scope in [one for one, token in self._tokens.items() if token.header == refused]:
                    del self._tokens[scope]
            self._bearer = wanted
            return self._token(actions, more, asked)

    def _token(self, actions: str, more: str, asked: Asked) -> str:
        scopes = [f"repository:{self._repository}:{actions}"] if self._repository else []
        scopes += [more] if more else []
        known = self._tokens.get(" ".join(scopes))
        if known is None or known.ends < time.monotonic():
            known = self._tokens[" ".join(scopes)] = self._fetch(scopes, asked)
        return known.header

    def _fetch(self, scopes: list[str], asked: Asked) -> _Token:
        assert self._bearer is not None
        realm = self._bearer.parameters["realm"].partition("#")[0]
        service = self._bearer.parameters.get("service", "")
        base = self._base()
        doing = f"get a token for {asked.host}"
        check_realm(realm, base, doing)
        login = self._login_for(realm, base, doing, asked)
        near = urlsplit(realm).hostname == urlsplit(base).hostname
        sessions = self._sessions if near else self._strangers
        fields = [("service", service)] if service else []
        asked = Asked(doing, asked.host, "" if login is None else login.name)
        if login is not None and login.identity_token:
            fields += [("grant_type", "refresh_token"), ("client_id", "ctk")]
            fields += [("scope", " ".join(scopes)), ("refresh_token", login.identity_token)]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(fields).encode()
            answer = sessions.ask("POST", realm, doing, headers=headers, body=body, follow=False, purpose=trace.TOKEN)
        else:
            fields += [("scope", scope) for scope in scopes]
            if login is not None:
                fields.append(("account", login.name))
            url = realm + ("&" if urlsplit(realm).query else "?") + urlencode(fields) if fields else realm
            pair = None if login is None else (login.name, login.password)
            answer = sessions.ask("GET", url, doing, headers={}, login=pair, follow=False, purpose=trace.TOKEN)
        began = time.monotonic()
        with answer:
            body = b"".join(sessions.stream(answer, doing, Bounds(_LIMIT_BYTES)))
            return _read(answer, body, asked, began)

    def _login_for(self, realm: str, base: str, doing: str, asked: Asked) -> Login | None:
        """The login that may be sent to the realm. Raises Untrusted if ours may not."""
        if self.login is None:
            return None
        registry, host = urlsplit(base).hostname or "", urlsplit(realm).hostname or ""
        if origins.are_related(registry, host) or (addresses.is_loopback(registry) and addresses.is_loopback(host)):
            return self.login
        own = self._find(host)
        if own is not None:
            return own
        raise Untrusted(
            doing,
            because=f"it wants the login of {asked.who} at {host}, which is not a host of {asked.host}",
            hint=f"to give it a login: `ctk login {quote(host)}`; to ask without: `ctk logout {quote(asked.host)}`",
        )


def check_realm(realm: str, base: str, doing: str) -> None:
    """Raise Untrusted unless the realm is https, or http on the host of a registry that is itself used over http."""
    try:
        there, here = urlsplit(realm), urlsplit(base)
        origins.check_address(there, here, doing)
    except ValueError as error:
        raise Untrusted(doing, because=f"its realm {realm[:200]!r} is not a URL: {error}") from None
    if there.scheme == "https":
        return
    both = (there.hostname or "", here.hostname or "")
    if both[0] != both[1] and not all(addresses.is_loopback(host) for host in both):
        raise Untrusted(doing, because=f"its realm is not https: {realm[:200]!r}")


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.name}:{login.password}".encode()).decode()


def _read(response: Response, body: bytes, asked: Asked, began: float) -> _Token:
    status, headers = response.status_code, response.headers
    if status in (400, 401, 403) and asked.name:
        says = f"{urlsplit(response.url).hostname} says {status}"
        said = answers.messages(body)
        because = f"the login of {asked.who} was refused: {says}" + (f" ({said})" if said else "")
        raise Unreachable(asked.doing, because=because, hint=f"`ctk login {quote(asked.host)}` replaces the login")
    if status in answers.PASSING and status != 429:
        raise Broken(f"the token server {urlsplit(response.url).hostname} says {status} {response.reason}")
    if status != 200:
        raise answers.failure(asked, status, response.reason or "", body, headers)
    try:
        whole = json.loads(body)
        token = whole.get("token") or whole.get("access_token")
        seconds = whole.get("expires_in", _LEAST_S)
    except (ValueError, RecursionError, AttributeError):
        raise Unreachable(asked.doing, because="its answer is not a JSON object") from None
    if not isinstance(token, str) or not 0 < len(token) <= _LONGEST_TOKEN:
        raise Unreachable(asked.doing, because="its answer has no token in it")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Unreachable(asked.doing, because="its token has characters that a header cannot have")
    lasts = seconds if isinstance(seconds, int | float) and _LEAST_S <= seconds < 1 << 31 else _LEAST_S
    return _Token(f"Bearer {token}", began + lasts - _MARGIN_S)
