"""Where a registry may send us: redirects, the realm of a token, the place of an upload. Pure.

A login belongs to one origin (scheme, host and port; RFC 6454) and is never sent to another one (CVE-2018-18074,
CVE-2023-32681). No server may send us from https to http, or to a cloud's metadata service.
"""

from urllib.parse import SplitResult, urljoin, urlsplit

from toolkit.errors import Untrusted
from toolkit.fetch import addresses

_PORTS = {"https": 443, "http": 80}
# Second-level names below which, in many countries, strangers register theirs (co.uk, com.au).
_PUBLIC = frozenset(
    {"ac", "co", "com", "edu", "go", "gob", "gov", "gouv", "ltd", "mil", "ne", "net", "nom", "or", "org"}
)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL. Raises ValueError for an invalid port."""
    parts = urlsplit(url)
    return parts.scheme.lower(), (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme.lower(), 0)


def target(url: str, location: str, doing: str) -> str:
    """The URL that `location` means in a response to `url`. Raises Untrusted for one that is not allowed."""
    try:
        found = urljoin(url, location)
        check_address(urlsplit(found), urlsplit(url), doing)
    except ValueError as error:
        raise Untrusted(doing, because=f"it leads to {location[:200]!r}, which is not a URL: {error}") from None
    return found


def check_address(there: SplitResult, here: SplitResult, doing: str) -> None:
    """Raise Untrusted if the server `here` must not send us `there`. Raises ValueError for an invalid port."""
    host = there.hostname or ""
    where = there.geturl()[:200]
    if there.scheme not in _PORTS or not host or there.port == 0:
        raise Untrusted(doing, because=f"it leads to {where!r}, which is not an http address")
    if there.username is not None or there.password is not None:
        raise Untrusted(doing, because=f"it leads to an address of {host!r} with a login in it")
    if here.scheme == "https" and there.scheme != "https":
        raise Untrusted(doing, because=f"it leads from https to http: {where!r}")
    if addresses.is_of_this_network(host):
        raise Untrusted(doing, because=f"it leads to {host!r}, an address that only this machine's network can reach")
    if addresses.is_loopback(host) and not addresses.is_loopback(here.hostname or ""):
        raise Untrusted(doing, because=f"it leads to {host!r}, which is this machine")


def same(one: str, other: str) -> bool:
    """Whether two URLs have the same origin."""
    return origin(one) == origin(other)


def are_related(registry: str, realm: str) -> bool:
    """Whether a registry's login may be sent to a realm at that host.

    Allowed are the same host; a parent domain of it (gitlab.com for registry.gitlab.com); and a sibling, which is a
    host with the same parent domain (auth.docker.io for registry-1.docker.io). A parent must be a domain that somebody
    can own: it has at least two labels, or three where the last two are like co.uk.
    """
    one, other = registry.lower().rstrip("."), realm.lower().rstrip(".")
    if one == other:
        return True
    if addresses.is_address(one) or addresses.is_address(other):
        return False
    parent = one.partition(".")[2]
    if one.endswith("." + other):
        return _is_owned(other)
    return _is_owned(parent) and other.partition(".")[2] == parent


def _is_owned(domain: str) -> bool:
    labels = domain.split(".")
    country = len(labels[-1]) == 2
    return len(labels) >= (3 if country and len(labels) > 1 and labels[-2] in _PUBLIC else 2)
