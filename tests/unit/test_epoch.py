"""SOURCE_DATE_EPOCH."""

import pytest

from toolkit.archive.entries import FILE, Entry
from toolkit.archive.epoch import clamped, epoch_s, time_text
from toolkit.bootstrap.facts.model import Request
from toolkit.bootstrap.plan import plan_build
from toolkit.errors import Usage
from toolkit.events import silent


@pytest.mark.parametrize(("text", "seconds"), [("", None), ("0", 0), ("1700000000", 1_700_000_000)])
def test_what_it_says(text: str, seconds: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert epoch_s() == seconds


@pytest.mark.parametrize("text", ["-1", "now", "1.5", "\u00b2", " 1", "9" * 12])
def test_what_is_no_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build says so before it begins: until now it ended in a traceback, or was not reproducible."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    for call in (epoch_s, lambda: plan_build.understood(Request(suite="bookworm", target="x"), silent)):
        with pytest.raises(Usage, match="is not a number of seconds since 1970"):
            call()


def test_times() -> None:
    assert time_text(1_700_000_000) == "2023-11-14T22:13:20Z"
    assert time_text(None) > "2026"
    entry = Entry(b"x", FILE, 0)
    entry.mtime_ns = 5_000_000_001
    assert clamped(entry, None).mtime_ns == clamped(entry, 5).mtime_ns == 5_000_000_001
    assert clamped(entry, 4).mtime_ns == 4_000_000_000
