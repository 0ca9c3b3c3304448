"""A request that was sent, as a line of curl that sends it again. Pure.

What a registry said (a realm, a place) is quoted like anything else: it can't become a command of the line.
"""

from typing import Any

from toolkit.text import quote

_AUTHORITIES = "authorities.pem"
_QUERY = quote(".token // .access_token")


def get(facts: dict[str, Any], file: str) -> str:
    """A line that keeps the body in a file. A redirect is followed; a Range is not asked for: the file is not there."""
    follow = "L" if facts["status"] in (301, 302, 303, 307, 308) else ""
    return f"{_before(facts)}curl -fsS{follow} {_options(facts)}-o {quote(file)} {quote(facts['url'])}"


def head(facts: dict[str, Any]) -> str:
    """A line that shows the head of the response, whatever its status."""
    if facts["method"] == "HEAD":
        return f"{_before(facts)}curl -sSI {_options(facts)}{quote(facts['url'])}"
    return f"{_before(facts)}curl -sS -o /dev/null -D - {_options(facts)}{quote(facts['url'])}"


def token(facts: dict[str, Any]) -> str:
    """A line that sets $token."""
    fields = "".join(f"--data-urlencode {quote(f'{name}={value}')} " for name, value in facts["fields"])
    if fields:
        fields += '--data-urlencode "refresh_token=$identity" '
    return f"token=$({_before(facts)}curl -fsS {_options(facts)}{fields}{quote(facts['url'])} | jq -r {_QUERY})"


def _before(facts: dict[str, Any]) -> str:
    """curl takes one file of authorities (curl(1), --cacert): several become one first."""
    authorities = (facts["tls"] or {}).get("authorities", ())
    return f"cat {' '.join(map(quote, authorities))} > {_AUTHORITIES} && " if len(authorities) > 1 else ""


def _options(facts: dict[str, Any]) -> str:
    words = [f"-H {quote(f'{name}: {value}')}" for name, value in facts["headers"].items() if name not in _LEFT_OUT]
    if facts["authorization"] == "Bearer":
        words.append('-H "Authorization: Bearer $token"')
    elif facts["authorization"] == "Basic":
        words.append('--user "$login"')
    words += _tls(facts["tls"])
    return "".join(f"{word} " for word in words)


_LEFT_OUT = ("Range", "Content-Type")  # curl sends the type of a form by itself


def _tls(tls: dict[str, Any] | None) -> list[str]:
    if tls is None:
        return []
    authorities = tls["authorities"]
    words = [f"--cacert {quote(authorities[0]) if len(authorities) == 1 else _AUTHORITIES}"] if authorities else []
    if not tls["verify"]:
        words.append("--insecure")
    if tls["certificate"]:
        words += [f"--cert {quote(tls['certificate'])}", f"--key {quote(tls['private_key'])}"]
    return words
