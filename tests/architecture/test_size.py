"""No module outgrows 450 lines (400 is the aim), no function 80, no folder 24 modules (docs/MAP.md)."""

import ast
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LIMIT = 450
LONGEST_FUNCTION = 80
MOST_MODULES = 24
MODULES = sorted((TOP / "toolkit").rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_module_is_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LIMIT, f"{lines} lines: a module that outgrows {LIMIT} is two modules"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_functions_are_short(path: Path) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [one for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, kinds)]
    assert [(one.name, one.lineno) for one in found if one.end_lineno - one.lineno >= LONGEST_FUNCTION] == []


def test_folders_can_be_read_at_a_glance() -> None:
    """But for the runtime's own, which part 8 takes apart."""
    folders = {path.parent for path in MODULES} - {TOP / "toolkit/runtime"}
    assert [str(folder) for folder in folders if len(list(folder.glob("*.py"))) > MOST_MODULES] == []
