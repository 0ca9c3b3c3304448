"""--snapshot: the archive as it was at a time. The snapshot services keep each state under its timestamp."""

import re

from toolkit.bootstrap.acquire.mirrors import Choice
from toolkit.bootstrap.facts.model import Request
from toolkit.bootstrap.facts.suites import Distribution, Suite
from toolkit.errors import NotFound, Usage

# The option in the tree's sources.list for a state that is old on purpose.
OPTIONS = "check-valid-until=no"

_TIMESTAMP = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):?(\d\d):?(\d\d)Z?)?\Z")


def timestamp(written: str) -> str:
    """A date or timestamp (UTC) as the services write it: 20261120T000000Z. Raises Usage."""
    match = _TIMESTAMP.match(written.strip())
    if match is None or not (1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31):
        raise Usage(
            f"read --snapshot {written!r}",
            because="it is neither a date nor a timestamp",
            hint="--snapshot 2026-11-20, or 2026-11-20T12:00:00Z",
        )
    year, month, day, *clock = match.groups()
    return f"{year}{month}{day}T{''.join(part or '00' for part in clock)}Z"


def mirror(request: Request, suite: Suite) -> Choice:
    """The mirror that has the suite as of `request.snapshot`.

    A given mirror is taken for such a service: {date} in it is replaced; without {date} the timestamp is appended as a
    folder.
    """
    date = timestamp(request.snapshot)
    if request.mirror:
        return Choice(_placed(request.mirror, date), f"given, as of {date}")
    if suite.distribution is None or not suite.distribution.snapshot:
        raise NotFound(
            f"find a snapshot of suite {suite.name!r}",
            because="the suite table names no snapshot service for it",
            hint="name one with --mirror URL; {date} in it stands for the timestamp",
        )
    return Choice(suite.distribution.snapshot.replace("{date}", date), f"the snapshot of {date}")


def security_mirror(request: Request, distribution: Distribution) -> str:
    """The same for Debian's security archive. It is beside a given mirror, as …/debian-security beside …/debian."""
    date = timestamp(request.snapshot)
    if not request.mirror:
        return distribution.security_snapshot.replace("{date}", date)
    base = request.mirror.rstrip("/")
    if "{date}" in base:
        return re.sub(r"/debian(?=/|\Z)", "/debian-security", base).replace("{date}", date)
    return f"{base}-security/{date}"


def _placed(mirror: str, date: str) -> str:
    base = mirror.rstrip("/")
    return base.replace("{date}", date) if "{date}" in base else f"{base}/{date}"
