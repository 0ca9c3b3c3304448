"""Lists that a registry gives in pages (distribution-spec 1.1, "Listing Tags" and "Listing Referrers"; RFC 8288).

A list may be endless: the number of pages has a limit, and a page that comes twice is an error.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from toolkit.errors import CtkError, Unreachable, Untrusted
from toolkit.fetch.transfer import Broken
from toolkit.image.document import fields
from toolkit.image.registry import origins
from toolkit.image.registry.connection import Connection

_LINK = re.compile(r"<([^<>]{1,4096})>([^<]{0,4096})")
_NEXT = re.compile(r';[ \t]*rel[ \t]*=[ \t]*(?:"next"|next)[ \t]*(?:[;,]|$)', re.IGNORECASE)


class Page(NamedTuple):
    """One response of a list."""

    status: int
    data: bytes
    headers: Mapping[str, str]
    failure: CtkError | None  # what to raise for a status other than 200


def pages(connection: Connection, path: str, doing: str, headers: dict[str, str], most: int) -> Iterator[Page]:
    """The pages of a list. Only the first can have another status than 200; then it is the only one.

    Raises Untrusted for more than `most` pages, a page that comes twice and a page on another host; CtkError.
    """
    seen: set[str] = set()
    for number in range(most):
        response = connection.request("GET", path, doing, headers=headers)
        if response.status_code != 200:
            failure = connection.failure(response, doing)
            if number:
                raise failure
            yield Page(response.status_code, b"", response.headers, failure)
            return
        try:
            data = connection.read(response, doing, fields.LIMIT_BYTES)
        except Broken as error:
            raise Unreachable(doing, because=f"{connection.place.host}: {error}") from None
        yield Page(200, data, response.headers, None)
        following = _next(response.headers.get("Link", ""))
        if not following:
            return
        seen.add(response.url)
        path = origins.target(response.url, following, doing)
        if not origins.same(path, connection.base):
            raise Untrusted(doing, because=f"{connection.place.host} continues its list on another server")
        if path in seen:
            raise Untrusted(doing, because=f"the list of {connection.place.host} goes round in circles")
    raise Untrusted(doing, because=f"the list of {connection.place.host} has more than {most} pages")


def _next(header: str) -> str:
    """The target of the link to the next page; "" if there is none."""
    for match in _LINK.finditer(header):
        if _NEXT.search(match[2]):
            return match[1]
    return ""
