"""Global options before a command of ours reach every ctk that the command starts, and no later one."""

from pathlib import Path
from typing import Any

import pytest

from toolkit.cli import app
from toolkit.runtime.comfort import stopping
from toolkit.up import launch, stages

PASSED = ["--debug=true", "--systemd-cgroup=true"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The global options of each ctk that would be started."""
    every: list[list[str]] = []

    def noted(*given: Any) -> int:
        every.append(list(given[-1]))
        return 0

    monkeypatch.setenv("CTK_ROOT", str(tmp_path))
    for name in ("call", "run", "status"):
        monkeypatch.setattr(launch, name, noted)
    monkeypatch.setattr(stages, "prepare", lambda *_: "bundle")
    for name in ("again", "stop", "wait_until_noted"):
        monkeypatch.setattr(stopping, name, lambda *_, **__: ["run", "x"])
    monkeypatch.setattr(stopping, "leave_log", lambda *_: lambda: None)
    return every


@pytest.mark.parametrize(
    ("words", "calls"), [(["quickstart"], 1), (["up", "bookworm", "x", "--", "true"], 2), (["restart", "x"], 1)]
)
def test_they_are_passed_on_once(words: list[str], calls: int, started: list[list[str]]) -> None:
    assert app.run(["--debug", "--systemd-cgroup", *words]) == 0
    assert started == [PASSED] * calls
    started.clear()
    assert app.run(words) == 0
    assert started == [[]] * calls
