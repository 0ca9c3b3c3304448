"""docs/security.md tells what is defended: each test and each file that it names exists, each row names a test."""

import fnmatch
import re
from pathlib import Path

from tests.fixtures.sources import TOP, names_of_tests

PAGE = (TOP / "docs/security.md").read_text()
FILES = {path.relative_to(TOP / "tests").as_posix(): path for path in (TOP / "tests").rglob("test_*.py")}


def files(name: str) -> list[Path]:
    """The test files that a name means: a path below the repository, or a bare name, of tests/security's first."""
    name = name.removeprefix("tests/")
    if "security/" + name in FILES:
        return [FILES["security/" + name]]
    return [path for known, path in FILES.items() if known == name or known.rpartition("/")[2] == name]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    lines = PAGE[PAGE.index(f"## {heading}\n") :].split("\n| ", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:]]


def test_each_test_that_is_named_exists() -> None:
    everywhere = [name for path in (TOP / "tests/security").glob("test_*.py") for name in names_of_tests(path)]
    named = 0
    for word in re.findall(r"`([^`\s]+)`", PAGE):
        file, _, function = word.partition("::")
        if file.startswith("test_") and not file.endswith(".py"):
            file, function = "", file
        if file and not file.rpartition("/")[2].startswith("test_"):
            if re.fullmatch(r"[a-z_]+/[a-z_/]+\.py", file):  # a module of ours
                assert (TOP / "toolkit" / file).is_file() or (TOP / file).is_file(), word
            continue
        named += 1
        found = files(file) if file else []
        assert len(found) == 1 or not file, f"{word}: {len(found)} files of that name"
        known = names_of_tests(found[0]) if found else everywhere
        assert not function or fnmatch.filter(known, function), word
    assert named > 50, "the page's form has changed: this test reads nothing of it"


def test_each_row_of_the_runtime_names_a_test() -> None:
    for heading in (
        "The runtime",
        "Networks (A)",
        "What Python adds",
        "Documents, layouts and archives of images (D)",
        "Registries (R)",
        "The store of images (I)",
    ):
        for row in rows(heading):
            assert len(row) == 3, row
            assert "test_" in row[2] or "the runtime deletes" in row[2], row
