"""Tell which connection errors a retry won't cure: an unknown host name, a port where nothing listens, no network.

This follows curl(1), whose --retry treats none of them as transient by default. A name server that did not answer
(EAI_AGAIN) may answer the next time, but only if there is a network to reach it.
"""

import errno
import http.client
import socket

from toolkit.kernel.host import read

_NAMES = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_NUMBERS = frozenset({errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH})
_HERE_ONLY = ("fe80", "ff00")  # link-local and multicast: every interface that is up has these


class HeadTooLong(http.client.HTTPException):
    """The head of a response took too much time or too many bytes."""


class OfThisNetwork(http.client.HTTPException):
    """A server sent us to an address that only this machine's network can reach."""


def is_lasting(error: BaseException) -> bool:
    """Whether this error, or one that it wraps (from requests, urllib3), will persist for more than some seconds."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, socket.gaierror):
            return one.errno in _NAMES or (one.errno == socket.EAI_AGAIN and not has_network())
        if isinstance(one, OSError) and one.errno in _NUMBERS:
            return True
        if isinstance(one, HeadTooLong | OfThisNetwork):
            return True
        waiting += [getattr(one, "reason", None), one.__cause__, one.__context__, *one.args]
    return False


def has_network() -> bool:
    """Whether a route leads out of this machine (/proc/net/route and ipv6_route; proc(5)). True if neither says."""
    four, six = read("/proc/net/route"), read("/proc/net/ipv6_route")
    if not four and not six:
        return True
    return len(four.splitlines()) > 1 or any(
        not line.startswith(_HERE_ONLY) and line.split()[-1] != "lo" for line in six.splitlines()
    )
