"""Every module, public class and public function says what it promises (docs/MAP.md, 'Style')."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def undocumented(tree: ast.Module) -> Iterator[str]:
    if tree.body and not ast.get_docstring(tree):
        yield "1: the module"
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        # A class of an error tree is documented by the tree in the module's docstring.
        drawn = isinstance(node, ast.ClassDef) and node.name in (ast.get_docstring(tree) or "")
        if not ast.get_docstring(node) and not drawn:
            yield f"{node.lineno}: {node.name}"


@pytest.mark.parametrize("path", sorted((TOP / "toolkit").rglob("*.py")), ids=lambda path: str(path.relative_to(TOP)))
def test_public_names_have_docstrings(path: Path) -> None:
    assert list(undocumented(ast.parse(path.read_text()))) == []
