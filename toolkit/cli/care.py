"""Maintenance: `ctk doctor`, `ctk gc`, and `ctk bootstrap --remove`."""

import sys

from toolkit.cli import declare, libraries, output
from toolkit.cli.declare import Annotated
from toolkit.cli.output import progress


def _remove(path: str) -> str:
    if path:
        from toolkit.care import trees

        with progress(json=False) as emit:
            trees.remove(path, emit)
        sys.exit(0)
    return path


# Eager, as `--version` is: it is used without a suite.
RemoveTree = Annotated[
    str,
    declare.Option(
        "--remove",
        metavar="DIR",
        help="Remove a tree that ctk made, including files owned by your subordinate ids. Refuses anything else.",
        callback=_remove,
        is_eager=True,
        rich_help_panel="Instead",
        show_default=False,
    ),
]

_PANEL = "Look"


def advise(error: Exception) -> None:
    """After an error on a terminal, say what is wrong with the host. Programs get the error only."""
    from toolkit.errors import CtkError

    if isinstance(error, CtkError) and sys.stderr.isatty():
        libraries.add()
        from toolkit.care import doctor as doctor_

        try:
            output.err(doctor_.advice(error))
        except (CtkError, OSError):
            pass  # the error itself has been reported; a second one would hide it


def register(app: declare.App) -> None:
    """Add the group's commands."""
    app.command("doctor", rich_help_panel=_PANEL, epilog="Example: ctk doctor --for rootless")(doctor)
    app.command("gc", rich_help_panel=_PANEL, epilog="Example: ctk gc --dry-run")(gc)


def doctor(
    registries: Annotated[
        list[str] | None,
        declare.Argument(
            metavar="[REGISTRY…]",
            help="With --for images: ask these whether they answer.",
            show_default="those that there are logins for",
        ),
    ] = None,
    topic: Annotated[
        str,
        declare.Option(
            "--for",
            metavar="TOPIC",
            help="Check only what TOPIC needs: run, rootless, bootstrap, mirrors, limits, ephemeral, images, arch, "
            "checkpoint.",
            show_default=False,
        ),
    ] = "",
    offline: Annotated[bool, declare.Option("--offline", help="Contact no mirror and no registry.")] = False,
    json: Annotated[bool, declare.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what this host can do; for each thing missing, print the command that fixes it.

    No login is sent to a registry. The exit code is 1 if something does not work at all.
    """
    from toolkit.care import doctor as doctor_
    from toolkit.care.finding import BAD
    from toolkit.ui import health

    found = []
    for finding in doctor_.examine(topic, offline=offline, registries=registries or ()):
        found.append(finding)
        if not json:
            health.show(doctor_.lines([finding]), finding.state, sys.stdout)
    if json:
        output.document([finding.as_json() for finding in found])
    if any(finding.state == BAD for finding in found):
        sys.exit(1)


def gc(
    folders: Annotated[
        list[str] | None, declare.Argument(metavar="[DIR…]", help="More folders to search.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, declare.Option("--dry-run", "-n", help="Only show what would be removed.")] = False,
    stopped: Annotated[bool, declare.Option("--stopped", help="Remove stopped containers too.")] = False,
    root: Annotated[
        str, declare.Option("--root", metavar="DIR", help="Folder of the container records.", show_default=False)
    ] = "",
) -> None:
    """Remove what dead containers and killed builds left behind; say what is kept, and why."""
    from toolkit import places
    from toolkit.care import leftovers
    from toolkit.care.leftover import Kept
    from toolkit.errors import CtkError, reason
    from toolkit.events import silent
    from toolkit.text import one_line

    failed = 0
    for one in leftovers.find(root or places.runtime_root(), tuple(folders or ()), stopped=stopped):
        if isinstance(one, Kept):
            hint = f"  ({one.hint})" if one.hint else ""
            output.out(one_line(f"left alone: {one.kind} {one.name}: {one.why}{hint}") + "\n")
            continue
        told = one_line(f"{one.kind} {one.name}: {one.why}")
        if dry_run:
            output.out(f"would remove {told}\n")
            continue
        try:
            one.remove(silent)
            output.out(f"removed {told}\n")
        except (CtkError, OSError) as error:
            failed += 1
            because = str(error) if isinstance(error, CtkError) else reason(error)
            output.out(f"not removed: {told}; but {because}\n")
    if failed:
        sys.exit(1)
