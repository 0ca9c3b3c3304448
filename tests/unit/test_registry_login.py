"""Logins in docker's and podman's files: which is found, and what is kept when one is written."""

import base64
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import CtkError, Invalid, Usage
from toolkit.events import Event, Note, silent
from toolkit.image.registry import login
from toolkit.image.registry.login import Login


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("XDG_CONFIG_HOME", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def write(path: Path, **whole: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole))


def who(host: str, repository: str = "x/y") -> str:
    found = login.find(host, repository, silent)
    return f"{found.name}:{found.password}" if found else ""


def test_the_first_file_that_has_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert who("a.example") == ""
    write(home / ".docker/config.json", auths={"a.example": auth("docker:1")})
    assert who("a.example") == "docker:1"
    write(home / ".config/containers/auth.json", auths={"a.example": auth("config:2")})
    assert who("a.example") == "config:2"
    write(home / "run/containers/auth.json", auths={"b.example": auth("run:3")})
    assert who("a.example") == "config:2" and who("b.example") == "run:3"
    write(home / "elsewhere/config.json", auths={"a.example": auth("other:4")})
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "elsewhere"))
    (home / ".config/containers/auth.json").unlink()
    assert who("a.example") == "other:4"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "own.json"))
    assert who("a.example") == ""  # that file alone
    write(home / "own.json", auths={"a.example": auth("own:5")})
    assert who("a.example") == "own:5"


def test_the_longest_path_and_whole_words_only(home: Path) -> None:
    entries = {"a.example": "host", "a.example/team": "team", "a.example/team/app": "app", "a.example:5000": "port"}
    write(home / ".docker/config.json", auths={key: auth(f"{value}:p") for key, value in entries.items()})
    expected = {
        "team/app": "app",
        "team/app/sub": "app",
        "team/apps": "team",
        "team": "team",
        "teams": "host",
        "": "host",
    }
    for repository, name in expected.items():
        assert who("a.example", repository) == f"{name}:p", repository
    assert who("a.example:5000") == "port:p" and who("a.example:6000") == "" and who("b.a.example") == ""


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io", "https://docker.io"]
)
def test_dockers_own_registry_has_several_names(key: str, home: Path) -> None:
    write(home / ".docker/config.json", auths={key: auth("me:p")})
    assert who("docker.io", "library/debian") == "me:p" and who("index.docker.io.evil.example") == ""


@pytest.mark.parametrize("key", ["http://a.example", "https://a.example/v1/", "https://a.example/v2/", "a.example/"])
def test_a_key_may_be_a_url(key: str, home: Path) -> None:
    write(home / ".docker/config.json", auths={key: auth("me:p")})
    assert who("a.example") == "me:p"


def test_a_password_may_have_colons_and_podmans_zeroes(home: Path) -> None:
    write(home / ".docker/config.json", auths={"a.example": auth("me:p:q:\0\0"), "b.example": auth("ä:ö")})
    assert who("a.example") == "me:p:q:" and who("b.example") == "ä:ö"


def test_an_identity_token(home: Path) -> None:
    write(home / ".docker/config.json", auths={"a.example": {**auth("00000:"), "identitytoken": "it"}, "b.example": {}})
    found = login.find("a.example", "x", silent)
    assert found is not None and found.identity_token == "it"
    assert login.find("b.example", "x", silent) is None


def helper(home: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program docker-credential-it, alone on the PATH but for the system's."""
    (home / "bin").mkdir()
    program = home / "bin/docker-credential-it"
    program.write_text(f'#!/bin/sh\nread -r server\necho "$1 $server" >>{home}/asked\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin:/usr/bin:/bin")
    write(home / ".docker/config.json", credsStore="it")


@pytest.mark.parametrize(
    ("host", "asked"),
    [("docker.io", ["https://index.docker.io/v1/", "docker.io"]), ("a.example", ["a.example", "https://a.example"])],
)
def test_what_a_helper_is_asked(host: str, asked: list[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home, monkeypatch, "echo 'credentials not found in native keychain'; exit 1")
    events: list[Event] = []
    assert login.find(host, "x", events.append) is None and events == []  # it just has none
    assert (home / "asked").read_text().splitlines() == [f"get {server}" for server in asked]


@pytest.mark.parametrize(
    ("script", "because"),
    [
        ("echo 'the key ring is locked' >&2; exit 1", "the key ring is locked"),
        ("exit 3", "exit 3"),
        ("kill -9 $$", "exit -9"),
        ("echo hello", "not a JSON object"),
        ("echo '[]'", "not a JSON object"),
        ('echo \'{"Username": 1, "Secret": "x"}\'', "must be texts"),
        ("printf '\\033[31m'; exit 1", "\\x1b[31m"),
    ],
)
def test_a_helper_that_fails_is_told_and_means_no_login(
    script: str, because: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper(home, monkeypatch, script)
    events: list[Event] = []
    assert login.find("a.example", "x", events.append) is None
    (note,) = events
    assert isinstance(note, Note) and note.warning and because in note.text and "config.json" in note.text


def test_a_helper_may_give_an_identity_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home, monkeypatch, 'echo \'{"Username": "<token>", "Secret": "it"}\'')
    assert login.find("a.example", "x", silent) == Login("", "", "it", "docker-credential-it", "a.example")


def test_saving_keeps_all_else_and_is_private(home: Path) -> None:
    path = home / "run/containers/auth.json"
    write(path, auths={"b.example": auth("b:1"), "a.example/team": auth("t:1")}, credHelpers={"c": "x"}, extra=[1])
    path.chmod(0o644)
    assert login.save("a.example", "me", "p:ä") == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    whole = json.loads(path.read_text())
    assert whole["extra"] == [1] and whole["credHelpers"] == {"c": "x"}
    assert whole["auths"] == {"b.example": auth("b:1"), "a.example/team": auth("t:1"), "a.example": auth("me:p:ä")}
    assert who("a.example") == "me:p:ä" and who("a.example", "team/x") == "t:1"
    assert login.forget("a.example") and not login.forget("a.example")
    assert set(json.loads(path.read_text())["auths"]) == {"b.example", "a.example/team"}
    assert sorted(os.listdir(path.parent)) == ["auth.json"]


def test_saving_replaces_every_spelling(home: Path) -> None:
    path = home / "run/containers/auth.json"
    write(path, auths={"https://index.docker.io/v1/": auth("old:1"), "registry-1.docker.io": auth("old:2")})
    login.save("docker.io", "me", "p")
    assert json.loads(path.read_text())["auths"] == {"docker.io": auth("me:p")}
    assert login.forget("index.docker.io") and json.loads(path.read_text())["auths"] == {}


def test_saving_where_nothing_is_makes_private_folders(home: Path) -> None:
    login.save("a.example", "me", "p")
    assert stat.S_IMODE((home / "run/containers").stat().st_mode) == 0o700
    assert not login.forget("b.example")
    (home / "run/containers/auth.json").write_text("")  # podman makes such
    login.save("a.example", "me", "q")
    assert who("a.example") == "me:q"


def test_forgetting_where_nothing_is_makes_nothing(home: Path) -> None:
    assert not login.forget("a.example") and not (home / "run").exists()


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"auths": []}', '{"auths": {"a.example": 1}}', "\udc80"])
def test_a_file_that_is_something_else_is_left_as_it_is(text: str, home: Path) -> None:
    path = home / "run/containers/auth.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    if "a.example" not in text:
        for change in (lambda: login.save("a.example", "me", "p"), lambda: login.forget("a.example")):
            with pytest.raises((Invalid, Usage)):
                change()
    with pytest.raises((Invalid, Usage)) as caught:
        login.find("a.example", "x", silent)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == text.encode(errors="surrogateescape")


def test_a_link_stays_one(home: Path) -> None:
    real = home / "dotfiles/auth.json"
    write(real, auths={})
    (home / "run/containers").mkdir(parents=True)
    (home / "run/containers/auth.json").symlink_to(real)
    login.save("a.example", "me", "p")
    assert (home / "run/containers/auth.json").is_symlink() and "a.example" in real.read_text()


@pytest.mark.parametrize("name", ["", "a:b"])
def test_a_name_that_cannot_be_sent(name: str, home: Path) -> None:
    with pytest.raises(Usage, match="a name must not be"):
        login.save("a.example", name, "p")
    assert not (home / "run").exists()


def test_many_at_once_lose_nothing(home: Path) -> None:
    threads = [threading.Thread(target=login.save, args=(f"r{number}.example", "me", "p")) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((home / "run/containers/auth.json").read_text())["auths"]) == 12


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["auths", "credHelpers", "credsStore", "a.example", "auth", "identitytoken", "x"]),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    )
)
def test_no_file_is_a_traceback(whole: object) -> None:
    path = Path(os.environ["HOME"]) / "run/containers/auth.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole))
    try:
        found = login.find("a.example", "x/y", silent)
        assert found is None or isinstance(found, Login)
    except CtkError as error:
        assert str(path) in str(error)
