"""The options of `ctk bootstrap` about package sources, and about the reports it writes on packages."""

from dataclasses import dataclass
from typing import Annotated, Any

from toolkit.cli import declare, output
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
    declare.Option(
        "--pocket",
        "--extra-suites",
        metavar="A,B",
        help="More suites, resolved together with this one: updates, security, backports, or full names.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Source = Annotated[
    list[str] | None,
    declare.Option(
        "--source",
        "--repo",
        metavar="LINE",
        help="Another archive, as a line of sources.list; signed-by=FILE gives its key.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Sources = Annotated[
    list[str] | None,
    declare.Option(
        "--sources",
        metavar="FILE",
        help="A .sources (deb822) or .list file with more archives.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Pin = Annotated[
    list[str] | None,
    declare.Option(
        "--pin",
        metavar="PIN",
        help="An apt pin: 'PACKAGE release n=SUITE|origin HOST|version V PRIORITY'.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Preferences = Annotated[
    list[str] | None,
    declare.Option(
        "--preferences",
        metavar="FILE",
        help="A file with pins, see apt_preferences(5).",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Snapshot = Annotated[
    str,
    declare.Option(
        "--snapshot",
        metavar="DATE",
        help="Use the archive as it was at that time: 2026-11-20, or 2026-11-20T12:00:00Z.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
IncludeFile = Annotated[
    list[str] | None,
    declare.Option(
        "--include-file",
        metavar="FILE",
        help="A file with more packages to add, one or more per line.",
        rich_help_panel=_CONTENT,
        show_default=False,
    ),
]
Recommends = Annotated[
    bool,
    declare.Option("--recommends", help="Also install what the added packages recommend.", rich_help_panel=_CONTENT),
]
Lock = Annotated[
    str,
    declare.Option(
        "--lock",
        metavar="FILE",
        help="Write a lock file: the exact packages, with hashes and sources.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Locked = Annotated[
    str,
    declare.Option(
        "--locked",
        metavar="FILE",
        help="Build exactly what a lock file says.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Sbom = Annotated[
    list[str] | None,
    declare.Option(
        "--sbom",
        metavar="KIND=FILE",
        help="Write a bill of materials: spdx=FILE or cyclonedx=FILE.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Diff = Annotated[
    bool,
    declare.Option(
        "--diff", help="Only show what changed between two locks or roots, A and B.", rich_help_panel=_OUTPUT
    ),
]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where packages come from, and which reports are written about them."""

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
        """These options as fields of a Request."""
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
    """Print the packages that changed from lock or root `a` to `b`, one per line."""
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
