"""Fetch files by http, https, file: and plain paths, with limits and retries, over persistent connections.

Nothing here trusts what arrives: a caller that knows the size states it, every caller states a limit, and the consumer
of the chunks computes the hash. Redirects may lead to http and https only; a transfer that stalls for `stall_s` seconds
is aborted and tried again. The connections are those of `session.py`.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from toolkit.errors import CtkError, Interrupted, NotFound, Unreachable, Untrusted, Usage, reason
from toolkit.fetch.logins import Logins
from toolkit.fetch.response import Response
from toolkit.fetch.session import Bounds, Sessions, check_stated, too_long, too_short
from toolkit.fetch.transfer import Broken as _Broken
from toolkit.fetch.transfer import Mirrors, Pace, Transfer
from toolkit.kernel import reading

T = TypeVar("T")

_CHUNK_BYTES = 64 * 1024
# Statuses that may be temporary (RFC 9110 15.6; 429 from RFC 6585); everything else in 4xx is permanent.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_WANT_LOGIN = {
    401: "the mirror requires a login: http://NAME:PASSWORD@HOST/…",
    407: "the proxy requires a login: set http_proxy=http://user:password@…",
}
_ANOTHER = "is the mirror's address complete? Most end in /debian or /ubuntu; --mirror names another"
_COMPRESSED = (".gz", ".tgz", ".xz", ".bz2", ".lzma", ".zst", ".deb")
_MID_UPDATE = "the mirror may be in the middle of an update: try again in some minutes, or use another --mirror"


class _NotThere(Exception):
    """The server has no such file, or says that we may not have it; `error` is the error to raise."""

    def __init__(self, error: CtkError) -> None:
        super().__init__(str(error))
        self.error = error


class Client:
    """Fetches files, for any number of threads. `retries` counts the tries after the first.

    `certificate` and `private_key` are PEM files for https servers that ask for a client certificate; raises Usage if
    they can't be used.
    """

    def __init__(
        self,
        *,
        connect_s: float = 10.0,
        stall_s: float = 8.0,
        retries: int = 3,
        back_off_s: float = 0.4,
        certificate: str = "",
        private_key: str = "",
    ) -> None:
        self._sessions = Sessions(
            connect_s=connect_s, stall_s=stall_s, certificate=certificate, private_key=private_key
        )
        self.cancelled = self._sessions.cancelled
        self.mirrors = Mirrors()
        self.logins = Logins()
        self._quoting: set[tuple[str, str]] = set()  # servers (scheme, host) that need `+` written as %2B
        self.bytes_per_s = 0.0  # of the last whole file from the network, from its first byte to its last
        self._retries = retries
        self._back_off_s = back_off_s

    def read(self, url: str, *, limit: int, exact: int | None = None, fresh: bool = False) -> bytes:
        """A small file's contents. Raises NotFound for 404 and 410, Unreachable, Untrusted beyond `limit` bytes."""
        return self.receive(url, b"".join, limit=limit, exact=exact, fresh=fresh)

    def receive(
        self,
        url: str,
        consume: Callable[[Iterator[bytes]], T],
        *,
        limit: int,
        exact: int | None = None,
        fresh: bool = False,
    ) -> T:
        """The result of `consume` for the chunks of `url`; each try calls it again, from the beginning.

        `fresh` is for files that change under one name: caches on the way must revalidate their copy.

        With `exact` (the size that a signed index states) any other size is an error and no byte beyond it is read;
        an aborted transfer is resumed, and the other mirrors with the same files (`mirrors`) are tried too.
        Raises what `read` raises, and whatever `consume` raises.
        """
        if exact is not None:
            return self._receive_exact(url, consume, limit, exact, fresh)
        path = local_path(url)
        if path is not None:
            return consume(self._read_local(path, url, limit, exact))
        because = ""
        for attempt in range(self._retries + 1):
            if attempt and self.cancelled.wait(self._back_off_s * 2 ** (attempt - 1)):
                break
            if self.cancelled.is_set():
                break
            try:
                return consume(self._read_http(url, limit, exact, fresh=fresh))
            except _Broken as error:
                because = f"{error} (tried {attempt + 1} times)"
                if attempt >= error.tries_again(self._retries):
                    break
        if self.cancelled.is_set():
            raise Interrupted(f"fetch {url}", because="interrupted")
        raise Unreachable(
            f"fetch {url}",
            because=because,
            hint="check the network and proxy settings, or name another mirror with --mirror",
        )

    def _receive_exact(
        self, url: str, consume: Callable[[Iterator[bytes]], T], limit: int, exact: int, fresh: bool
    ) -> T:
        urls = self.mirrors.urls(url)
        first: CtkError | None = None

        def read(at: str, start: int, least: int) -> Iterator[bytes]:
            path = local_path(at)
            if path is None:
                return self._read_http(at, limit, exact, start, least, fresh=fresh)
            return self._read_local(path, at, limit, exact, start)

        while urls:
            transfer = Transfer(urls, read, self.mirrors, self.cancelled, self._retries, self._back_off_s)
            try:
                return consume(iter(transfer))
            except (NotFound, Untrusted) as error:
                # Another mirror may have what this one lacks or has wrong: start again without the first one.
                first = first or error
                self.mirrors.blame(transfer.at)
                urls = [one for one in urls if one != transfer.at]
            except Unreachable as error:
                raise first or error from None
        assert first is not None
        raise first

    def cancel(self) -> None:
        """Make all threads stop at their next chunk."""
        self.cancelled.set()

    def close(self) -> None:
        self._sessions.close()

    def _read_http(
        self, url: str, limit: int, exact: int | None, start: int = 0, least_bytes_per_s: int = 0, *, fresh: bool
    ) -> Iterator[bytes]:
        """The chunks, from `start` on. A `+` is sent as it is and, if nothing is found, as %2B.

        Object stores (S3) take `+` for a blank; servers of plain files may not decode %2B: quirk 26.
        """
        server, quoted = urlsplit(url)[:2], url.replace("+", "%2B")
        first = quoted if server in self._quoting else url
        try:
            yield from self._read_url(first, limit, exact, start, least_bytes_per_s, fresh)
            return
        except _NotThere as error:
            failure = error.error
        if quoted != first:
            try:
                yield from self._read_url(quoted, limit, exact, start, least_bytes_per_s, fresh)
                self._quoting.add(server)
                return
            except _NotThere:
                pass
        raise failure

    def _read_url(
        self, url: str, limit: int, exact: int | None, start: int, least_bytes_per_s: int, fresh: bool
    ) -> Iterator[bytes]:
        doing = f"fetch {url}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        if fresh:
            headers["Cache-Control"] = "max-age=0"  # as apt asks for indexes
        with self._sessions.ask("GET", url, doing, headers=headers, login=self.logins.of(url)) as response:
            resumed = _check_answer(url, doing, response, start)
            bounds = Bounds(limit, exact, start, resumed, too_short_hint=_MID_UPDATE)
            done = 0 if resumed else start
            began = time.monotonic()
            for chunk in self._sessions.stream(response, doing, bounds, Pace(least_bytes_per_s)):
                done += len(chunk)
                yield chunk
            self.bytes_per_s = done / max(time.monotonic() - began, 1e-6)

    def _read_local(self, path: str, url: str, limit: int, exact: int | None, start: int = 0) -> Iterator[bytes]:
        doing = f"read {url}"
        bounds = Bounds(limit, exact, too_short_hint=_MID_UPDATE)
        bound = limit if exact is None else exact
        done = start
        try:
            with open(reading.open_file(path, limit_bytes=1 << 62), "rb", buffering=0) as file:
                check_stated(doing, os.fstat(file.fileno()).st_size, bounds)
                file.seek(start)
                while chunk := file.read(min(_CHUNK_BYTES, bound + 1 - done)):
                    if self.cancelled.is_set():
                        raise Interrupted(doing, because="interrupted")
                    done += len(chunk)
                    if done > bound:
                        raise too_long(doing, bounds)
                    yield chunk
        except FileNotFoundError:
            raise NotFound(doing, because="no such file") from None
        except OSError as error:
            raise Unreachable(doing, because=reason(error)) from None
        if exact is not None and done != exact:
            raise too_short(doing, done, bounds)


def local_path(url: str) -> str | None:
    """The path of a file: or copy: URI or a plain path; None for http and https.

    Raises Usage for any other scheme.
    """
    if url.startswith(("/", "./", "../")):
        return url
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme in ("http", "https"):
        return None
    if scheme in ("file", "copy") and parts.netloc in ("", "localhost"):
        return unquote(parts.path)
    raise Usage(
        f"use mirror {url!r}",
        because=f"scheme {scheme!r} is not one of http, https, file" if scheme else "it has no scheme",
        hint="give a mirror as http://HOST/PATH, or as a path that begins with /",
    )


def _check_answer(url: str, doing: str, response: Response, start: int) -> bool:
    """Whether the response resumes at `start`, as requested. Raises for a response that does not hold the file."""
    status = response.status_code
    says = f"the server says {status} {response.reason}"
    if status in (404, 410):
        raise _NotThere(NotFound(doing, because=says))
    if status == 403:  # S3 also answers this for a missing file, to clients that may not list files
        raise _NotThere(Unreachable(doing, because=says))
    if status in _PASSING:
        raise _Broken(says)
    if status not in (200, 206) or (status == 206 and not start):
        raise Unreachable(doing, because=says, hint=_WANT_LOGIN.get(status, _ANOTHER))
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    # Apache's AddEncoding sets this header for files that are compressed themselves. For any other file, what arrives
    # would not have the size and the hash that we know.
    if encoding != "identity" and not urlsplit(url).path.endswith(_COMPRESSED):
        because = f"the server sends it compressed ({encoding[:40]!r}), though we asked for it uncompressed"
        raise Unreachable(doing, because=because, hint="name another mirror with --mirror")
    resumed = status == 206
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise _Broken("the server sent a different part of the file than was asked for")
    return resumed
