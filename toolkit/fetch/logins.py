"""Names and passwords in the addresses of mirrors (http://NAME:PASSWORD@HOST/…), kept apart from the addresses.

A mirror's address ends up in a list of sources, a lock, a log, an error or an event, which are read by more people than
may log in there. So the address is passed on without the login, and only the client keeps the login.
"""

import re
import threading
from urllib.parse import unquote, urlsplit

# RFC 3986, 3.2: the authority ends at the first slash, question mark or hash; the part before its last @ is the user.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@(.*)", re.DOTALL)

Login = tuple[str, str]


def bare(url: str) -> str:
    """The address without a name and a password."""
    match = _ADDRESS.fullmatch(url)
    return match[1] + match[3] if match else url


class Logins:
    """Our logins at servers. Usable from any thread."""

    def __init__(self) -> None:
        self._known: dict[str, Login] = {}
        self._lock = threading.Lock()

    def take(self, url: str) -> str:
        """The bare address. A name and password in it are kept for all URLs below it, and else for its server."""
        match = _ADDRESS.fullmatch(url)
        if match is None:
            return url
        name, _, password = match[2].partition(":")
        base = (match[1] + match[3]).rstrip("/")
        with self._lock:
            self._known[base] = (unquote(name), unquote(password))
        return match[1] + match[3]

    def of(self, url: str) -> Login | None:
        """The login of the longest address that `url` is below, or one of the same server; None if there is none."""
        with self._lock:
            known = dict(self._known)
        fitting = [base for base in known if url == base or url.startswith(base + "/")]
        if not fitting:
            # …/debian-security next to …/debian: the same server that the login was given for.
            server = urlsplit(url)[:2]
            fitting = [base for base in known if urlsplit(base)[:2] == server]
        return known[max(fitting, key=len)] if fitting else None
