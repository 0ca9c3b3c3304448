"""Single keys, on a terminal of the test's own."""

import io
import os
import pty
import sys
import termios
import threading
import time
from collections.abc import Callable

import pytest

from tests.fixtures.terminal import Terminal
from toolkit.recipe.model import Step
from toolkit.ui.keys import Keys
from toolkit.ui.tutorial import TutorialScreen


def test_a_key_needs_no_enter_and_the_terminal_is_left_as_it_was() -> None:
    master, slave = pty.openpty()
    with open(slave, closefd=True) as stream:
        before = termios.tcgetattr(slave)
        os.write(master, b"typed before\n")
        time.sleep(0.05)
        with Keys(stream) as keys:
            assert keys.read(0.05) == ""
            os.write(master, b"S")
            assert keys.read(5) == "s"
            os.write(master, b"\r")
            assert keys.read(5) == "\n"
            os.write(master, b"q")
            with pytest.raises(KeyboardInterrupt):
                keys.wait(30)
            os.write(master, b"\x04")
            assert keys.read(5) == "eof"
        assert termios.tcgetattr(slave) == before
        os.close(master)


def test_what_is_no_terminal_gives_no_keys_and_waits_as_long() -> None:
    with open(os.devnull) as stream, Keys(stream) as keys:
        began = time.monotonic()
        keys.wait(0.05)
        assert time.monotonic() - began >= 0.05
        assert keys.read() == "eof"


_LIVE = """
import sys, termios
from toolkit.events import Planned, Started
from toolkit.ui import renderer
shown = lambda: bool(termios.tcgetattr(0)[3] & termios.ECHO)
with renderer(json=False, stream=sys.stderr) as emit:
    emit(Planned((("one", "First stage"),)))
    emit(Started("one"))
    within = shown()
print("echo:", within, shown(), input())
"""


def test_what_is_typed_under_a_live_picture_does_not_tear_it_and_is_not_lost(
    terminal: Callable[..., Terminal],
) -> None:
    screen = terminal([sys.executable, "-c", _LIVE])
    screen.read_until("First stage")
    screen.send("typed ahead\r")
    screen.read_until("echo: False True typed ahead")
    assert screen.wait() == 0


class _Shown(io.StringIO):
    """A screen whose reader answers `answer` as soon as the question stands there."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self._answer = answer

    def flush(self) -> None:
        if self.getvalue().rstrip().endswith("go on later"):
            self._answer()


def test_an_answer_as_quick_as_the_question_is_not_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    with open(slave, closefd=True) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        screen = TutorialScreen(_Shown(lambda: os.write(master, b"q")))
        later = threading.Timer(5, os.write, (master, b"s"))  # what a reader who waited in vain types then
        later.start()
        assert screen.ask(Step(1, "", "", None)) == "quit"
        later.cancel()
    os.close(master)
