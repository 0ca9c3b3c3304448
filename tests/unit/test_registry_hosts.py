"""registries.conf: where a repository is, and how its servers are spoken to."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import CtkError, Invalid, Untrusted, Usage
from toolkit.image import name
from toolkit.image.registry import hosts
from toolkit.image.registry.hosts import Place, Places


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    path.write_text("")
    return path


def find(text: str, plain_http: bool | None = None) -> Places:
    return hosts.find(name.parse(text), plain_http=plain_http)


def test_without_settings_a_registry_is_where_its_name_says(settings: Path) -> None:
    found = find("debian")
    assert found == Places(Place("docker.io", "library/debian"))
    assert found.primary.server == "registry-1.docker.io" and found.primary.bases == ("https://registry-1.docker.io",)
    assert find("ghcr.io/x/y").primary.bases == ("https://ghcr.io",)
    for local in ("localhost:5000", "127.0.0.1:5000", "127.9.9.9:5000", "[::1]:5000"):
        assert find(f"{local}/x").primary.bases == (f"https://{local}", f"http://{local}")
    assert find("10.0.0.1:5000/x").primary.bases == ("https://10.0.0.1:5000",)
    assert find("localhost.example.com/x").primary.bases == ("https://localhost.example.com",)
    assert find("localhost:5000/x", False).primary.bases == ("https://localhost:5000",)
    assert find("10.0.0.1:5000/x", True).primary.bases == ("http://10.0.0.1:5000",)


def test_the_longest_prefix_decides_and_is_replaced_by_its_location(settings: Path) -> None:
    settings.write_text(
        """
unqualified-search-registries = ["quay.io"]
[[registry]]
prefix = "example.com"
location = "mirror.example:5000/all"
[[registry]]
prefix = "example.com/team"
location = "team.example"
insecure = true
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "cache.example/hub"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "localhost:5000"
[[registry]]
prefix = "*.wild.example"
location = "one.example/sub"
[[registry]]
prefix = "*.same.example"
insecure = true
"""
    )
    assert find("example.com/x/y").primary == Place("mirror.example:5000", "all/x/y")
    assert find("example.com/team/y").primary == Place("team.example", "y", lenient=True)
    assert find("example.com/team/y").primary.bases == ("https://team.example", "http://team.example")
    assert find("example.com/teams/y").primary == Place("mirror.example:5000", "all/teams/y")
    assert find("example.com.evil.net/x").primary == Place("example.com.evil.net", "x")
    assert find("debian") == Places(
        Place("docker.io", "library/debian"),
        (Place("cache.example", "hub/library/debian", serves=hosts.DIGESTS), Place("localhost:5000", "library/debian")),
    )
    assert find("a.b.wild.example/x/y").primary == Place("one.example", "sub/x/y")
    assert find("wild.example/x").primary == Place("wild.example", "x")
    assert find("a.same.example:5000/x").primary == Place("a.same.example:5000", "x", lenient=True)
    assert hosts.kind_of("latest") == hosts.TAGS and hosts.kind_of("sha256:00") == hosts.DIGESTS


def test_plain_http_is_the_users_own_word(settings: Path) -> None:
    settings.write_text('[[registry]]\nlocation = "x.example"\n[[registry.mirror]]\nlocation = "y.example"\n')
    found = find("x.example/z", True)
    assert found.primary.bases == ("http://x.example",) and found.mirrors[0].bases == ("https://y.example",)


def test_a_blocked_registry(settings: Path) -> None:
    settings.write_text('[[registry]]\nprefix = "x.example/bad"\nlocation = "y"\nblocked = true\n')
    with pytest.raises(Untrusted, match=r"blocks 'x\.example/bad'"):
        find("x.example/bad/y")
    assert find("x.example/good").primary == Place("x.example", "good")


def test_mirrors_by_digest_only(settings: Path) -> None:
    settings.write_text(
        '[[registry]]\nlocation = "x.example"\nmirror-by-digest-only = true\n'
        '[[registry.mirror]]\nlocation = "y.example"\n'
    )
    assert [one.serves for one in find("x.example/z").mirrors] == [hosts.DIGESTS]


def test_the_users_file_before_the_systems_and_folders_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "containers"
    (folder / "registries.conf.d").mkdir(parents=True)
    (folder / "registries.conf").write_text('[[registry]]\nprefix = "x.example"\nlocation = "one.example"\n')
    assert find("x.example/z").primary.host == "one.example"
    for number, text in enumerate(("two.example", "three.example")):
        path = folder / f"registries.conf.d/{number}.conf"
        path.write_text(f'[[registry]]\nprefix = "x.example"\nlocation = "{text}"\n')
    (folder / "registries.conf.d/9.txt").write_text("not read")
    assert find("x.example/z").primary.host == "three.example"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("[[registry", "not TOML"),
        ("registry = 1", "must be a list of tables"),
        ("registry = [1]", "must be a table"),
        ('[[registry]]\nprefix = "x.example"\nlocation = 1', "must be a text"),
        ('[[registry]]\nlocation = "x.example"\ninsecure = "yes"', "must be true or false"),
        ('[[registry]]\nprefix = "x.example"\nlocation = "/"', "is not HOST"),
        ('[[registry]]\nlocation = "x.example"\n[[registry.mirror]]\nlocation = 1', "must be a text"),
        (
            '[[registry]]\nlocation = "x.example"\n[[registry.mirror]]\nlocation = "y"\npull-from-mirror = "never"',
            "is none of",
        ),
        ("a = " + "[" * 5000, "not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_named(text: str, because: str, settings: Path) -> None:
    settings.write_text(text)
    with pytest.raises(Invalid, match=because) as caught:
        find("x.example/z")
    assert str(settings) in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(settings: Path) -> None:
    settings.write_bytes(b"\xff\xfe")
    with pytest.raises(Usage, match="not utf-8"):
        find("x.example/z")
    settings.unlink()
    with pytest.raises(Usage, match="there is no such file"):
        find("x.example/z")


VALUES = st.one_of(st.text(alphabet="ab./:*-[]@", max_size=8), st.booleans(), st.integers(0, 9))


@given(st.dictionaries(st.sampled_from(["prefix", "location", "insecure", "blocked", "mirror"]), VALUES))
def test_no_entry_is_a_traceback(entry: dict[str, object]) -> None:
    table = hosts._Table({"registry": [entry]}, "it", "")
    try:
        found = hosts._entry("a.b/a/b", table.tables("registry"))
        if found is not None:
            place = hosts._place(found, "a.b/a/b", found.text("prefix") or found.text("location"))
            assert place.host and place.repository
    except CtkError:
        pass
