"""The tables of machine code in the tree are what the compiler makes of the sources beside them."""

import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parents[2]


def script() -> Any:
    loader = importlib.machinery.SourceFileLoader("scripts_assemble", str(TOP / "scripts/assemble"))
    spec = importlib.util.spec_from_loader("scripts_assemble", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


ASSEMBLE = script()


@pytest.mark.parametrize("machine", ASSEMBLE.COMPILERS)
@pytest.mark.parametrize("table", ASSEMBLE.TABLES, ids=lambda table: table.path)
def test_it_is_what_the_source_gives(machine: str, table: Any) -> None:
    scope: dict[str, Any] = {}
    exec((TOP / table.path).read_text(), scope)
    made = ASSEMBLE.assemble(machine, table, checking=True)
    if made is None:
        pytest.skip(f"no {ASSEMBLE.COMPILERS[machine][0]} of release {ASSEMBLE.GCC} here, which the table is made with")
    assert made == scope["CODE"][machine], "run scripts/assemble"
