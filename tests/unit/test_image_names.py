"""Names of images, places and digests: what somebody types, in one reading only."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import CtkError, Usage
from toolkit.image import digest as digests
from toolkit.image import name
from toolkit.image.name import Location, Reference, locate, parse

HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"

# What was typed, whole, in short.
REFERENCES = [
    ("debian", "docker.io/library/debian", "debian"),
    ("debian:12", "docker.io/library/debian:12", "debian:12"),
    ("library/debian", "docker.io/library/debian", "debian"),
    ("docker.io/debian", "docker.io/library/debian", "debian"),
    ("index.docker.io/debian", "docker.io/library/debian", "debian"),
    ("registry-1.docker.io/library/debian", "docker.io/library/debian", "debian"),
    ("somebody/tool:v1", "docker.io/somebody/tool:v1", "somebody/tool:v1"),
    ("a/b/c", "docker.io/a/b/c", "a/b/c"),
    ("ghcr.io/org/app", "ghcr.io/org/app", "ghcr.io/org/app"),
    ("localhost/app", "localhost/app", "localhost/app"),
    ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
    ("host:5000/app", "host:5000/app", "host:5000/app"),
    ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
    ("localhost", "docker.io/library/localhost", "localhost"),
    (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
    (f"debian:12@{DIGEST}", f"docker.io/library/debian:12@{DIGEST}", f"debian:12@{DIGEST}"),
    ("ghcr.io:5000", "docker.io/library/ghcr.io:5000", "ghcr.io:5000"),
    ("ghcr.io/library/x", "ghcr.io/library/x", "ghcr.io/library/x"),
    ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
    ("a__b/c.d-e--f", "docker.io/a__b/c.d-e--f", "a__b/c.d-e--f"),
]


@pytest.mark.parametrize(("text", "whole", "short"), REFERENCES)
def test_references(text: str, whole: str, short: str) -> None:
    found = parse(text)
    assert (str(found), found.familiar) == (whole, short)
    assert parse(whole) == parse(short) == found, "each of them is read as the same image"


@pytest.mark.parametrize("text", [
    "", " ", "Debian", "debian:", ":1", "debian:-x", "debian:.x", "debian:" + "x" * 129, "debian:a:b", "/debian",
    "debian/", "a//b", "a/../b", "..", ".", "-a", "a-", "a..b", "a___b", "deb ian", "debian\n",
    "debian:1\n", "debian\0", HEX,
    "ghcr.io/", "ghcr.io/App", "host:/app", "host:123456/app", "ho_st.x/app", "[::1/app", "-.x/app",
    "debian@", "debian@sha256:", f"debian@sha256:{HEX.upper()}", f"debian@sha256:{HEX[1:]}", "debian@md5:" + "a" * 32,
    f"debian@{DIGEST}/x", f"@{DIGEST}", "debian@sha256:../../../../etc/passwd", "x/" * 130 + "x", "é", "a/é", "１",
    HEX + ":",
], ids=lambda text: repr(text)[:40])  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(Usage, match="read the image's name") as info:
        parse(text)
    assert info.value.because and info.value.hint


def test_what_a_registry_is_asked_for() -> None:
    assert [parse(text).wanted for text in ("a", "a:1", f"a:1@{DIGEST}")] == ["latest", "1", DIGEST]
    assert str(parse("a").tagged()) == "docker.io/library/a:latest"
    assert str(parse(f"a@{DIGEST}").tagged()) == f"docker.io/library/a@{DIGEST}"


@given(st.text(alphabet="ab.:/@-_A0é\n[]", max_size=24))
def test_a_name_means_one_thing_or_nothing(text: str) -> None:
    try:
        found = parse(text)
    except CtkError:
        return
    assert parse(str(found)) == parse(found.familiar) == found
    assert re.fullmatch(r"[a-z0-9._/-]+", found.repository) and "//" not in found.repository
    assert ".." not in found.repository and "/" not in found.registry


PLACES = [
    ("docker://debian:12", Location("docker", reference=Reference("docker.io", "library/debian", "12"))),
    ("debian", Location("store", reference=Reference("docker.io", "library/debian"))),
    ("store:debian", Location("store", reference=Reference("docker.io", "library/debian"))),
    ("docker:cli", Location("store", reference=Reference("docker.io", "library/docker", "cli"))),
    ("oci:dir", Location("oci", "dir")),
    ("oci:dir:1.0", Location("oci", "dir", "1.0")),
    ("oci:/a/b:c/d:e", Location("oci", "/a/b", "c/d:e")),
    (f"oci:dir@{DIGEST}", Location("oci", "dir", f"@{DIGEST}")),
    ("oci:dir@x:1", Location("oci", "dir@x", "1")),
    ("oci-archive:x.tar", Location("oci-archive", "x.tar")),
    (f"oci-archive:x.tar@{DIGEST}", Location("oci-archive", "x.tar", f"@{DIGEST}")),
    ("oci-archive:x.tar:a/b:1", Location("oci-archive", "x.tar", "a/b:1")),
    ("docker-archive:x.tar:debian:12", Location("docker-archive", "x.tar", "debian:12")),
    ("docker-archive:x.tar", Location("docker-archive", "x.tar")),
]


@pytest.mark.parametrize(("text", "place"), PLACES)
def test_places(text: str, place: Location) -> None:
    assert locate(text) == place
    assert locate(str(place)) == place


def test_a_place_without_a_transport_is_of_the_default_one() -> None:
    assert locate("debian", default=name.DOCKER).transport == name.DOCKER
    assert str(locate("debian", default=name.DOCKER)) == "docker://debian"


@pytest.mark.parametrize("text", ["oci:", "oci::1", "oci-archive:", "docker-archive::x", "docker://", "store:"])
def test_places_that_name_nothing(text: str) -> None:
    with pytest.raises(Usage):
        locate(text)


@pytest.mark.parametrize("transport", ["containers-storage", "docker-daemon", "dir", "ostree", "sif", "tarball"])
def test_transports_of_others_are_told_apart(transport: str) -> None:
    with pytest.raises(Usage, match="is not a transport here") as info:
        locate(f"{transport}:x")
    assert info.value.hint


@pytest.mark.parametrize("text", [
    "", "sha256", "sha256:", f"SHA256:{HEX}", f"sha256:{HEX.upper()}", f"sha256:{HEX}0", f"sha256:{HEX[:-1]}",
    "md5:" + "a" * 32, f"sha512:{HEX}", "sha256:../../../../etc/passwd", f"sha256:{HEX}\n", f" sha256:{HEX}",
    f"sha256:{HEX}/..", "sha384:" + "a" * 96, f"sha256+b64:{HEX}", "sha256:" + "１" * 64,
])  # fmt: skip
def test_what_is_no_digest(text: str) -> None:
    """CVE-2014-9358, CVE-2024-3727: a path is built from it, so it is checked first."""
    assert not digests.is_digest(text)


def test_digests() -> None:
    assert digests.of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digests.is_digest("sha512:" + HEX * 2) and digests.split(DIGEST) == ("sha256", HEX)
    assert digests.verify(b"", digests.of(b""), "read it") == b""
    with pytest.raises(CtkError, match="its digest is"):
        digests.verify(b"x", digests.of(b""), "read it")


@given(st.lists(st.binary(max_size=9), max_size=9), st.integers(-3, 3), st.booleans())
def test_pieces_are_passed_on_only_if_they_are_what_was_announced(pieces: list[bytes], more: int, other: bool) -> None:
    data = b"".join(pieces)
    announced = max(0, len(data) + more)
    digest = digests.of(data + b"x" * other)
    taken = bytearray()
    try:
        for piece in digests.verified(pieces, digest, announced, "read it"):
            taken += piece
    except CtkError:
        assert announced != len(data) or other
        assert len(taken) <= announced
    else:
        assert announced == len(data) and not other and taken == data


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("http://localhost:5000/web:1", "leave http:// out"),
        ("./layout", "oci:DIR"),
        ("/tmp/x.d", "oci-archive:FILE"),
        ("oci:./layout", "docker-archive:FILE"),
    ],
)
def test_what_is_no_name_is_told_where_it_belongs(text: str, hint: str) -> None:
    with pytest.raises(Usage) as info:
        parse(text)
    assert hint in info.value.hint


def test_a_file_without_a_transport_is_no_name_of_the_store() -> None:
    with pytest.raises(Usage) as info:
        locate("web.tar")
    assert "oci-archive:web.tar" in info.value.hint and "store:web.tar" in info.value.hint
    assert locate("store:web.tar").reference == parse("web.tar")


def test_a_registry_is_a_host_and_a_port() -> None:
    assert [name.registry(text) for text in ("localhost:5000", "index.docker.io")] == ["localhost:5000", "docker.io"]
    for text in ("https://localhost:5000", "localhost:5000/web", "", "a b"):
        with pytest.raises(Usage, match=r"HOST\[:PORT\]"):
            name.registry(text)


def test_an_image_with_a_registry_in_its_name_is_pushed_there() -> None:
    assert name.next_steps(parse("localhost:5000/web:1")) == (
        "ctk up localhost:5000/web:1 NAME",
        "ctk push localhost:5000/web:1",
    )
    assert name.next_steps(parse("web:1")) == ("ctk up web:1 NAME", "ctk push web:1 REGISTRY/REPOSITORY")
