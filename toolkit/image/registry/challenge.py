"""The WWW-Authenticate header: which kinds of login a registry accepts (RFC 9110 11.6.1; RFC 7235's grammar). Pure.

The header is not trusted. Parsing stops where it does not follow the grammar, and a challenge with a repeated parameter
is dropped, because two readers could understand it differently.
"""

import re
from typing import NamedTuple

BEARER, BASIC = "bearer", "basic"
LONGEST = 8192  # characters of all challenges together

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_GAP = re.compile(r"[ \t]*(?:,[ \t]*)*")
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|$)")
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~])*)")')
# Credentials in one word, as Negotiate has them. A parameter has a value after its first `=`, this has none.
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_QUOTED_PAIR = re.compile(r"\\(.)")


class Challenge(NamedTuple):
    """One kind of login. `scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse(header: str) -> list[Challenge]:
    """The challenges in the header, in their order; empty for one longer than LONGEST."""
    found: list[Challenge] = []
    doubled: set[int] = set()
    if len(header) > LONGEST:
        return found
    at = 0
    while True:
        at = _end(_GAP, header, at)
        if at >= len(header):
            break
        if match := _PARAMETER.match(header, at):
            if not found:
                break
            name, bare, quoted = match[1].lower(), match[2], match[3]
            if name in found[-1].parameters:
                doubled.add(len(found) - 1)
            found[-1].parameters[name] = bare if bare is not None else _QUOTED_PAIR.sub(r"\1", quoted)
            at = match.end()
        elif match := _SCHEME.match(header, at):
            found.append(Challenge(match[1].lower(), {}))
            at = match.end()
            after = _end(re.compile(r"[ \t]*"), header, at)
            if after > at and not _PARAMETER.match(header, after) and (word := _TOKEN68.match(header, after)):
                at = word.end()
        else:
            break
    return [one for number, one in enumerate(found) if number not in doubled]


def choose(header: str) -> Challenge | None:
    """The challenge that we answer: bearer, else basic; None if neither is offered."""
    offered = parse(header)
    for scheme in (BEARER, BASIC):
        for one in offered:
            if one.scheme == scheme and (scheme != BEARER or one.parameters.get("realm")):
                return one
    return None


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
