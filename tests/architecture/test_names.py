"""A folder's name says what is in it: a drawer named for nothing in particular collects everything."""

from pathlib import Path

TOP = Path(__file__).parents[2]
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "shared", "lib"}


def test_no_drawer() -> None:
    found = [
        str(path.relative_to(TOP))
        for folder in ("toolkit", "tests", "scripts")
        for path in (TOP / folder).rglob("*")
        if path.stem in DRAWERS
    ]
    assert not found
