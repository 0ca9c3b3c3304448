"""The cache: `ctk cache list`, `ctk cache prune`."""

import time

from toolkit.cli import declare, output
from toolkit.cli.declare import Annotated
from toolkit.text import counted, one_line

_PANEL = "Build"


def register(app: declare.App) -> None:
    """Add the group's commands."""
    group = declare.App(no_args_is_help=True, help="Show and prune what builds cache for later ones.")
    group.command("list")(listing)
    group.command("prune", epilog="Example: ctk cache prune --limit 2G")(prune)
    app.add_group(group, name="cache", rich_help_panel=_PANEL)


def listing(
    every: Annotated[bool, declare.Option("--all", help="Name every file.")] = False,
) -> None:
    """Show what is in the cache, and how big it is."""
    from toolkit import places
    from toolkit.bootstrap.output import prune as pruning

    folder, total = places.cache_dir(), 0
    found = pruning.items(folder)
    for kind, what in pruning.KINDS.items():
        mine = [item for item in found if item.kind == kind]
        size_bytes = sum(item.size_bytes for item in mine)
        total += size_bytes
        output.out(f"{size_bytes / 1e6:10.1f} MB  {len(mine):5} {what}\n")
        for item in mine if every else ():
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(item.used_s))
            output.out(f"{item.size_bytes / 1e6:10.1f} MB  used {used}  {one_line(item.path)}\n")
    output.out(f"{total / 1e6:10.1f} MB  in {folder}, of {pruning.limit() / 1e6:.0f} MB at most\n")


def prune(
    limit: Annotated[
        str,
        declare.Option(
            "--limit", metavar="SIZE", help="How much to keep; 0 empties the cache.", show_default="CTK_CACHE_LIMIT"
        ),
    ] = "",
) -> None:
    """Remove the least recently used files until the cache is within its limit. Every build does this too."""
    from toolkit import places
    from toolkit.bootstrap.output import prune as pruning
    from toolkit.fetch import limits

    wanted = limits.size(limit, what="--limit") if limit else pruning.limit()
    removed = pruning.prune(places.cache_dir(), wanted)
    output.out(f"removed {counted(len(removed), 'file')}, {sum(item.size_bytes for item in removed) / 1e6:.1f} MB\n")
