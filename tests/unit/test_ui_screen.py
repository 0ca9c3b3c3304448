"""The screen is a fold over the events; what is drawn follows from the state alone."""

import io

from rich.console import Console

from toolkit.events import Done, Event, Finished, Line, Note, Planned, Progressed, Started
from toolkit.ui.live import ending, picture
from toolkit.ui.plain import PlainLines, heartbeat, lines
from toolkit.ui.quantity import amount, size, span
from toolkit.ui.screen import Screen, step

PLAN = Planned((("download", "Download"), ("unpack", "Unpack")))


def fold(*events: tuple[float, Event]) -> Screen:
    screen = Screen()
    for at_s, event in events:
        screen = step(screen, event, at_s)
    return screen


def drawn(screen: Screen, at_s: float, *, width: int = 100, failed: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, highlight=False)
    console.print(picture(screen, at_s, failed=failed, width=width))
    return out.getvalue()


def test_a_stage_goes_from_waiting_to_running_to_done() -> None:
    assert [stage.status for stage in fold((0, PLAN)).stages] == ["waiting", "waiting"]
    running = fold((0, PLAN), (1, Started("download", 100, "bytes")), (2, Progressed("download", 40)))
    assert running.stage("download").status == "running"
    assert (running.stage("download").done, running.stage("download").total) == (40, 100)
    done = step(running, Finished("download", 1.5, "100 bytes"), 2.5)
    assert done.stage("download").status == "done"
    assert done.stage("unpack").status == "waiting"
    assert step(done, Finished("unpack", 0, skipped=True), 3).stage("unpack").status == "skipped"


def test_two_stages_run_side_by_side() -> None:
    screen = fold(
        (0, PLAN),
        (1, Started("download", 10, "bytes")),
        (1, Started("unpack", 4, "packages")),
        (2, Progressed("unpack", 1)),
        (2, Progressed("download", 5)),
    )
    assert [stage.status for stage in screen.stages] == ["running", "running"]
    assert "1 of 4 packages" in drawn(screen, 2.0)


def test_a_second_plan_adds_its_stages_and_an_unplanned_stage_is_shown_too() -> None:
    screen = fold((0, PLAN), (1, Planned((("unpack", "again"), ("spec", "Describe")))), (2, Started("odd")))
    assert [stage.name for stage in screen.stages] == ["download", "unpack", "spec", "odd"]
    assert screen.stage("unpack").title == "Unpack"


def test_what_was_planned_for_later_comes_behind_what_a_second_plan_puts_before_it() -> None:
    screen = fold((0, PLAN), (1, Started("download")), (2, Planned((("copy", "Copy"), ("unpack", "Unpack")))))
    assert [stage.name for stage in screen.stages] == ["download", "copy", "unpack"]
    assert screen.stage("download").status == "running"


def test_the_rate_is_that_of_the_last_seconds_not_of_the_whole_stage() -> None:
    fast = [(float(s), Progressed("download", s * 1000)) for s in range(1, 11)]
    slow = [(10.0 + s, Progressed("download", 10_000 + s * 10)) for s in range(1, 6)]
    screen = fold((0, PLAN), (0, Started("download", 100_000, "bytes")), *fast)
    assert screen.stage("download").rate() == 1000
    for at_s, event in slow:
        screen = step(screen, event, at_s)
    assert screen.stage("download").rate() == 10


def test_the_picture_shows_amounts_rate_and_elapsed_time() -> None:
    screen = fold(
        (0, PLAN),
        (0, Started("download", 32_000_000, "bytes")),
        (1, Progressed("download", 8_000_000, item="libc6")),
        (2, Progressed("download", 16_000_000, item="perl-base")),
    )
    text = drawn(screen, 2.0, width=120)
    assert "16.0 MB of 32.0 MB" in text
    assert "8.0 MB/s" in text
    assert "perl-base" in text
    assert "2.0 s elapsed" in text
    assert "Unpack" in text


def test_the_picture_never_is_wider_than_the_terminal() -> None:
    screen = fold(
        (0, PLAN), (0, Started("download", 9, "bytes")), (1, Progressed("download", 3, item="x" * 300)),
        (2, Started("unpack")), (3, Finished("unpack", 1.0, "y" * 300)),
    )  # fmt: skip
    for width in (40, 60, 80, 200):
        assert max(map(len, drawn(screen, 3.0, width=width).splitlines())) <= width


def test_a_failed_stage_is_marked_and_the_finished_ones_are_not() -> None:
    screen = fold((0, PLAN), (0, Started("download")), (1, Finished("download", 1.0)), (1, Started("unpack")))
    text = drawn(screen, 2.0, failed=True)
    assert "✓ Download" in text
    assert "✗ Unpack" in text


def test_what_was_never_begun_does_not_stand_between_a_failure_and_its_error() -> None:
    assert drawn(fold((0, PLAN)), 1.0, failed=True).strip() == ""
    began = drawn(fold((0, PLAN), (0, Started("download"))), 1.0, failed=True)
    assert "✗ Download" in began and "Unpack" not in began


def test_the_end_names_the_lines_to_type_next() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(ending(Done("made [it]", 61.0, next_steps=("ctk run x",))))
    assert "made [it] (1 min 01 s)" in out.getvalue()
    assert "ctk run x" in out.getvalue()


def test_plain_output_is_one_line_a_fact() -> None:
    out = io.StringIO()
    with PlainLines(out) as emit:
        for event in (
            PLAN,
            Started("download", 10, "bytes"),
            Progressed("download", 5),
            Line("download", "noise"),
            Finished("download", 1.25, "10 B"),
            Finished("unpack", 0.0, skipped=True),
            Note("careful", warning=True),
            Done("all there", 2.0, next_steps=("ctk run x",)),
        ):
            emit(event)
    assert out.getvalue().splitlines() == [
        "ctk: [1/2] Download: 10 B (1.2 s)",
        "ctk: [2/2] Unpack: already there",
        "ctk: warning: careful",
        "ctk: all there (2.0 s)",
        "ctk: next:",
        "ctk:   ctk run x",
    ]


def test_verbose_output_shows_the_programs_lines() -> None:
    assert lines(Line("configure", "Setting up libc6\n"), Screen(), verbose=True) == ["  Setting up libc6"]
    assert lines(Line("configure", "Setting up libc6\n"), Screen()) == []


def test_a_long_stage_says_how_far_it_is() -> None:
    screen = fold((0, PLAN), (0, Started("download", 2_000_000, "bytes")), (1, Progressed("download", 500_000)))
    assert heartbeat(screen, "download") == "[1/2] Download: 500 kB of 2.0 MB so far"


def test_quantities_are_rounded_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 31_900_000, 123_456_789)] == ["0 B", "999 B", "1.0 kB", "31.9 MB", "123 MB"]
    assert size(999_999) == "1.0 MB"
    assert amount(63436, "packages") == "63 436 packages"
    assert [span(s) for s in (0.04, 9.96, 59.6, 185)] == ["0.0 s", "10 s", "1 min 00 s", "3 min 05 s"]
