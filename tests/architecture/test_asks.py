"""docs/asks.md answers every ask, and the tests that it names are there."""

import re
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_every_ask_is_answered_by_a_test_that_there_is_or_a_reason() -> None:
    rows = re.findall(r"^\| A(\d+) \|(.*)\|(.*)\|(.*)\|$", (TOP / "docs/asks.md").read_text(), re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(1, 41))
    for number, ask, answer, tests in rows:
        assert ask.strip() and answer.strip(), number
        for name in filter(None, (word.strip() for word in tests.split(","))):
            file, _, function = name.partition("::")
            assert f"\ndef {function}(" in (TOP / "tests" / file).read_text(), f"A{number}: {name}"
        assert tests.strip() or "network" in answer or "port" in answer or "packet" in answer, number
