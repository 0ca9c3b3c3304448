"""The pure parts of the everyday commands: keys, times, the log's form, names, units."""

import pytest

from toolkit.errors import CtkError, Usage
from toolkit.runtime.comfort import copying, detach_keys, ending, journal, logs, names, unit


@pytest.mark.parametrize(
    ("text", "found"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("ctrl-],x", b"\x1dx"), ("", b""), ("ctrl-@", b"\0"), ("CTRL-A", b"\x01")],
)
def test_detach_keys(text: str, found: bytes) -> None:
    assert detach_keys.keys(text) == found


@pytest.mark.parametrize("text", ["ctrl-", "ab", "ctrl-1,x", ","])
def test_no_keys(text: str) -> None:
    with pytest.raises(Usage):
        detach_keys.keys(text)


def test_keys_are_found_across_reads_and_what_only_looks_like_them_is_passed_on() -> None:
    keys = detach_keys.Keys(b"\x10\x11")
    assert keys.pressed(b"ab\x10") == (b"ab", False)
    assert keys.pressed(b"c") == (b"\x10c", False)
    assert keys.pressed(b"\x10\x10") == (b"\x10", False)
    assert keys.pressed(b"\x11zz") == (b"", True)
    assert detach_keys.Keys(b"").pressed(b"\x10\x11") == (b"\x10\x11", False)


def test_the_log_s_entries() -> None:
    lines = [
        b"2026-01-31T10:00:00.1Z stdout F whole line",
        b"2026-01-31T10:00:00.1Z stderr P begin",
        b"torn",
        b"2026-01-31T10:00:02Z stderr F  end",
        b"2026-01-31T10:00:02Z stdout F ",
    ]
    assert [(e.stream, e.data) for e in journal.parse(lines)] == [
        (1, b"whole line\n"), (2, b"begin"), (2, b" end\n"), (1, b"\n"),
    ]  # fmt: skip


def test_the_last_lines_of_the_log() -> None:
    entries = list(journal.parse([b"t stdout F 1", b"t stdout P 2a", b"t stdout F 2b", b"t stdout P 3"]))
    assert [[e.text for e in logs._last(entries, n)] for n in (0, 1, 2, 3, 9)] == [
        [],
        [b"3"],
        [b"2a", b"2b", b"3"],
        [b"1", b"2a", b"2b", b"3"],
        [b"1", b"2a", b"2b", b"3"],
    ]


def test_times() -> None:
    assert logs.moment("10m", now_ns=3600 * 10**9) == 3000 * 10**9
    assert logs.moment("1700000000") == 1700000000 * 10**9
    assert logs.moment("1970-01-01T00:01:00Z") == 60 * 10**9
    assert logs._sortable("2026-01-31T10:00:00Z") < logs._sortable("2026-01-31T10:00:00.05Z")
    with pytest.raises(Usage):
        logs.moment("yesterday")


@pytest.mark.parametrize(
    ("text", "found"),
    [("web:/etc", ("web", "/etc")), ("web:", ("web", "/")), ("./a:b", ("", "./a:b")), ("/a:b", ("", "/a:b")),
     ("-", ("", "-")), ("a/b:c", ("", "a/b:c")), ("plain", ("", "plain"))],
)  # fmt: skip
def test_which_side_of_a_copy_is_a_container(text: str, found: tuple[str, str]) -> None:
    assert copying.split(text) == found


def test_names_in_an_archive_lead_downwards() -> None:
    assert names.words("/./a//b/") == ["a", "b"]
    for name in ("..", "a/../../b", "/../x"):
        with pytest.raises(CtkError, match="leads out"):
            names.words(name)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"code": 0, "signal": 0}, ""),
        ({"code": 3, "signal": 0}, "exit code 3"),
        ({"code": 137, "signal": 9}, "killed by SIGKILL"),
        ({"code": 143, "signal": 0}, "exit code 143: a program in it was ended by SIGTERM, it says"),
        ({"code": 127, "signal": 0}, "exit code 127: a command that 'sh' ran was not found"),
        ({"code": 137, "signal": 9, "oom": {"kills": 1, "limit": 64 << 20, "peak": 64 << 20}},
         "killed by the kernel: memory limit of 64 MiB reached, peak 64 MiB"),
        ({"code": 137, "signal": 9, "oom": {"kills": 2, "limit": (1 << 63) - 4096, "peak": 0}},
         "killed by the kernel: the host was short of memory (2 times)"),
        ({"code": 137, "signal": 9, "oom": {"kills": 1, "limit": 64 << 20, "peak": 64 << 20, "before_s": 0.4}},
         "killed by the kernel: memory limit of 64 MiB reached, peak 64 MiB"),
        ({"code": 137, "signal": 9, "oom": {"kills": 1, "limit": 64 << 20, "peak": 64 << 20, "before_s": 60.2}},
         "killed by SIGKILL, not by the kernel, which killed in it 60 s before: "
         "memory limit of 64 MiB reached, peak 64 MiB"),
    ],
)  # fmt: skip
def test_reasons(facts: dict[str, object], told: str) -> None:
    assert ending.sentence(facts, {"process": {"args": ["sh"]}}) == told


def test_words_of_a_unit_are_quoted_as_systemd_reads_them() -> None:
    assert unit._line(["/bin/x", "a b", "50%", "$HOME", 'q"', "back\\slash"]) == (
        '/bin/x "a b" "50%%" $$HOME "q\\"" "back\\\\slash"'
    )
