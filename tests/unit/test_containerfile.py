"""Containerfiles: what is read from their text, and what is refused in it, with its line."""

import re

import pytest

from toolkit.errors import CtkError, Invalid, NotFound
from toolkit.image.build import ignore, instructions, lines, stages, words
from toolkit.image.build.instructions import Command, Copy, From, Pairs, Parsed, Run, Words
from toolkit.image.build.lines import Where
from toolkit.image.build.words import Scope
from toolkit.image.document.platform import Platform

HOST = Platform("linux", "amd64", "")
WHERE = Where("Containerfile", 7)


def parsed(text: str) -> Parsed:
    return instructions.read(lines.read(text.encode(), "Containerfile"))


def only(text: str) -> instructions.Instruction:
    """The instruction after a FROM."""
    return parsed("FROM scratch\n" + text).instructions[1]


def raw(text: str) -> list[tuple[int, str, str]]:
    return [(one.where.line, one.name, one.rest) for one in lines.read(text.encode(), "f").lines]


# ---- lines


@pytest.mark.parametrize(
    "text, found",
    [
        ("FROM a\nRUN b", [(1, "FROM", "a"), (2, "RUN", "b")]),
        ("\ufefffrom a\r\nrun  b \r\n", [(1, "FROM", "a"), (2, "RUN", "b")]),
        ("# c\n\n  # d\n  FROM\ta\n", [(4, "FROM", "a")]),
        ("RUN a \\\n  b\\\nc", [(1, "RUN", "a   bc")]),
        ("RUN a \\  \n# c\n\n  # d\n b", [(1, "RUN", "a  b")]),
        ("RUN a \\", [(1, "RUN", "a")]),
        ("RUN a \\\\\nRUN b", [(1, "RUN", "a \\\\"), (2, "RUN", "b")]),
        ("# escape=`\nRUN a `\nb\\\nRUN c", [(2, "RUN", "a b\\"), (4, "RUN", "c")]),
        ("# a comment\n# escape=`\nRUN a \\\nb", [(3, "RUN", "a b")]),
        ("# syntax=docker/dockerfile:1\n# Escape = `\nRUN a`\nb", [(3, "RUN", "ab")]),
        ("RUN a # not a comment", [(1, "RUN", "a # not a comment")]),
    ],
)
def test_lines(text: str, found: list[tuple[int, str, str]]) -> None:
    assert raw(text) == found


def test_heredocs() -> None:
    found = lines.read(b"RUN <<A cat <<-'B'\n1 $x\nA\n\t2\n\tB\nRUN c <<<d\n", "f").lines
    assert [one.rest for one in found] == ["<<A cat <<-'B'", "c <<<d"]
    assert [(one.name, one.content, one.expand) for one in found[0].heredocs] == [
        ("A", "1 $x\n", True),
        ("B", "2\n", False),
    ]
    assert not found[1].heredocs


@pytest.mark.parametrize(
    "text, because",
    [
        (b"RUN a\nRUN \xff", "f:2: it is not UTF-8"),
        (b"RUN a\0", "f:1: there is a NUL byte"),
        (b"# escape=x\n", "f:1: the escape character is 'x'"),
        (b"# escape=`\n# escape=`\n", "f:2: the directive 'escape' is there twice"),
        (b"RUN <<E\nb\n", "f:1: the here-document has no end"),
        (b"COPY --chown='a b c\n", "f:1: a quote ' is not closed"),
        (b"1 a\n", "f:1: '1' is not an instruction"),
        (b"#" * (5 << 20), "f: it has 5242880 bytes"),
    ],
)
def test_lines_that_are_refused(text: bytes, because: str) -> None:
    with pytest.raises(Invalid, match=re.escape(because)):
        lines.read(text, "f")


# ---- words

VALUES = {"a": "A", "empty": "", "blanks": "x  y", "dollar": "$a"}


@pytest.mark.parametrize(
    "text, found",
    [
        ("$a", "A"),
        ("${a}b", "Ab"),
        ("$ab", ""),
        ("$a.b-$a", "A.b-A"),
        ("$", "$"),
        ("$1 $", "$1 $"),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ('"$a"', "A"),
        ('"\\$a \\" \\x"', '$a " \\x'),
        ("\\x", "x"),
        ("a\\ b", "a b"),
        ("$dollar", "$a"),
        ("${none:-d}", "d"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${a:-d}", "A"),
        ("${a:+d}", "d"),
        ("${empty:+d}", ""),
        ("${empty+d}", "d"),
        ("${none+d}", ""),
        ("${none:-${a}$a}", "AA"),
        ("${none:-'}'}", "}"),
        ("${none:-${none:-x}}y", "xy"),
        ("${a:?no}", "A"),
        ("it''s", "its"),
    ],
)
def test_variables(text: str, found: str) -> None:
    assert words.expand(text, Scope(VALUES, "\\", WHERE)) == found


@pytest.mark.parametrize(
    "text, because",
    [
        ("${a", "Containerfile:7: ${a…}"),
        ("${a:-b", "a { is not closed"),
        ("${}", "${ is followed by no name"),
        ("${a#b}", "patterns can't be used here"),
        ("${none:?say it}", "Containerfile:7: none: say it"),
        ("'a", "a quote ' is not closed"),
        ('"a', 'a quote " is not closed'),
    ],
)
def test_words_that_are_refused(text: str, because: str) -> None:
    with pytest.raises(Invalid, match=re.escape(because)):
        words.expand(text, Scope(VALUES, "\\", WHERE))


def test_words_are_divided_outside_quotes() -> None:
    assert list(words.raw('a \'b c\' "d \\" e" f\\ g ', "\\", WHERE)) == ["a", "'b c'", '"d \\" e"', "f\\ g"]
    assert words.expand_words("$blanks 'a'", Scope(VALUES, "\\", WHERE)) == ["x", "y", "a"]
    assert words.expand_only("'$a' \"$empty\" \\$a \\n", Scope(VALUES, "\\", WHERE)) == "'A' \"\" $a \\n"


# ---- instructions


def test_instructions() -> None:
    one = only("COPY --from=b --chown=1:2 --chmod=640 --link a 'b c' d/")
    assert isinstance(one, Copy)
    assert (one.sources, one.target, one.source_image, one.owner, one.mode) == (("a", "'b c'"), "d/", "b", "1:2", "640")
    one = only('COPY ["a b", "c\'d"]')
    assert isinstance(one, Copy)
    assert [words.expand(word, Scope({}, "\\", WHERE)) for word in (*one.sources, one.target)] == ["a b", "c'd"]
    one = only('RUN ["a", "b c"]')
    assert isinstance(one, Run) and one.argv == ("a", "b c")
    one = only("RUN --network=none [ a ]")
    assert isinstance(one, Run) and (one.argv, one.text, one.network) == ((), "[ a ]", "none")
    one = only("RUN <<E\na\nb\nE")
    assert isinstance(one, Run) and one.text == "a\nb\n"
    one = only("RUN cat <<E >x\na\nE")
    assert isinstance(one, Run) and one.text == "cat <<E >x\na\nE\n"
    one = only("ENV a=1 b='2 3'\tc=")
    assert isinstance(one, Pairs) and one.pairs == (("a", "1"), ("b", "'2 3'"), ("c", ""))
    one = only("ENV a b  c=d")
    assert isinstance(one, Pairs) and one.pairs == (("a", "b  c=d"),)
    one = only("CMD a 'b'")
    assert isinstance(one, Command) and (one.argv, one.text) == ((), "a 'b'")
    one = only("ENTRYPOINT []")
    assert isinstance(one, Command) and (one.argv, one.text) == ((), None)
    one = only('VOLUME ["/a b"]')
    assert isinstance(one, Words) and one.words == ("/a b",)
    first = parsed("FROM --platform=linux/amd64 a:b AS Name").instructions[0]
    assert isinstance(first, From) and (first.image, first.platform, first.name) == ("a:b", "linux/amd64", "name")


def test_what_an_oci_image_has_no_place_for_is_left_out() -> None:
    found = parsed("FROM a\nHEALTHCHECK CMD true\nONBUILD RUN b")
    assert len(found.instructions) == 1
    assert [text[:40] for text in found.warnings] == [
        "Containerfile:2: HEALTHCHECK is left out",
        "Containerfile:3: ONBUILD is left out: an",
    ]


@pytest.mark.parametrize(
    "text, because",
    [
        ("FETCH a", "Containerfile:2: FETCH is not an instruction"),
        ("RUN --mount=type=cache,target=/x a", "Containerfile:2: --mount: ctk does not do this"),
        ("RUN --security=insecure a", "--security: "),
        ("RUN --network=other a", "--network=other"),
        ("RUN", "RUN needs a command"),
        ("COPY a", "COPY needs a source and a target"),
        ("COPY --parents a b", "--parents: "),
        ("COPY --chown a b", "--chown has no value"),
        ("COPY --chown=1 --chown=2 a b", "--chown is there twice"),
        ("COPY --colour=red a b", "COPY has no such flag"),
        ("ADD https://example.org/a b", "Containerfile:2: ctk does not fetch 'https://example.org/a'"),
        ("ADD git@example.org:a b", "ctk does not fetch"),
        ("ADD --from=a b c", "--from: ADD has no such flag"),
        ("ENV a", "ENV a has no value"),
        ("ENV a=1 b", "'b' is not KEY=VALUE"),
        ("SHELL /bin/sh", "SHELL needs a JSON array"),
        ("USER a b", "USER has 2 words"),
        ("WORKDIR", "WORKDIR needs a value"),
        ("FROM a b", "FROM IMAGE, or FROM IMAGE AS NAME"),
        ("FROM a AS 1x", "'1x' can't be the name of a stage"),
        ("FROM a AS scratch", "'scratch' can't be"),
    ],
)
def test_instructions_that_are_refused(text: str, because: str) -> None:
    with pytest.raises(Invalid) as caught:
        only(text)
    assert because in f"{caught.value} ({caught.value.hint})"


def test_only_arg_stands_before_from() -> None:
    with pytest.raises(Invalid, match="f:1: RUN stands before the first FROM"):
        instructions.read(lines.read(b"RUN a\nFROM b", "f"))


@pytest.mark.parametrize(
    "text, found", [("80", ["80/tcp"]), ("53/UDP", ["53/udp"]), ("8000-8002", ["8000/tcp", "8001/tcp", "8002/tcp"])]
)
def test_ports(text: str, found: list[str]) -> None:
    assert list(instructions.ports(text, WHERE)) == found


@pytest.mark.parametrize("text", ["x", "70000", "8-7", "80/ip", "", "1:2"])
def test_ports_that_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        list(instructions.ports(text, WHERE))


# ---- stages


def planned(text: str, target: str = "", **given: str) -> stages.Plan:
    return stages.plan(parsed(text), given, HOST, "Containerfile", target)


THREE = """ARG v=1
FROM base:$v AS One
RUN a
FROM scratch AS two
COPY --from=one /a /b
FROM two
COPY --from=docker.io/library/busybox /a /b
"""


def test_stages() -> None:
    found = planned(THREE)
    assert [(one.title, one.base) for one in found.stages] == [("one", "base:1"), ("two", "scratch"), ("stage 2", 1)]
    assert planned(THREE, v="3").stages[0].base == "base:3"
    assert [one.title for one in planned(THREE, "one").stages] == ["one"]
    assert [one.title for one in planned(THREE.replace("--from=one ", "")).stages] == ["two", "stage 2"]
    assert [one.number for one in planned(THREE, "1").stages] == [0, 1]


def test_platforms() -> None:
    assert planned("FROM --platform=$BUILDPLATFORM a-$TARGETARCH").stages[0].base == "a-amd64"
    with pytest.raises(Invalid, match="Containerfile:1: --platform=linux/arm64: this machine is linux/amd64"):
        planned("FROM --platform=linux/arm64 a")


@pytest.mark.parametrize(
    "text, target, kind, because",
    [
        ("ARG a\nFROM $a", "", Invalid, "Containerfile:2: '$a' is empty here"),
        ("ARG a=1", "", Invalid, "it has no FROM"),
        ("FROM a AS b\nFROM a AS b", "", Invalid, "Containerfile:2: there is a stage 'b' already"),
        ("FROM a AS b", "c", NotFound, "build the stage 'c' of Containerfile: it has b"),
    ],
)
def test_stages_that_are_refused(text: str, target: str, kind: type[CtkError], because: str) -> None:
    with pytest.raises(kind, match=re.escape(because)):
        planned(text, target)


# ---- files that are left out


@pytest.mark.parametrize(
    "pattern, path, out",
    [
        ("a", "a", True),
        ("a", "a/b", True),
        ("a", "b/a", False),
        ("/a", "a", True),
        ("a/", "a", True),
        ("./a/../b", "b", True),
        ("*.o", "x.o", True),
        ("*.o", "a/x.o", False),
        ("*/x.o", "a/x.o", True),
        ("**/x.o", "x.o", True),
        ("**/x.o", "a/b/x.o", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("**", "a/b", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a.b", "axb", False),
        ("*\n!a", "a", False),
        ("*\n!a", "b", True),
        ("!a\n*", "a", True),
        ("d\n!d/a", "d/a", False),
        ("d\n!d/a", "d/b", True),
        ("# a\n\n  b  ", "b", True),
        ("# a", "# a", False),
    ],
)
def test_ignored(pattern: str, path: str, out: bool) -> None:
    found = ignore.read(pattern, ".dockerignore")
    marks, parts = found.top, path.split("/")
    for number in range(len(parts)):
        marks = found.marks("/".join(parts[: number + 1]), marks)
    assert found.is_out(marks) is out


@pytest.mark.parametrize("text", ["a\n[", "a\nb\\", "a\n!"])
def test_patterns_that_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match=r"\.dockerignore:2: "):
        ignore.read(text, ".dockerignore")
