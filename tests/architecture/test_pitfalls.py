"""docs/pitfalls.md answers every ask, and the tests and recipes that it names are there."""

import re
from pathlib import Path

from toolkit.recipe import shelf
from toolkit.recipe.model import Command

TOP = Path(__file__).parents[2]


def test_every_ask_is_answered_by_a_test_that_there_is_or_a_reason() -> None:
    rows = re.findall(r"^\| A(\d+) \|(.*)\|(.*)\|(.*)\|$", (TOP / "docs/pitfalls.md").read_text(), re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(1, 41))
    for number, ask, answer, tests in rows:
        assert ask.strip() and answer.strip(), number
        for name in filter(None, (word.strip() for word in tests.split(","))):
            file, _, function = name.partition("::")
            assert f"\ndef {function}(" in (TOP / "tests" / file).read_text(), f"A{number}: {name}"
        assert tests.strip() or "network" in answer or "port" in answer or "packet" in answer, number


def test_every_stumble_of_a_reader_is_shown_in_a_recipe_that_goes_on_after_it() -> None:
    rows = re.findall(
        r"^\| T(\d+) \| (.+?) \| ([a-z-]+) \| `(.+)` \|$", (TOP / "docs/pitfalls.md").read_text(), re.MULTILINE
    )
    assert [int(row[0]) for row in rows] == list(range(1, 31))
    for number, _, recipe, shown in rows:
        blocks = [step.block for step in shelf.find(recipe).steps if step.block and not step.block.cleanup]
        expected = [any(shown in line for command in block.commands for line in _expected(command)) for block in blocks]
        assert any(expected), f"T{number}: {recipe} expects no {shown!r}"
        at = expected.index(True)
        # Whether it fails on purpose or only confuses, something that works comes after it.
        assert any(not block.expect_fail for block in blocks[at:]), f"T{number}: no way out in {recipe}"


def _expected(command: Command) -> list[str]:
    return [*command.expected, *(line for inner in command.typed for line in inner.expected)]


def test_each_error_of_other_tools_for_images_is_answered_by_a_test_that_there_is() -> None:
    page = (TOP / "docs/images.md").read_text()
    rows = re.findall(r"^\| (\d+) \|(.*)\|(.*)\| (\S+) \|$", page, re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(1, 16))
    for number, _, _, name in rows:
        file, _, function = name.partition("::")
        assert f"\ndef {function}" in (TOP / "tests" / file).read_text(), f"{number}: {name}"
