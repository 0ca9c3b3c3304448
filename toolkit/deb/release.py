"""Release files: the description of a suite and the hashes of its indexes (Debian wiki RepositoryFormat).

A `Release` is made from text that has been verified already; this module checks its form, its suite and its dates,
never its signature.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from toolkit.deb.control import parse
from toolkit.errors import Malformed, Untrusted
from toolkit.text import number

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# A clock that is a little behind the mirror's is common (a machine that just booted); apt allows ten seconds by
# Acquire::Max-FutureTime. An hour also covers a clock one zone off UTC, but no more.
_CLOCK_SLACK = timedelta(hours=1)


class Entry(NamedTuple):
    """One file listed in the Release: path relative to dists/SUITE, size and SHA-256 (hex)."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Release:
    """The fields of a Release file that a bootstrap needs. Absent fields are empty."""

    origin: str
    label: str
    suite: str
    codename: str
    version: str
    date: str
    valid_until: str
    architectures: tuple[str, ...]
    components: tuple[str, ...]
    by_hash: bool
    packages_without_all: bool  # "No-Support-for-Architecture-all: Packages": binary-ARCH lists arch:all packages too
    entries: dict[str, Entry] = field(repr=False)
    not_automatic: bool = False  # "NotAutomatic: yes": installed from only on request (experimental, backports)
    automatic_upgrades: bool = False  # "ButAutomaticUpgrades: yes": but packages from here are upgraded


def parse_release(text: bytes, *, what: str = "Release file") -> Release:
    """Read verified text. Only SHA256 counts: MD5Sum and SHA1 lists are ignored, a file without SHA256 is refused."""
    fields = parse(text, what=what)
    if "SHA256" not in fields:
        raise Untrusted(
            f"read {what}",
            because="it lists no SHA-256 hashes",
            hint="archives from before 2007 can't be checked; --no-check-gpg does not help, use a newer suite",
        )
    entries: dict[str, Entry] = {}
    for line in fields["SHA256"].split("\n"):
        words = line.split()
        if not words:
            continue
        if len(words) != 3 or len(words[0]) != 64 or number(words[1]) < 0:
            raise Malformed(f"read {what}", because=f"SHA256 line {line.strip()!r}")
        digest, size, path = words
        if path.startswith("/") or ".." in path.split("/"):
            raise Malformed(f"read {what}", because=f"path {path!r} leaves the suite's folder")
        entries[path] = Entry(path, number(size), digest.lower())
    return Release(
        origin=fields.get("Origin", ""),
        label=fields.get("Label", ""),
        suite=fields.get("Suite", ""),
        codename=fields.get("Codename", ""),
        version=fields.get("Version", ""),
        date=fields.get("Date", ""),
        valid_until=fields.get("Valid-Until", ""),
        architectures=tuple(fields.get("Architectures", "").split()),
        # A pocket such as bookworm/updates once wrote "updates/main": the index paths have the last part only.
        components=tuple(part.rpartition("/")[2] for part in fields.get("Components", "").split()),
        by_hash=fields.get("Acquire-By-Hash", "").lower() == "yes",
        packages_without_all="Packages" in fields.get("No-Support-for-Architecture-all", "").split(),
        entries=entries,
        not_automatic=fields.get("NotAutomatic", "").lower() == "yes",
        automatic_upgrades=fields.get("ButAutomaticUpgrades", "").lower() == "yes",
    )


def parse_date(text: str, *, what: str = "Release file") -> datetime:
    """Parse an RFC 2822 date of a Release file: 'Sat, 11 Jul 2026 10:16:37 UTC', or with an offset such as +0200."""
    words = text.replace(",", " ").split()
    try:
        day, month, year, clock = int(words[1]), _MONTHS.index(words[2]) + 1, int(words[3]), words[4]
        hour, minute, second = (int(part) for part in clock.split(":"))
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)  # noqa: UP017
        return moment - _offset(words[5])
    except (ValueError, IndexError, OverflowError):
        raise Malformed(f"read {what}", because=f"date {text!r} is not an RFC 2822 date") from None


def _offset(zone: str) -> timedelta:
    """How far a zone is ahead of UTC. Raises ValueError for a zone given only by name."""
    if zone in ("UTC", "GMT", "Z"):
        return timedelta()
    if len(zone) != 5 or zone[0] not in "+-" or not (zone[1:].isascii() and zone[1:].isdigit()):
        raise ValueError(zone)
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    return ahead if zone[0] == "+" else -ahead


def check_dates(release: Release, now: datetime, *, what: str) -> None:
    """Refuse a Release that has expired (a frozen or replayed mirror) or that is dated in the future.

    Raises Untrusted. Suites without Valid-Until (Debian's stable suites, all of Ubuntu's) never expire.
    """
    if release.date:
        date = parse_date(release.date, what=what)
        if date > now + _CLOCK_SLACK:
            raise Untrusted(
                f"check {what}",
                because=f"it is dated {release.date}, but this machine's clock says {now:%a, %d %b %Y %H:%M:%S} UTC",
                hint="set the clock (`date -u`), or pass --no-check-date if you know why",
            )
    if release.valid_until:
        until = parse_date(release.valid_until, what=what)
        if until < now:
            raise Untrusted(
                f"check {what}",
                because=f"it expired on {release.valid_until}, {(now - until).days} days ago by this machine's clock",
                hint=f"the clock says {now:%a, %d %b %Y %H:%M:%S} UTC; if that is right, the mirror is stale or "
                "somebody replays an old state: use another --mirror; for a snapshot that is old on purpose pass "
                "--no-check-date",
            )


def check_suite(release: Release, asked: str, *, what: str) -> None:
    """Refuse a genuine Release of another suite than the one asked for (a downgrade)."""
    # Security suites were 'bookworm/updates' in dists/ with Codename 'bookworm-security' since bullseye, and
    # old-style 'stretch/updates' with Suite 'oldstable' and Codename 'stretch' before.
    names = {release.suite, release.codename}
    if asked in names or asked.partition("/")[0] in names:
        return
    sent = f"the mirror sent {release.suite!r} (code name {release.codename!r})" if any(names) else "it names none"
    raise Untrusted(
        f"check {what}",
        because=f"asked for suite {asked!r}, {sent}",
        hint="the mirror serves another suite under this name: use another --mirror",
    )
