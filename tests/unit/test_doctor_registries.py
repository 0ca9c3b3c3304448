"""The doctor's findings about registries: logins, their helpers, and who answers."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toolkit.care import doctor, registry_checks
from toolkit.care.finding import NOTE, OK, WARN, Finding
from toolkit.errors import Usage
from toolkit.kernel.host import HostFacts

SECRET = "hunter2 of the tests"
AUTH = base64.b64encode(f"somebody:{SECRET}".encode()).decode()


@pytest.fixture
def auth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """Writes the only file of logins."""
    path = tmp_path / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def write(whole: Any) -> Path:
        path.write_text(whole if isinstance(whole, str) else json.dumps(whole))
        path.chmod(0o600)
        return path

    return write


def found() -> list[Finding]:
    told = list(registry_checks.logins(HostFacts()))
    assert SECRET not in str(told) and AUTH not in str(told)
    return told


def test_no_logins(auth: Callable[[Any], Path]) -> None:
    assert [one.state for one in found()] == [NOTE]
    auth({"auths": {}})
    assert [one.state for one in found()] == [NOTE]


def test_each_file_and_its_registries_without_the_secrets(auth: Callable[[Any], Path]) -> None:
    path = auth(
        {"auths": {"https://index.docker.io/v1/": {"auth": AUTH}, "quay.example/team": {"auth": AUTH}, "x": {}}}
    )
    (one,) = found()
    assert (one.state, one.what) == (OK, f"{path}: docker.io, quay.example/team")


def test_the_files_are_told_one_by_one(
    auth: Callable[[Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for path, name in (
        (tmp_path / "run/containers/auth.json", "one.example"),
        (tmp_path / "docker/config.json", "two"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"auths": {name: {"auth": AUTH}}}))
        path.chmod(0o600)
    assert [one.what.rpartition(": ")[2] for one in found()] == ["one.example", "two"]


def test_a_helper_that_is_not_installed_is_told_with_the_line_that_does_without(
    auth: Callable[[Any], Path], tmp_path: Path
) -> None:
    path = auth({"credHelpers": {"quay.example": "desktop"}, "credsStore": "keyring"})
    first, second = found()
    assert (first.state, first.fix) == (WARN, "ctk login quay.example")
    assert (
        first.what == f"{path} leaves the login for quay.example to docker-credential-desktop, which is not installed"
    )
    assert (second.state, "all its logins to docker-credential-keyring" in second.what) == (WARN, True)
    (tmp_path / "bin").mkdir()
    for name in ("desktop", "keyring"):
        program = tmp_path / f"bin/docker-credential-{name}"
        program.write_text(f"#!/bin/sh\necho asked > {tmp_path}/asked\n")
        program.chmod(0o755)
    (one,) = found()
    told = "quay.example (by docker-credential-desktop), any registry (by docker-credential-keyring)"
    assert (one.state, one.what) == (OK, f"{path}: {told}")
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    "whole", ["{", {"auths": []}, {"auths": {"x": {"auth": "?"}}}, {"credsStore": "../../bin/sh"}, {"credsStore": 7}]
)
def test_a_file_that_is_damaged_is_told(auth: Callable[[Any], Path], whole: Any) -> None:
    path = auth(whole)
    (one,) = found()
    assert one.state == WARN and str(path) in one.what
    assert list(registry_checks.registries()) == []


def test_passwords_that_others_may_read(auth: Callable[[Any], Path]) -> None:
    path = auth({"auths": {"quay.example": {"auth": AUTH}}})
    path.chmod(0o644)
    assert [(one.state, one.fix) for one in found()] == [(OK, ""), (WARN, f"chmod 600 {path}")]


def test_nobody_is_asked_unless_it_is_wanted(auth: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    auth({})
    asked: list[object] = []
    monkeypatch.setattr(registry_checks, "registries", lambda names=(): asked.append(tuple(names)) or iter(()))
    monkeypatch.setattr(doctor, "CHECKS", ((registry_checks.logins, ("images",)),))
    list(doctor.examine("images", offline=True, registries=["one.example"]))
    list(doctor.examine())
    assert asked == []
    list(doctor.examine("images", registries=["one.example"]))
    list(doctor.examine("images"))
    assert asked == [("one.example",), ()]
    with pytest.raises(Usage, match="topic is another one"):
        list(doctor.examine("run", registries=["x"]))


@pytest.mark.parametrize("text", ["https://localhost:5000", "localhost:5000/web:1"])
def test_what_is_no_registry_is_not_asked(text: str) -> None:
    with pytest.raises(Usage, match=r"HOST\[:PORT\]"):
        list(doctor.examine("images", registries=[text]))
