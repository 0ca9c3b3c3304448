"""The response to one HTTP request, whichever client it came by."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from toolkit.fetch.transfer import Broken
from toolkit.text import number

if TYPE_CHECKING:
    from typing import Self

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""The statuses whose Location is where to ask instead (RFC 9110 15.4)."""

MOST_REDIRECT_BYTES = 1 << 16
"""More of a redirect's body is not read: nobody needs it, but its end lets the connection be used again."""

_SHORT_BYTES = 64 * 1024


class Headers(Mapping[str, str]):
    """Header fields by name, whatever its case. One that came several times is joined by commas (RFC 9110 5.3).

    That is what a second WWW-Authenticate needs; Set-Cookie, which can't be joined, is nothing that we read.
    """

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields: dict[str, tuple[str, str]] = {}
        for name, value in fields:
            first, before = self._fields.get(name.lower(), (name, ""))
            self._fields[name.lower()] = (first, f"{before}, {value}" if before else value)

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._fields.values())

    def __len__(self) -> int:
        return len(self._fields)


class Response:
    """Status and headers, and a body that is still to be read; close it, as a file.

    `read(n)` gives the next bytes, at most n and perhaps fewer, and b"" at the end. It raises Broken.
    """

    def __init__(
        self,
        method: str,
        url: str,
        status_code: int,
        reason: str,
        headers: Mapping[str, str],
        read: Callable[[int], bytes],
        close: Callable[[], None],
    ) -> None:
        self.method = method
        self.url = url
        self.status_code = status_code
        self.reason = reason
        self.headers = headers
        self.read = read
        self.close = close

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def discard(response: Response) -> None:
    """Close a response whose body nobody needs; a short one is read, so that its connection can be used again."""
    length = number(response.headers.get("Content-Length", ""))
    try:
        if response.method == "HEAD" or response.status_code == 204 or 0 <= length <= _SHORT_BYTES:
            while response.read(_SHORT_BYTES):
                pass
    except Broken:
        pass  # then it can't
    response.close()
