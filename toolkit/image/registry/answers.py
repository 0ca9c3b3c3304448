"""Errors that a registry answers with, in words that say what to do next.

The codes are those of distribution-spec 1.1, "Error Codes". Bodies and headers are not trusted: they are cut to a
limit, and control characters in them are escaped.
"""

import email.utils
import json
import time
from collections.abc import Mapping
from typing import NamedTuple

from toolkit.errors import CtkError, NotFound, Unreachable, Usage
from toolkit.text import number, one_line, quote

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be temporary (RFC 9110 15.6; 429: RFC 6585)."""

LIMIT_BYTES = 64 << 10
_LONGEST = 300
_MOST_ERRORS = 3


class Asked(NamedTuple):
    """A request: what it was for, the registry's host as the user knows it, and our name there ("": anonymous)."""

    doing: str
    host: str
    name: str = ""

    @property
    def who(self) -> str:
        """Our name for messages."""
        return repr(self.name) if self.name else "anonymous"


def failure(asked: Asked, status: int, text: str, body: bytes, headers: Mapping[str, str]) -> CtkError:
    """The error for a response. `text` is the reason phrase; `body` at most LIMIT_BYTES of what came with it."""
    said = messages(body)
    says = f"{asked.host} says {status} {one_line(text)[:80]}".rstrip() + (f" ({said})" if said else "")
    if status == 404:
        return NotFound(asked.doing, because=says, hint=_not_there(asked))
    if status == 401:
        return Unreachable(asked.doing, because=f"{says}; we asked as {asked.who}", hint=_unauthorized(asked))
    if status == 403:
        return Unreachable(asked.doing, because=f"{says}; we asked as {asked.who}", hint=_denied(asked))
    if status == 429:
        return Unreachable(asked.doing, because=f"{says}; we asked as {_limited(asked, headers)}", hint=_slower(asked))
    if status == 400 and b"HTTP request to an HTTPS server" in body:
        return Usage(asked.doing, because=f"{asked.host} speaks https", hint="leave --plain-http out")
    if status in (405, 501):
        return Unreachable(asked.doing, because=f"{says}: it does not offer this")
    return Unreachable(asked.doing, because=says)


def messages(body: bytes) -> str:
    """The codes and messages in the body of an error, in one line; "" if there are none."""
    try:
        errors = json.loads(body)["errors"]
        found = [error for error in errors[:_MOST_ERRORS] if isinstance(error, dict)]
    except (ValueError, RecursionError, TypeError, KeyError):
        return ""
    lines = []
    for error in found:
        code, message = error.get("code"), error.get("message")
        words = [word for word in (code, message) if isinstance(word, str) and word]
        lines.append(": ".join(words))
    return one_line("; ".join(line for line in lines if line))[:_LONGEST]


def wait_s(headers: Mapping[str, str]) -> float | None:
    """The seconds of Retry-After (RFC 9110 10.2.3: a number or a date); None if there is none, or an invalid one."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if (seconds := number(text)) >= 0:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def remaining(headers: Mapping[str, str]) -> int | None:
    """The number of pulls left, from Docker Hub's header `ratelimit-remaining: 76;w=21600`; None without one."""
    found = number(headers.get("ratelimit-remaining", "").partition(";")[0].strip())
    return found if found >= 0 else None


def limits(headers: Mapping[str, str]) -> str:
    """The limit on pulls in words, "" if the registry states none."""
    count, _, window = headers.get("ratelimit-limit", "").partition(";w=")
    most, seconds, left = number(count.strip()), number(window.strip()), remaining(headers)
    if most < 0 or left is None:
        return ""
    return f"{left} of {most} pulls left" + (f" in {seconds // 3600} h" if seconds >= 3600 else "")


def _limited(asked: Asked, headers: Mapping[str, str]) -> str:
    words = [asked.who, limits(headers)]
    seconds = wait_s(headers)
    if seconds is not None:
        words.append(f"it asks us to wait {seconds:.0f} s")
    return ", ".join(word for word in words if word)


def _slower(asked: Asked) -> str:
    if not asked.name:
        return f"`ctk login {quote(asked.host)}` raises the limit; or name a mirror in registries.conf"
    return "wait, or name a mirror in registries.conf"


def _not_there(asked: Asked) -> str:
    if asked.name:
        return f"check the name; {asked.who} sees only what it may read"
    return f"check the name; a private repository needs `ctk login {quote(asked.host)}`"


def _unauthorized(asked: Asked) -> str:
    if asked.name:
        return f"`ctk login {quote(asked.host)}` replaces the login"
    return f"check the name: it may not exist; a private repository needs `ctk login {quote(asked.host)}`"


def _denied(asked: Asked) -> str:
    if asked.name:
        return f"{asked.who} may not do this; `ctk login {quote(asked.host)}` logs in as somebody else"
    return f"`ctk login {quote(asked.host)}`"
