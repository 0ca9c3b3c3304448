"""Which renderer a stream gets, and what it leaves on it."""

import io
import json
import os
import select
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from tests.fixtures.waiting import until
from toolkit.errors import BuildFailed, CtkError, Invalid
from toolkit.events import Done, Finished, Note, Planned, Progressed, Started
from toolkit.ui import failure, renderer
from toolkit.ui.jsonl import JsonLines
from toolkit.ui.live import LiveScreen
from toolkit.ui.plain import PlainLines


@pytest.fixture
def screen() -> Iterator[tuple[TextIO, int]]:
    """A pty: the stream that a program writes to, and the descriptor to read what it wrote."""
    master, slave = os.openpty()
    stream = open(slave, "w", encoding="utf-8")
    yield stream, master
    stream.close()
    os.close(master)


def shown(master: int) -> str:
    """What has been written to the pty; one read(2) may give only a part of it."""
    data = b""
    while select.select([master], [], [], 0.2)[0]:
        data += os.read(master, 65536)
    return data.decode()


def test_a_pipe_gets_plain_lines_and_json_wins_over_a_terminal(screen: tuple[TextIO, int]) -> None:
    assert isinstance(renderer(json=False, stream=io.StringIO()), PlainLines)
    assert isinstance(renderer(json=True, stream=screen[0]), JsonLines)


def test_stages_that_run_at_once_are_told_in_their_order_in_a_pipe() -> None:
    out = io.StringIO()
    with pytest.raises(KeyError), renderer(json=False, stream=out) as emit:
        emit(Planned((("get", "Download"), ("lay", "Unpack"), ("set", "Configure"), ("end", "Tidy up"))))
        for name in ("get", "lay"):
            emit(Started(name))
        emit(Finished("lay", 2.0))
        emit(Note("something on the way"))
        assert "Unpack" not in out.getvalue()
        emit(Finished("get", 3.0))
        emit(Started("set"))
        emit(Started("end"))
        emit(Finished("end", 1.0))
        raise KeyError  # what is held back is told whatever happens
    told = [line.split(" (")[0] for line in out.getvalue().splitlines()]
    assert told == ["ctk: something on the way", "ctk: [1/4] Download", "ctk: [2/4] Unpack", "ctk: [4/4] Tidy up"]


def test_a_terminal_gets_the_live_screen_unless_it_is_dumb(
    screen: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(renderer(json=False, stream=screen[0]), LiveScreen)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(renderer(json=False, stream=screen[0]), PlainLines)


def test_the_live_screen_gives_the_cursor_back_after_an_interrupt(
    screen: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream, master = screen
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt), renderer(json=False, stream=stream) as emit:
        emit(Planned((("one", "First stage"),)))
        emit(Started("one"))
        raise KeyboardInterrupt
    stream.flush()
    written = shown(master)
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1
    assert written.rindex("\x1b[?25h") > written.rindex("First stage")
    assert "✗" in written
    until(lambda: threading.active_count() <= threads, "the end of its thread")


def test_events_as_json_lines_are_whole_from_many_threads() -> None:
    out = io.StringIO()
    with renderer(json=True, stream=out) as emit:
        threads = [
            threading.Thread(target=lambda: [emit(Progressed("download", n, item="é" * 50)) for n in range(50)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        emit(Done("ready", 1.0, {"packages": 3}))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(events) == 201
    assert events[-1] == {
        "event": "done", "text": "ready", "seconds": 1.0, "result": {"packages": 3}, "next_steps": [],
    }  # fmt: skip


def test_a_note_above_the_live_screen_is_not_taken_for_markup(
    screen: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream, master = screen
    with renderer(json=False, stream=stream) as emit:
        emit(Note("suite [bold]sid[/bold] moves", warning=True))
    stream.flush()
    assert "[bold]sid[/bold]" in shown(master)


def test_an_error_is_told_in_the_form_of_the_house() -> None:
    error = CtkError('bootstrap "x"', because="no such suite", hint="one\ntwo")
    assert failure.text(error) == 'ctk: bootstrap "x": no such suite\nhint: one\n      two\n'


def test_a_build_failure_shows_the_last_lines_and_the_log() -> None:
    error = BuildFailed("configure perl", because="exit 1", tail=["a", "b\n"], log="/var/log/x", hint="look")
    assert failure.text(error).splitlines() == [
        "ctk: configure perl: exit 1", "  | a", "  | b", "log: /var/log/x", "hint: look",
    ]  # fmt: skip
    assert failure.as_json(error)["tail"] == ["a", "b\n"]


def test_an_error_as_json_is_an_event() -> None:
    out = io.StringIO()
    failure.show_json(Invalid("linux.namespaces", "not a list"), stream=out)
    told = json.loads(out.getvalue())
    assert (told["event"], told["code"], told["exit_code"]) == ("failed", "E020", 1)


def test_errors_are_coloured_on_a_terminal_only(screen: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream, master = screen
    failure.show(CtkError("x", hint="y"), stream=stream)
    assert "\x1b[1;31mctk:" in shown(master)
    monkeypatch.setenv("NO_COLOR", "1")
    failure.show(CtkError("x", hint="y"), stream=stream)
    assert "\x1b" not in shown(master)
