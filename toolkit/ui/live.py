"""The live screen: the list of stages and what is in progress, drawn by rich.

A second thread redraws it while a stage sends no events (a maintainer script), so that the clock keeps running.
"""

import sys
import threading
import time
from typing import Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from toolkit.events import Done, Event, Line, Note
from toolkit.ui import printable
from toolkit.ui.keys import Quiet
from toolkit.ui.quantity import amount, part, size, span
from toolkit.ui.screen import Screen, Stage, step

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "skipped": ("✓", "dim green")}


def picture(screen: Screen, at_s: float, *, failed: bool = False, width: int = 80) -> RenderableType:
    """The screen as it looks at `at_s`; pure. `failed` marks the running stage as the one that failed."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True, min_width=18)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True, min_width=6)
    table.expand = True
    # The error follows a failure: a list of stages that were never started would only come between them.
    shown = [stage for stage in screen.stages if not failed or stage.status != "waiting"]
    if failed and not shown:
        return Group()
    for stage in shown:
        table.add_row(*_row(stage, at_s, failed, width))
    footer = Text(f"{span(max(at_s - screen.began_s, 0.0))} elapsed", style="dim")
    ended = all(stage.status in ("done", "skipped") for stage in screen.stages)
    return table if ended else Group(table, footer)


def _row(stage: Stage, at_s: float, failed: bool, width: int) -> tuple[RenderableType, ...]:
    if stage.status == "running":
        elapsed = span(max(at_s - stage.began_s, 0.0))
        if failed:
            return Text("✗", "bold red"), Text(stage.title, "bold red"), Text(stage.item), Text(elapsed, "red")
        mark = Text(_SPINNER[int(at_s * 10) % len(_SPINNER)], "cyan")
        return mark, Text(stage.title, "bold"), _under_way(stage, width), Text(elapsed, "cyan")
    mark_text, style = _MARKS[stage.status]
    detail = stage.detail
    if stage.status == "skipped":
        detail = f"already there: {detail}" if detail else "already there"
    seconds = span(stage.seconds) if stage.status == "done" else ""
    title = Text(stage.title, "dim" if stage.status == "waiting" else "")
    return Text(mark_text, style), title, Text(detail, "dim"), Text(seconds, "dim")


def _under_way(stage: Stage, width: int) -> RenderableType:
    if not stage.total:
        seen = amount(stage.done, stage.unit) if stage.done else ""
        return Text("  ".join(part for part in (seen, stage.item) if part), "cyan")
    numbers = part(stage.done, stage.total, stage.unit)
    rate = stage.rate()
    if stage.unit == "bytes" and rate:
        numbers += f"  {size(rate)}/s"
    row = Table.grid(padding=(0, 1))
    bar_width = max(8, min(24, width - 70))
    row.add_column(width=bar_width)
    row.add_column(no_wrap=True)
    row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_row(
        ProgressBar(total=stage.total, completed=min(stage.done, stage.total), width=bar_width),
        Text(numbers, "cyan"),
        Text(stage.item, "dim"),
    )
    return row


def ending(done: Done) -> RenderableType:
    """The text shown at the end of a command that succeeded."""
    text = Text.from_markup(f"[bold green]✓[/] {escape(done.text)}")
    if done.seconds:
        text.append(f" ({span(done.seconds)})", "dim")
    if done.next_steps:
        text.append("\nNext:", "bold")
        for line in done.next_steps:
            text.append(f"\n  {line}", "cyan")
    return text


class LiveScreen:
    """A context whose Emit keeps the screen up to date. Leaving it always shows the cursor again."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=False)
        self._verbose = verbose
        self._screen = Screen()
        self._failed = False
        self._lock = threading.Lock()
        self._quiet = Quiet(sys.stdin)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def _picture(self) -> RenderableType:
        return picture(self._screen, time.monotonic(), failed=self._failed, width=self._console.width)

    def __enter__(self) -> Self:
        self._quiet.start()
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._failed = kind is not None
        try:
            self._live.stop()
        finally:
            self._quiet.stop()
        if self._screen.done and not self._failed:
            self._console.print(ending(self._screen.done), soft_wrap=True)

    def __call__(self, event: Event) -> None:
        event = printable.event(event)
        with self._lock:
            self._screen = step(self._screen, event, time.monotonic())
        match event:
            case Note(text, warning):
                word = Text("warning: ", "bold yellow") if warning else Text("")
                self._console.print(word + Text(text), soft_wrap=True)
            case Line(_, text) if self._verbose:
                self._console.print(Text("  " + text.rstrip(), "dim"), soft_wrap=True)
            case _:
                pass
