"""SOURCE_DATE_EPOCH: no time in what is made is later, so that the same files make the same bytes at any time.

Source: https://reproducible-builds.org/specs/source-date-epoch/.
"""

import datetime
import os

from toolkit.archive.entries import SECOND_NS, Entry
from toolkit.errors import Usage
from toolkit.text import number

VARIABLE = "SOURCE_DATE_EPOCH"


def epoch_s() -> int | None:
    """SOURCE_DATE_EPOCH in seconds since 1970; None if it is not set. Raises Usage."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return None
    if number(text) < 0 or len(text) > 11:
        raise Usage(f"read {VARIABLE}", because=f"{text!r} is not a number of seconds since 1970")
    return number(text)


def time_text(seconds: int | None) -> str:
    """A time, in seconds since 1970, as RFC 3339 has it; None is now."""
    now = datetime.datetime.now(datetime.UTC)
    when = now if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def clamped(entry: Entry, latest_s: int | None) -> Entry:
    """The entry, its time no later than `latest_s`; None leaves it."""
    if latest_s is not None and entry.mtime_s > latest_s:
        entry.mtime_ns = latest_s * SECOND_NS
    return entry
