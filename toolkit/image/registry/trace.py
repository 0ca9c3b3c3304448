"""What is asked of a registry, as events for `--explain`.

A redirect's address is shown without its query: that is what signs it, and it lets anybody read the blob for a while.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

from toolkit.events import Emit, Traced
from toolkit.fetch.exchange import Exchange
from toolkit.image.registry.login import Login

TOKEN = "token"
_SHOWN = frozenset(
    {
        "content-length",
        "content-range",
        "content-type",
        "docker-content-digest",
        "link",
        "location",
        "ratelimit-limit",
        "ratelimit-remaining",
        "retry-after",
        "www-authenticate",
    }
)


def of_requests(trace: Emit) -> Callable[[Exchange], None]:
    """What `Sessions` tells its requests to."""

    def told(one: Exchange) -> None:
        ours = one.purpose == TOKEN or urlsplit(one.url).path.startswith("/v2/")
        answer = {name: value for name, value in one.answer.items() if name.lower() in _SHOWN}
        for name in answer:
            if name.lower() == "location":
                answer[name] = _unsigned(answer[name])
        facts = one._asdict() | {
            "url": one.url if ours else _unsigned(one.url),
            "fields": [list(pair) for pair in one.fields],
            "tls": None if one.tls is None else one.tls._asdict(),
            "answer": answer,
        }
        trace(Traced("request", facts))

    return told


def login(trace: Emit, found: Login, host: str) -> None:
    """Where the login for a host was found."""
    facts = {"host": host, "name": found.name, "where": found.where, "entry": found.entry}
    trace(Traced("login", facts | {"identity": bool(found.identity_token)}))


def _unsigned(url: str) -> str:
    before, mark, _ = url.partition("?")
    return before + ("?…" if mark else "")
