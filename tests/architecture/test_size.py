"""No module outgrows 450 lines (400 is the aim), no function 80, no folder 24 modules (docs/MAP.md)."""

import ast

from tests.fixtures.sources import MODULES, TOP, trees

LIMIT = 450
LONGEST_FUNCTION = 80
MOST_MODULES = 24


def test_modules_are_short() -> None:
    """One that outgrows the limit is two modules."""
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert len(lines) > 300
    assert {name: count for name, count in lines.items() if count > LIMIT} == {}


def test_functions_are_short() -> None:
    found = [
        f"{name}:{node.lineno}: {node.name}"
        for name, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    ]
    assert found == []


def test_folders_can_be_read_at_a_glance() -> None:
    """But for the runtime's own, which part 8 takes apart."""
    folders = {path.parent for path in MODULES.values()} - {TOP / "toolkit/runtime"}
    assert [str(folder) for folder in folders if len(list(folder.glob("*.py"))) > MOST_MODULES] == []
