"""The findings of `ctk check` for people: one paragraph each, the most serious first."""

from collections.abc import Sequence
from typing import Protocol, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from toolkit.text import one_line, quote


class _Finding(Protocol):
    @property
    def code(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def instead(self) -> str: ...
    @property
    def error(self) -> bool: ...


def summary(findings: Sequence[_Finding]) -> str:
    """The number of errors and warnings, in one line."""
    errors = sum(finding.error for finding in findings)
    return ", ".join(
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((errors, "error"), (len(findings) - errors, "warning"))
        if count
    )


def show(findings: Sequence[_Finding], bundle: str, stream: TextIO) -> None:
    """Write the findings to `stream`: in colour and wrapped on a terminal, one fact per line elsewhere."""
    ordered = sorted(findings, key=lambda finding: not finding.error)
    if not ordered:
        stream.write(f"{one_line(bundle)}: nothing found\n")
        return
    if not stream.isatty():
        for finding in ordered:
            kind = "error" if finding.error else "warning"
            stream.write(f"{kind} {finding.code} {_path(finding)}: {one_line(finding.message)}\n")
            stream.write(f"  why: {finding.why}\n  do:  {one_line(finding.instead)}\n")
        stream.write(f"{one_line(bundle)}: {summary(ordered)}\n")
        return
    console = Console(file=stream, highlight=False)
    for finding in ordered:
        style = "bold red" if finding.error else "bold yellow"
        mark = "✗" if finding.error else "!"
        head = Text.assemble((f"{mark} {finding.code} ", style), (_path(finding), "bold cyan"))
        console.print(Text.assemble(head, ("  " + one_line(finding.message), "bold")))
        console.print(Padding(Text(finding.why, "dim"), (0, 0, 0, 4)))
        console.print(Padding(Text.assemble(("→ ", "green"), one_line(finding.instead)), (0, 0, 1, 4)))
    style = "bold red" if any(finding.error for finding in ordered) else "bold yellow"
    console.print(Text.assemble((one_line(bundle), "bold"), ": ", (summary(ordered), style)))
    console.print(Text(f"ctk explain {quote(ordered[0].code)} explains a code", "dim"))


def _path(finding: _Finding) -> str:
    return one_line(finding.path) or "config.json"
