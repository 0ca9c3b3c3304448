"""No module of toolkit/ needs itself to be imported first, however long the way round and however late the import."""

import ast

from tests.fixtures.sources import MODULES, trees

DOTTED = {name: name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in MODULES}


def test_no_import_goes_round():
    modules = set(DOTTED.values())
    graph = {DOTTED[name]: _imports(tree, modules) - {DOTTED[name]} for name, tree in trees().items()}
    assert len(graph) > 300
    assert _rounds(graph) == []


def test_a_round_would_be_found():
    assert _rounds({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def _imports(tree, modules):
    """What it imports, at the top or in a function; types for the checker only are left out."""
    found = set()

    def look(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                continue  # no import is in one
            if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.ImportFrom) and child.module:
                for name in child.names:
                    whole = f"{child.module}.{name.name}"
                    found.add(whole if whole in modules else child.module)
            elif isinstance(child, ast.Import):
                found.update(name.name for name in child.names)
            look(child)

    look(tree)
    return found & modules


def _rounds(graph):
    """The groups of nodes that reach each other (Tarjan 1972)."""
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found
