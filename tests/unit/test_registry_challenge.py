"""WWW-Authenticate as registries send it, and as nobody should."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.image.registry import challenge
from toolkit.image.registry.challenge import Challenge, parse


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:x/y:pull,push"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:x/y:pull,push",
                    },
                )
            ],
        ),
        ('Basic realm="Registry Realm"', [Challenge("basic", {"realm": "Registry Realm"})]),
        ("Basic", [Challenge("basic", {})]),
        (
            'BASIC REALM=x , bearer Realm = "y"',
            [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"})],
        ),
        ('Basic realm="a\\"b\\\\c, d=e"', [Challenge("basic", {"realm": 'a"b\\c, d=e'})]),
        (
            'Negotiate YWJj==, Basic realm="x"',
            [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"})],
        ),
        # RFC 9110 11.6.1's own example.
        (
            'Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""',
            [
                Challenge("basic", {"realm": "simple"}),
                Challenge("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
            ],
        ),
        (",, Basic ,,, Bearer realm=x", [Challenge("basic", {}), Challenge("bearer", {"realm": "x"})]),
        ("", []),
        ("realm=x", []),
        ('Basic realm="open', [Challenge("basic", {})]),
        ("Basic realm=\x01", [Challenge("basic", {})]),
        ('Bearer realm="a", realm="b"', []),
        ('Bearer realm="a", REALM="b", Basic realm="c"', [Challenge("basic", {"realm": "c"})]),
        ('Bearer realm="a\x07b"', [Challenge("bearer", {})]),
        ("Basic " * 2000, []),
    ],
)
def test_what_a_header_says(header: str, expected: list[Challenge]) -> None:
    assert parse(header) == expected


@pytest.mark.parametrize(
    ("header", "scheme"),
    [
        ('Basic realm="a", Bearer realm="https://x/"', "bearer"),
        ('Bearer service="x", Basic realm="a"', "basic"),
        ("Digest realm=x", None),
        ("Bearer", None),
        ("", None),
    ],
)
def test_bearer_is_preferred_if_it_says_where(header: str, scheme: str | None) -> None:
    found = challenge.choose(header)
    assert (None if found is None else found.scheme) == scheme


TEXT = st.text(alphabet='aZ0=," \t\\;:/.~\x00\x7fé', max_size=60)


@given(st.one_of(st.text(max_size=200), TEXT))
def test_no_header_is_an_error(header: str) -> None:
    for one in parse(header):
        assert one.scheme and one.scheme == one.scheme.lower()
        assert all(name == name.lower() and "\x00" not in value for name, value in one.parameters.items())


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Basic", "Bearer", "Other"]),
            st.dictionaries(
                st.sampled_from(["realm", "service", "scope"]),
                st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
            ),
        ),
        max_size=4,
    )
)
def test_what_is_written_by_the_grammar_is_read_again(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = ", ".join(
        f"{scheme} {', '.join(f'{name}={quoted(value)}' for name, value in parameters.items())}".strip()
        for scheme, parameters in challenges
    )
    assert parse(header) == [Challenge(scheme.lower(), parameters) for scheme, parameters in challenges]


@pytest.mark.parametrize("piece", ['"', "\\", " ", ",", "a=", 'a="', "a ", '="\\', "a=b,", "\t,"])
def test_a_long_header_takes_no_time(piece: str) -> None:
    began = time.monotonic()
    parse(("Basic " + piece * challenge.LONGEST)[: challenge.LONGEST])
    assert time.monotonic() - began < 1
