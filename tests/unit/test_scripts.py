"""The parts of scripts/test that decide between red and green."""

import importlib.machinery
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

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


def test_no_results_are_an_error(script: ModuleType, tmp_path: Path) -> None:
    numbers, names = script.counts(tmp_path / "missing.xml")
    assert numbers == (0, 0, 1, 0) and names


def test_what_dpkg_does_not_have_is_missing(script: ModuleType) -> None:
    assert script.missing(["dpkg", "no-such-package-at-all"]) == ["no-such-package-at-all"]
