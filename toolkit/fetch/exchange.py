"""One HTTP request and the head of its response, for those who want to see them. No secret is in it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from toolkit.fetch.response import Response
    from toolkit.fetch.tls import Tls

_SECRET_FIELDS = frozenset({"refresh_token", "password"})


class Exchange(NamedTuple):
    """What was sent, and what came. `doing` is what it was for, in the words of messages.

    `purpose` is the caller's word for the request, "" for an ordinary one. `authorization` is the scheme of the login
    that was sent, "" for none. `fields` are those of a form. `status` is 0 if no response came; then `error` says why.
    """

    doing: str
    purpose: str
    method: str
    url: str
    headers: dict[str, str]
    authorization: str
    fields: tuple[tuple[str, str], ...]
    tls: "Tls | None"
    status: int = 0
    reason: str = ""
    answer: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    error: str = ""

    def answered(self, response: "Response") -> "Exchange":
        """With the head of the response."""
        return self._replace(
            status=response.status_code, reason=response.reason or "", answer=dict(response.headers.items())
        )


def sent(
    doing: str,
    purpose: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: object,
    *,
    basic: bool,
    tls: "Tls | None",
) -> Exchange:
    """A request without its secrets, before its response. `basic`: a login is sent beside the headers."""
    scheme = "Basic" if basic else headers.get("Authorization", "").partition(" ")[0]
    shown = {name: value for name, value in headers.items() if name.lower() != "authorization"}
    fields: list[tuple[str, str]] = []
    if isinstance(body, bytes) and shown.get("Content-Type") == "application/x-www-form-urlencoded":
        fields = [(name, value) for name, value in parse_qsl(body.decode()) if name not in _SECRET_FIELDS]
    return Exchange(doing, purpose, method, url, shown, scheme, tuple(fields), tls)
