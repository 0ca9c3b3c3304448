"""Every module, public class and public function says what it promises (docs/MAP.md, 'Style')."""

import ast
from collections.abc import Iterator

from tests.fixtures.sources import trees


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


def test_public_names_have_docstrings() -> None:
    assert list(undocumented(ast.parse("def f(): pass"))) == ["1: the module", "1: f"]
    assert [f"{name}:{what}" for name, tree in trees().items() for what in undocumented(tree)] == []
