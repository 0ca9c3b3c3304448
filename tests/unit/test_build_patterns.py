"""Patterns of .dockerignore and COPY."""

import fnmatch
import itertools
import re
import signal

import pytest

from toolkit.image.build import ignore


@pytest.mark.parametrize("pattern", ["*a*b", "a*a*", "*ab*a*", "*?a*b", "*[ab]a*?", "**a*b", "*a*"])
def test_several_stars_in_a_name(pattern: str) -> None:
    ours = re.compile(ignore.expression(pattern), re.DOTALL)
    for length in range(7):
        for name in map("".join, itertools.product("ab", repeat=length)):
            wanted = fnmatch.fnmatchcase(name, pattern.removeprefix("**"))
            assert bool(ours.fullmatch(name)) == wanted, name
            assert not ours.fullmatch(f"{name}/{name}") or pattern.startswith("**")


def test_a_strangers_pattern_takes_no_years() -> None:
    matches = re.compile(ignore.expression("*a" * 20 + "*b/*a*a*a*b"))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(5)
    try:
        assert not matches.fullmatch("a" * 255)
        assert matches.fullmatch("a" * 250 + "b/aaab")
    except KeyboardInterrupt:
        pytest.fail("it takes more than five seconds")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
