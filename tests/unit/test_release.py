"""Release files: what is read from them, and the promises that are held against the request and the clock."""

from datetime import datetime, timedelta, timezone

import pytest

from toolkit.deb.release import check_dates, check_suite, parse_date, parse_release
from toolkit.errors import Malformed, Untrusted

HASH = "a" * 64
NOW = datetime(2026, 7, 12, 12, 0, 0, tzinfo=timezone.utc)  # noqa: UP017
TEXT = f"""Origin: Debian
Label: Debian
Suite: oldstable
Version: 12.15
Codename: bookworm
Date: Sat, 11 Jul 2026 10:16:37 UTC
Acquire-By-Hash: yes
No-Support-for-Architecture-all: Packages
Architectures: all amd64 arm64
Components: main contrib non-free-firmware non-free
MD5Sum:
 0ed6d4c8891eb86358b94bb35d9e4da4  1484322 contrib/Contents-all
SHA256:
 {HASH}  1484322 main/binary-amd64/Packages
 {"B" * 64}       12 main/binary-amd64/Packages.xz
"""


def release(**changes: str) -> bytes:
    text = TEXT
    for field, value in changes.items():
        name = field.replace("_", "-")
        lines = [line for line in text.splitlines() if not line.startswith(name + ":")]
        text = "\n".join([f"{name}: {value}", *lines]) + "\n"
    return text.encode()


def test_fields() -> None:
    found = parse_release(TEXT.encode())
    assert (found.origin, found.suite, found.codename) == ("Debian", "oldstable", "bookworm")
    assert found.components == ("main", "contrib", "non-free-firmware", "non-free")
    assert found.architectures == ("all", "amd64", "arm64")
    assert found.by_hash and found.packages_without_all
    entry = found.entries["main/binary-amd64/Packages.xz"]
    assert (entry.size_bytes, entry.sha256) == (12, "b" * 64)
    assert "contrib/Contents-all" not in found.entries  # MD5 alone vouches for nothing


def test_b3_a_release_with_md5_alone_is_refused() -> None:
    with pytest.raises(Untrusted, match="no SHA-256"):
        parse_release(TEXT.partition("SHA256:")[0].encode())


@pytest.mark.parametrize(
    "line", ["xyz 12 a", f"{HASH} twelve a", f"{HASH} 12", f"{HASH} 12 ../../x", f"{HASH} 12 /etc/x", f"{HASH} -1 a"]
)
def test_a_hash_line_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(Malformed):
        parse_release(f"Origin: x\nSHA256:\n {line}\n".encode())


def test_dates() -> None:
    assert parse_date("Sat, 11 Jul 2026 10:16:37 UTC") == datetime(
        2026,
        7,
        11,
        10,
        16,
        37,
        tzinfo=timezone.utc,  # noqa: UP017
    )
    for text in ("Sat, 11 Jul 2026 12:16:37 +0200", "Sat, 11 Jul 2026 04:46:37 -0530", "Sat, 11 Jul 2026 10:16:37 GMT"):
        assert parse_date(text) == parse_date("Sat, 11 Jul 2026 10:16:37 UTC")
    for text in ("Mon, 01 Jan 0001 00:00:00 +0100", "Sat, 11 Jul 2026 10:16:37 +02", "Sat, 11 Jul 2026 10:16:37 +02:0"):
        with pytest.raises(Malformed):
            parse_date(text)
    for text in ("", "yesterday", "Sat, 31 Feb 2026 10:16:37 UTC", "Sat, 11 Jul 2026 10:16:37 CEST", "11 Jul 2026"):
        with pytest.raises(Malformed):
            parse_date(text)


def test_b3_expired_is_refused_and_says_since_when() -> None:
    found = parse_release(release(Valid_Until="Sun, 12 Jul 2026 11:00:00 UTC"))
    check_dates(found, NOW - timedelta(hours=2), what="it")
    with pytest.raises(Untrusted, match="expired on Sun, 12 Jul 2026") as caught:
        check_dates(found, NOW, what="it")
    assert "--no-check-date" in caught.value.hint
    assert f"the clock says {NOW:%a, %d %b %Y}" in caught.value.hint


def test_b3_from_the_future_is_refused_and_blames_the_clock() -> None:
    found = parse_release(TEXT.encode())
    check_dates(found, NOW, what="it")
    with pytest.raises(Untrusted, match="clock") as caught:
        check_dates(found, NOW - timedelta(days=400), what="it")
    assert "date -u" in caught.value.hint


def test_b3_another_suites_genuine_release_is_refused() -> None:
    found = parse_release(TEXT.encode())
    check_suite(found, "bookworm", what="it")
    check_suite(found, "oldstable", what="it")
    with pytest.raises(Untrusted, match="asked for suite 'trixie', the mirror sent 'oldstable'"):
        check_suite(found, "trixie", what="it")
    security = parse_release(release(Suite="oldoldstable", Codename="stretch"))
    check_suite(security, "stretch/updates", what="it")
