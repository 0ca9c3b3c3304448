"""No module outgrows one screen of thought: 450 lines at most, 400 is the aim (docs/MAP.md)."""

from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
LIMIT = 450


@pytest.mark.parametrize("path", sorted((TOP / "toolkit").rglob("*.py")), ids=lambda path: str(path.relative_to(TOP)))
def test_module_is_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LIMIT, f"{lines} lines: a module that outgrows {LIMIT} is two modules"
