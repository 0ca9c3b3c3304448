"""The files that a build writes on request: its lock, its bills of materials."""

from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.output import sbom
from toolkit.bootstrap.resolve import lockfile


def check(request: Request) -> None:
    """Check, before anything is made, that they can be written at the end. Raises Usage, HostLacks."""
    for written in request.sboms:
        sbom.parse(written)


def write(request: Request, lock: Lock, rootfd: int = -1) -> None:
    """Write the requested files. `rootfd` is the finished tree, -1 if there is none. Raises CtkError."""
    if request.lock:
        lockfile.write(lock, request.lock)
    for written in request.sboms:
        kind, path = sbom.parse(written)
        sbom.write(lock, kind, path, rootfd)
