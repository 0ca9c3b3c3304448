"""Observation: `ctk inspect`, `ctk stats`, `ctk top`, `ctk diff`."""

import sys

from toolkit.cli import complete, declare, output
from toolkit.cli.declare import Annotated
from toolkit.cli.output import progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.runtime.record import Record

_PANEL = "Look"
_NONE = "no container is running"

Id = Annotated[
    str,
    declare.Argument(
        metavar="ID", help="The container's name.", show_default=False, autocompletion=complete.containers
    ),
]
Ids = Annotated[
    list[str] | None,
    declare.Argument(
        metavar="[ID…]", help="The containers.", show_default="all that are running", autocompletion=complete.containers
    ),
]
Json = Annotated[bool, declare.Option("--json", help="Print JSON.")]
Root = Annotated[
    str, declare.Option("--root", metavar="DIR", help="Folder of the container records.", show_default=False)
]
NoStream = Annotated[bool, declare.Option("--no-stream", help="Print once and stop, as in a pipe.")]
Interval = Annotated[float, declare.Option("--interval", metavar="SECONDS", min=0.1, help="Time between updates.")]


def register(app: declare.App) -> None:
    """Add the group's commands."""
    for function, libraries, example in (
        (inspect, declare.DRAWN, "ctk inspect my-cont"),
        (stats, declare.DRAWN, "ctk stats --no-stream my-cont"),
        (top, declare.DRAWN, "ctk top my-cont"),
        (diff, True, "ctk diff ./debianfs"),
    ):
        settings = {"rich_help_panel": _PANEL, "epilog": f"Example: {example}"}
        app.command(function.__name__, libraries=libraries, **settings)(function)


def inspect(identity: Id, json: Json = False, root: Root = "") -> None:
    """Show a container from outside: namespaces, limits and their use, rights, mounts, ports, processes."""
    from toolkit.observe import inspection, rows
    from toolkit.ui import tables

    told = inspection.inspect(_root(root), identity)
    if json:
        output.document(told)
    else:
        tables.show([tables.Table(h, rows, title, (), empty) for title, h, rows, empty in rows.inspection(told)],
                    sys.stdout)  # fmt: skip


def stats(
    identities: Ids = None, no_stream: NoStream = False, json: Json = False, interval: Interval = 1.0, root: Root = ""
) -> None:
    """Show what containers use: CPU, memory, processes, disks. On a terminal it keeps updating until you press q."""
    from toolkit.observe import rows
    from toolkit.ui import tables
    from toolkit.ui.keys import Keys

    keys = Keys(sys.stdin, wanted=not (json or no_stream) and tables.can_be_live(sys.stdout))
    frames = rows.stats(_look(root, identities), interval, wait=keys.wait)
    if json:
        output.document([rows.stats_json(*pair) for pair in next(frames)])
        return
    drawn = (
        [
            tables.Table(
                rows.STATS, tuple(rows.stats_row(*pair) for pair in frame), right=tuple(range(1, 9)), empty=_NONE
            )
        ]
        for frame in frames
    )
    if no_stream or not tables.can_be_live(sys.stdout):
        tables.show(next(drawn), sys.stdout)
    else:
        with keys:
            tables.live(drawn, sys.stdout)


def top(
    identities: Ids = None, no_stream: NoStream = False, json: Json = False, interval: Interval = 1.0, root: Root = ""
) -> None:
    """Show the containers' processes, busiest first. On a terminal it keeps updating until you press q."""
    from toolkit.observe import rows
    from toolkit.ui import tables
    from toolkit.ui.keys import Keys

    keys = Keys(sys.stdin, wanted=not (json or no_stream) and tables.can_be_live(sys.stdout))
    frames = rows.top(_look(root, identities), interval, wait=keys.wait)
    if json:
        output.document([{"id": name, "cpuPercent": round(cpu, 2), **vars(one)} for name, one, cpu in next(frames)])
        return
    drawn = (
        [tables.Table(rows.TOP, tuple(rows.top_row(*row) for row in frame), right=(1, 2, 3, 5, 6, 7), empty=_NONE)]
        for frame in frames
    )
    if no_stream or not tables.can_be_live(sys.stdout):
        tables.show(next(drawn), sys.stdout)
    else:
        with keys:
            tables.live(drawn, sys.stdout)


def diff(
    what: Annotated[
        str, declare.Argument(metavar="ID|DIR", help="A container, or a root file system.", show_default=False)
    ],
    json: Json = False,
    root: Root = "",
) -> None:
    """Show what was added (A), changed (C) and deleted (D) in a root file system since ctk bootstrap made it."""
    from toolkit.observe import changes, living

    with progress(json=False) as emit:
        found = changes.since_bootstrap(living.tree(_root(root), what), emit)
    output.changes(found, json=json)


def _root(given: str) -> str:
    from toolkit import places

    return given or places.runtime_root()


def _look(root: str, identities: list[str] | None) -> "Callable[[], Sequence[Record]]":
    from toolkit.observe import living

    living.running(_root(root), identities or ())  # a missing container is an error at once
    return lambda: [one for one in living.running(_root(root)) if not identities or one.id in identities]
