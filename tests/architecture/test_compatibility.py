"""docs/compatibility.md tells what there is: each verb, option and field has a row, each test named there exists."""

import re
from typing import Any

from tests.fixtures.sources import TOP, names_of_tests
from toolkit.oci import schema
from toolkit.runtime.options import GLOBAL, VERBS

PAGE = (TOP / "docs/compatibility.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    lines = PAGE[PAGE.index(f"## {heading}\n") :].split("\n| ", 1)[1].split("\n\n", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]
    assert rows and len({len(row) for row in rows}) == 1, "a row has too many cells, or too few"
    return rows


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def leaves(shape: Any, path: str) -> list[str]:
    while isinstance(shape, list | tuple):
        shape = shape[0]
    if not isinstance(shape, dict):
        return [path]
    return [leaf for name, below in shape.items() for leaf in leaves(below, f"{path}.{name}" if path else name)]


def test_every_verb_and_every_option_has_a_row() -> None:
    told: dict[str, set[str]] = {}
    for verbs, options, *_ in table("Command line"):
        for verb in quoted(verbs) or ["(global)"]:
            told.setdefault(verb, set()).update(name.removeprefix("--") for name in quoted(options))
    there = {verb: {option[0] for option in row[5]} for verb, row in VERBS.items()}
    there["(global)"] = {option[0] for option in GLOBAL} | {"version", "help"}
    assert told == there


def test_every_field_has_a_row() -> None:
    told = [path for row in table("config.json") for path in quoted(row[0])]
    assert len(told) == len(set(told))
    fields = leaves(schema.SPEC, "")
    covered = {path: [leaf for leaf in fields if (leaf + ".").startswith(path + ".")] for path in told}
    assert [path for path, below in covered.items() if not below] == [], "there is no such field"
    assert sorted(set(fields) - {leaf for below in covered.values() for leaf in below}) == []


def test_every_row_names_tests_that_there_are() -> None:
    for row in table("Command line") + table("config.json"):
        names = quoted(row[-1])
        assert names, f"no test shows {row[:2]}"
        for name in names:
            path, _, function = name.partition("::")
            file = TOP / "tests" / path
            assert file.is_file(), name
            assert not function or function in names_of_tests(file), name
