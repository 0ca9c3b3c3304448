"""The options of `ctk bootstrap` about which packages come from where, and what it says of them."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from toolkit.cli import output
from toolkit.cli.output import commas

_SOURCE, _CONTENT, _OUTPUT = "Where from", "What goes in", "How"

EXAMPLES = """Examples:
  ctk bootstrap bookworm ./root --pocket updates,security --include curl,./mine.deb
  ctk bootstrap bookworm ./root --pocket backports --include golang-go/bookworm-backports
  ctk bootstrap bookworm ./root --source 'deb [signed-by=./vendor.asc] https://packages.example.org/apt stable main'
  ctk bootstrap bookworm ./root --lock root.lock, and later: ctk bootstrap bookworm ./again --locked root.lock
  ctk bootstrap bookworm ./root --snapshot 2026-11-20 --sbom spdx=root.spdx.json
  ctk bootstrap --diff old.lock ./root"""

Pocket = Annotated[
    list[str] | None,
    typer.Option(
        "--pocket",
        "--extra-suites",
        metavar="A,B",
        help="Suites beside this one, resolved together: updates, security, backports, or names in full.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        "--repo",
        metavar="LINE",
        help="A further archive, as a line of sources.list; its key by signed-by=FILE.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--sources",
        metavar="FILE",
        help="A .sources (deb822) or .list file of further archives.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Pin = Annotated[
    list[str] | None,
    typer.Option(
        "--pin",
        metavar="PIN",
        help="As apt pins: 'PACKAGE release n=SUITE|origin HOST|version V PRIORITY'.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Preferences = Annotated[
    list[str] | None,
    typer.Option(
        "--preferences",
        metavar="FILE",
        help="Pins in a file, see apt_preferences(5).",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Snapshot = Annotated[
    str,
    typer.Option(
        "--snapshot",
        metavar="DATE",
        help="The archive as it was then: 2026-11-20, or 2026-11-20T12:00:00Z.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
IncludeFile = Annotated[
    list[str] | None,
    typer.Option(
        "--include-file",
        metavar="FILE",
        help="More packages to add, one or several a line.",
        rich_help_panel=_CONTENT,
        show_default=False,
    ),
]
Recommends = Annotated[
    bool,
    typer.Option("--recommends", help="With what the packages to add recommend.", rich_help_panel=_CONTENT),
]
Lock = Annotated[
    str,
    typer.Option(
        "--lock",
        metavar="FILE",
        help="Write the exact packages, with hashes and sources.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Locked = Annotated[
    str,
    typer.Option(
        "--locked",
        metavar="FILE",
        help="Build exactly what such a file says.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Sbom = Annotated[
    list[str] | None,
    typer.Option(
        "--sbom",
        metavar="KIND=FILE",
        help="Write a bill of materials: spdx=FILE or cyclonedx=FILE.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Diff = Annotated[
    bool,
    typer.Option(
        "--diff", help="Make nothing: say what changed between two locks or roots, A and B.", rich_help_panel=_OUTPUT
    ),
]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Which packages come from where, and what is written down of them."""

    pocket: Pocket = None
    source: Source = None
    sources_file: Sources = None
    pin: Pin = None
    preferences: Preferences = None
    snapshot: Snapshot = ""
    include_file: IncludeFile = None
    recommends: Recommends = False
    locked: Locked = ""
    lock: Lock = ""
    sbom: Sbom = None
    diff: Diff = False

    def fields(self) -> dict[str, Any]:
        """The fields of a Request that they stand for."""
        return {
            "pockets": commas(self.pocket),
            "sources": tuple(self.source or ()),
            "source_files": tuple(self.sources_file or ()),
            "pins": tuple(self.pin or ()),
            "preferences": tuple(self.preferences or ()),
            "snapshot": self.snapshot,
            "include_files": tuple(self.include_file or ()),
            "recommends": self.recommends,
            "locked": self.locked,
            "lock": self.lock,
            "sboms": tuple(self.sbom or ()),
        }


def print_difference(a: str, b: str, *, json: bool) -> None:
    """The packages that changed from lock or root `a` to `b`, a line each."""
    from toolkit.bootstrap.resolve import diff
    from toolkit.errors import Usage
    from toolkit.text import one_line

    if not b:
        raise Usage("read the command line", because="--diff needs two locks or roots", hint="ctk bootstrap --diff A B")
    changes = diff.compare(a, b)
    if json:
        output.document(diff.as_json(a, b, changes))
    else:
        output.out("".join(f"{one_line(str(change))}\n" for change in changes))
