"""The parts of scripts/test that decide between red and green."""

import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.fixtures.leaks import TAG

TOP = Path(__file__).parents[2]


@pytest.fixture
def script() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("scripts_test", str(TOP / "scripts/test"))
    spec = importlib.util.spec_from_loader("scripts_test", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_results_of_several_runs_are_one_line(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "results.xml"
    path.write_text(
        '<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2">'
        '<testcase classname="tests.a" name="good"/>'
        '<testcase classname="tests.a" name="bad"><failure/></testcase>'
        '<testcase classname="tests.b" name="broken"><error/></testcase>'
        "</testsuite></testsuites>"
    )
    assert script.counts(path) == ((3, 1, 1, 2), ["tests.a::bad", "tests.b::broken"])
    line = script.closing_line([3, 1, 1, 2], 61.5)
    assert " 3 passed, 1 failed, 1 errors, 2 skipped in 61.50s (0:01:01) " in line
    assert line.startswith("=====") and line.endswith("=====")


DRIVER = """
import importlib.machinery, json, os, sys, types
script = types.ModuleType("scripts_test")
script.__file__ = sys.argv[1]
importlib.machinery.SourceFileLoader("scripts_test", sys.argv[1]).exec_module(script)
script.become_reaper()
before, others = script.standing(), script.processes()
code = script.run(["sh", "-c", sys.argv[2]], dict(os.environ))
print(json.dumps([code, *script.left_over(before, others, 1.0)]))
for pid in script.descendants(script.processes()):
    os.kill(pid, 9)
"""


@pytest.mark.root
@pytest.mark.parametrize("alone", ["0", "1"])
def test_what_a_run_leaves_is_told_from_a_strangers(alone: str, tmp_path: Path) -> None:
    """An orphan is known as the run's. Who made an empty cgroup can't be known, unless nobody else was there."""
    go, back = tmp_path / "go", tmp_path / "back"
    os.mkfifo(go)
    os.mkfifo(back)
    trees = Path("/sys/fs/cgroup")
    cgroup = (trees / "pids" if (trees / "pids").is_dir() else trees) / f"{TAG}-left"
    host = subprocess.Popen(["sh", "-c", f"read x <{go}; sleep 8765 & echo >{back}; wait"], start_new_session=True)
    try:
        script = f"(sleep 4321 >/dev/null 2>&1 &); mkdir {cgroup}; echo >{go}; read x <{back}; exit 3"
        words = [sys.executable, "-c", DRIVER, str(TOP / "scripts/test"), script]
        done = subprocess.run(words, env={**os.environ, "CTK_TEST_ALONE": alone}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        code, ours, somebodys = json.loads(done.stdout)
    finally:
        os.killpg(host.pid, signal.SIGKILL)
        host.wait()
        if cgroup.is_dir():
            cgroup.rmdir()
    assert code == 3
    assert [line.partition(" (")[2] for line in ours if line.startswith("process")] == ["sleep 4321)"]
    assert str(cgroup) in (ours if alone == "1" else somebodys)


@pytest.mark.root
@pytest.mark.parametrize("also", ["--mount", "--cgroup"])
def test_a_place_that_shows_cgroups_and_not_their_processes_is_known(also: str) -> None:
    words = ["unshare", "--pid", "--fork", "--mount-proc", also, sys.executable, "-c"]
    words += [DRIVER.partition("script.become")[0] + "print(script.some_are_hidden())", str(TOP / "scripts/test")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    hosts = os.stat("/proc/self/ns/cgroup").st_ino == 0xEFFFFFFB
    assert done.stdout == f"{also == '--mount' and hosts}\n"


def test_no_results_are_an_error(script: ModuleType, tmp_path: Path) -> None:
    numbers, names = script.counts(tmp_path / "missing.xml")
    assert numbers == (0, 0, 1, 0) and names


def test_what_dpkg_does_not_have_is_missing(script: ModuleType) -> None:
    assert script.missing(["dpkg", "no-such-package-at-all"]) == ["no-such-package-at-all"]


def test_what_only_some_releases_have_is_asked_for_first(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert script.known(["dpkg", "no-such-package-at-all"]) == ["dpkg"]
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(script, "apt", lambda *words: calls.append(words) or True)
    monkeypatch.setattr(script, "missing", list)
    monkeypatch.setattr(script, "known", lambda names: [name for name in names if name == "new"])
    monkeypatch.setattr(script, "POLICY", str(tmp_path / "policy-rc.d"))
    assert script.install(["needed", "new?", "older?"]) == ["needed", "new"]
    assert calls == [("update",), ("install", "--no-install-recommends", "needed", "new")]


def test_a_machine_without_python_gets_it_first(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("env", "sh", "ln"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    apt = programs / "apt-get"
    apt.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n[ $1 = update ] || ln -s {sys.executable} {programs}/python3\n'
    )
    apt.chmod(0o755)
    with open(TOP / "scripts/test") as file:
        assert len(file.readline()) < 255, "the kernel reads no more of a first line"
    environment = {**os.environ, "PATH": str(programs)}
    for _ in range(2):  # the second time it is there
        seen = subprocess.run(["/usr/bin/env", TOP / "scripts/test", "--help"], env=environment, capture_output=True)
        assert seen.returncode == 0, seen.stderr
        assert b"usage:" in seen.stdout
    assert (tmp_path / "calls").read_text().splitlines() == ["update", "-y install python3"]
