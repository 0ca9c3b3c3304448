"""Where a registry leads: any text is a URL that we may go to, or an error that says why not."""

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolkit.errors import Untrusted
from toolkit.fetch import addresses
from toolkit.image.registry import origins

BASE = "https://registry.example/v2/one/blobs/x"
SERVERS = ("127.0.0.1", "::1", "169.254.169.254", "registry.example")
SIGNS = ("http", "https", ":", "//", "/", "[", "]", "@", "?", "#", "%", "\\", "..", "\x00", "\n", " ", "é", "１", "a")
PARTS = st.sampled_from((*SERVERS, *SIGNS, ":443", ":80", ":x"))


@given(st.one_of(st.text(max_size=40), st.lists(PARTS, max_size=8).map("".join)))
@example("//registry.example:65536/")
@example("https://registry.example:\uff11/")
@example("https://[::ffff:a9fe:a9fe]/")
@example("\\\\127.0.0.1\\x")
def test_where_a_text_leads(location: str) -> None:
    try:
        found = origins.target(BASE, location, "pull it")
    except Untrusted:
        return
    parts = urlsplit(found)
    assert parts.scheme == "https" and parts.hostname and parts.username is None
    assert not addresses.is_of_this_network(parts.hostname) and not addresses.is_loopback(parts.hostname)
    assert origins.same(found, BASE) == (origins.origin(found) == ("https", "registry.example", 443))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x", "https://A.example:443/y", True),
        ("https://a.example./x", "https://a.example/", True),
        ("http://a.example", "https://a.example", False),
        ("https://a.example", "https://a.example:444", False),
        ("http://a.example:443", "https://a.example", False),
        ("https://a.example", "https://b.a.example", False),
        ("http://localhost:5000", "http://127.0.0.1:5000", False),
    ],
)
def test_one_origin(one: str, other: str, same: bool) -> None:
    assert origins.same(one, other) == same


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("localhost", "loopback"),
        ("a.localhost.", "loopback"),
        ("127.255.0.1", "loopback"),
        ("[::1]", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("localhost.example", ""),
        ("127.0.0.1.example", ""),
        ("169.254.0.1", "network"),
        ("fe80::1%eth0", "network"),
        ("[::ffff:169.254.169.254]", "network"),
        ("0.0.0.0", "network"),
        ("[::]", "network"),
        ("fd00:ec2::254", "network"),
        ("100.100.100.200", "network"),
        ("Metadata.Google.Internal.", "network"),
        ("10.0.0.1", ""),
        ("1.1.1.1", ""),
        ("", ""),
        ("1", ""),
    ],
)
def test_kinds_of_addresses(host: str, kind: str) -> None:
    found = ("loopback" if addresses.is_loopback(host) else "") + (
        "network" if addresses.is_of_this_network(host) else ""
    )
    assert found == kind
