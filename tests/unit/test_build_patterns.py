"""Patterns of .dockerignore and COPY."""

import fnmatch
import itertools
import re
import signal

import pytest

from toolkit.image.build import ignore
from toolkit.image.build.glob import Pattern, Text


def matches(pattern: str, text: str) -> bool:
    return Pattern(pattern).matches(Text(text))


@pytest.mark.parametrize("pattern", ["*a*b", "a*a*", "*ab*a*", "*?a*b", "*[ab]a*?", "**a*b", "*a*"])
def test_several_stars_in_a_name(pattern: str) -> None:
    for length in range(7):
        for name in map("".join, itertools.product("ab", repeat=length)):
            assert matches(pattern, name) == fnmatch.fnmatchcase(name, pattern.removeprefix("**")), name
            assert not matches(pattern, f"{name}/{name}") or pattern.startswith("**")


# What moby/patternmatcher makes of `**`, as a regular expression.
FOLDERS = {
    "**": ".*", "**/a": "(?:.*/)?a", "a/**": "a/.*", "a/**/b": "a/(?:.*/)?b", "**a": "(?:.*/)?a", "a**b": "a(?:.*/)?b",
    "**/*a": "(?:.*/)?[^/]*a", "**/a/**": "(?:.*/)?a/.*", "**a**b": "(?:.*/)?a(?:.*/)?b",
    "*/**/?": "[^/]*/(?:.*/)?[^/]",    "**/": "(?:.*/)?", "a*/**b": "a[^/]*/(?:.*/)?b",
}  # fmt: skip


@pytest.mark.parametrize("pattern", FOLDERS)
def test_any_number_of_folders(pattern: str) -> None:
    wanted = re.compile(FOLDERS[pattern])
    for length in range(7):
        for path in map("".join, itertools.product("ab/", repeat=length)):
            assert matches(pattern, path) == bool(wanted.fullmatch(path)), path


@pytest.mark.parametrize(("pattern", "fits", "fits_not"), [
    ("[a-c]x", "bx", "dx"), ("[^a-c]x", "dx", "bx"), ("[^a]", "b", "/"), (r"a\*", "a*", "ab"), ("[]a]", "a", "b"),
    ("?", "a", "/"), ("a.c", "a.c", "abc"), ("*", "a\n", "a/"), ("ä?", "äö", "ä"), (r"[\]]", "]", "a"),
    ("", "", "a"),
])  # fmt: skip
def test_classes_and_single_characters(pattern: str, fits: str, fits_not: str) -> None:
    assert matches(pattern, fits)
    assert not matches(pattern, fits_not)


@pytest.mark.parametrize("pattern", ["[a", "a\\", "[b-a]", "[]"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(re.error):
        Pattern(pattern)


@pytest.mark.parametrize(("pattern", "fits", "fits_not"), [
    ("*a" * 20 + "*b/*a*a*a*b", "a" * 250 + "b/aaab", "a" * 255),
    ("**a" * 20 + "**b", "a/" * 100 + "a" * 20 + "b", "a/" * 2000),
    ("**/a/" * 20 + "b", "a/" * 100 + "b", "a/" * 2000),
    ("*?" * 30 + "b", "a" * 100 + "b", "a" * 255),
], ids=lambda text: text[:9])  # fmt: skip
def test_a_strangers_pattern_takes_no_years(pattern: str, fits: str, fits_not: str) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(5)
    try:
        assert not matches(pattern, fits_not)
        assert matches(pattern, fits)
    except KeyboardInterrupt:
        pytest.fail("it takes more than five seconds")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_the_last_line_that_matches_counts() -> None:
    ignored = ignore.read("**/*.pyc\n!keep/**\nkeep/x\n", "it")
    for path, out in (("a/b.pyc", True), ("keep/b.pyc", False), ("keep/x", True), ("a/b", False)):
        assert ignored.is_out(ignored.marks(path, ignored.top)) == out, path
