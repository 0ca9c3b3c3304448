"""A folder's name says what is in it: a drawer named for nothing in particular collects everything."""

import re
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


def test_why_a_call_failed_is_spelled_once() -> None:
    """`errors.reason`: other spellings made "none" of an error without a number, and lowered the names of files."""
    spelled = re.compile(r"strerror\(error\.errno|error\.strerror\b.*lower\(\)")
    found = [
        f"{path.relative_to(TOP)}:{number}"
        for path in (TOP / "toolkit").rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if spelled.search(line) and "raise OSError(" not in line and path.name != "errors.py"
    ]
    assert not found


def test_errors_of_the_kernel_have_their_names() -> None:
    """`errno.ENOSPC`, not 28: the module is built in, so it costs the hot path nothing."""
    number = re.compile(r"errno(\", 0\))? *[!=]= *[1-9]|errno (not )?in \([1-9]|OSError\([1-9]")
    found = [str(path) for path in (TOP / "toolkit").rglob("*.py") if number.search(path.read_text())]
    assert not found
