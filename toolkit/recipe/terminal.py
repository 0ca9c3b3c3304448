"""A shell on a pseudo-terminal, into which the commands of a recipe are typed."""

import errno
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable

from toolkit.errors import CtkError, reason
from toolkit.recipe.room import Room, fresh

# Control sequences (ECMA-48): CSI, OSC ended by BEL or ST, and two-character escapes.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|\x1b[@-Z\\-_=>]|[\x07\x0f\x0e]", re.DOTALL)
# What our shell prints instead of a prompt. Programs do not print record separators (\x1e) by accident.
_MARK = re.compile(r"\x1ectk (\d+)\x1e")
_AT_PROMPT = re.compile(r"[#$>] ?$")
_QUIET_S = 0.3

Watch = Callable[[str], None]


def readable(raw: str) -> list[str]:
    """Terminal output as lines of text: without control sequences, and with the last version of overwritten lines."""
    lines = []
    for line in _CONTROL.sub("", raw).replace("\r\n", "\n").split("\n"):
        parts = [part for part in line.split("\r") if part]
        lines.append(parts[-1].rstrip() if parts else "")
    while lines and not lines[-1]:
        lines.pop()
    return lines


class Terminal:
    """A bash in `room` that we type into and read from. `watch` gets its output; `size` is (columns, rows)."""

    def __init__(self, folder: str, room: Room, watch: Watch, size: tuple[int, int]):
        self._watch: Watch = _unseen
        self._unread = ""
        self.busy = False  # whether a program that we started is waiting at its own prompt
        master, slave = pty.openpty()
        try:
            termios.tcsetwinsize(slave, (size[1], size[0]))
            _echo_off(slave)  # the recipe has shown the command already
            self._shell = subprocess.Popen(
                ["bash", "--norc", "--noprofile", "--noediting", "+H", "-i"],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=folder,
                env=room.environment | {"HISTFILE": ""},
                start_new_session=True,
                preexec_fn=_take_terminal,  # safe: no thread runs in a recipe's player
            )
        except OSError as error:
            os.close(master)
            raise CtkError("start bash for the recipe", because=reason(error)) from None
        finally:
            os.close(slave)
        self._master = master
        room.group.take(self._shell.pid)
        # Not exported: a shell that a step starts must show its own prompt.
        self._write("PS1= PS2= PROMPT_COMMAND='printf \"\\036ctk %d\\036\" $?'\n")
        self._until_mark(10.0)
        self._watch = watch

    def run(self, text: str, timeout_s: float, *, interactive: bool = False) -> tuple[list[str], int | None]:
        """Type a command. Returns its output and exit code; the code is None if it waits at a prompt (`interactive`).

        Raises TimeoutError if neither happens within `timeout_s`.
        """
        # For a program that we type into, the terminal echoes what is typed, as usual. Otherwise echo is off.
        self._write(("stty echo; " if interactive else "") + text + "\n")
        raw, code = self._until_mark(timeout_s, or_prompt=interactive)
        self.busy = code is None
        lines = readable(raw)
        if self.busy and lines:
            lines.pop()  # the program's prompt
        return lines, code

    def type(self, text: str, timeout_s: float) -> tuple[list[str], int | None]:
        """Type a line into the running program. Returns the output until its next prompt, and the exit code at its end.

        The terminal echoes what we type; that first line is not part of the output.
        """
        self._write(text + "\n")
        raw, code = self._until_mark(timeout_s, or_prompt=True)
        self.busy = code is None
        lines = readable(raw)
        if lines and lines[0].endswith(text):
            lines.pop(0)
        if self.busy and lines:
            lines.pop()
        return lines, code

    def folder(self) -> str:
        """The shell's current folder."""
        return os.readlink(f"/proc/{self._shell.pid}/cwd")

    def interrupt(self) -> None:
        """Send Ctrl-C, as from a keyboard."""
        self._write("\x03")

    def close(self) -> None:
        """End the shell and its foreground programs: by SIGHUP, then SIGKILL."""
        foreground = 0
        try:
            foreground = os.tcgetpgrp(self._master)
        except OSError:
            pass
        os.close(self._master)  # the kernel sends SIGHUP to the foreground group
        try:
            self._shell.wait(3.0)
        except subprocess.TimeoutExpired:
            for group in {foreground, self._shell.pid} - {0}:
                try:
                    os.killpg(group, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._shell.wait()

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._master, data) :]

    def _until_mark(self, timeout_s: float, *, or_prompt: bool = False) -> tuple[str, int | None]:
        """Output up to our shell's mark, and the exit code in it; with `or_prompt`, also up to a prompt and silence."""
        ends_s = time.monotonic() + timeout_s
        while True:
            if mark := _MARK.search(self._unread):
                raw, self._unread = self._unread[: mark.start()], self._unread[mark.end() :]
                _echo_off(self._master)
                return raw, int(mark[1])
            left_s = ends_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"no end within {timeout_s:.0f} s")
            ready, _, _ = select.select([self._master], [], [], min(left_s, _QUIET_S))
            if ready:
                self._take()
            elif or_prompt and _AT_PROMPT.search(_CONTROL.sub("", self._unread)[-80:]):
                raw, self._unread = self._unread, ""
                return raw, None

    def _take(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""  # EIO: no process has the other side open any more (pty(7))
        if not data:
            raise CtkError("play the recipe", because="its shell ended", hint="a step must not exit the shell itself")
        text = data.decode(errors="replace")
        self._unread += text
        self._watch(_MARK.sub("", text))


def _echo_off(terminal: int) -> None:
    settings = termios.tcgetattr(terminal)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, settings)


def _unseen(_: str) -> None:
    """Drop output: what the shell prints before it is set up is not shown."""


def _take_terminal() -> None:
    """Called in the child: make its standard input the controlling terminal of its new session."""
    import fcntl

    fresh()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
