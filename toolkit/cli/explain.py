"""Learn: `ctk check`."""

import json
import os
import sys
from typing import Annotated

import typer

_PANEL = "Learn"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the group's commands."""
    app.command("check", rich_help_panel=_PANEL, epilog="Example: sudo ctk check ./my-bundle")(check)


def check(
    bundle: Annotated[str, typer.Argument(metavar="[BUNDLE]", help="The bundle's folder.", show_default=".")] = ".",
    as_json: Json = False,
) -> None:
    """List everything that is wrong with a bundle.

    Exit code 0: nothing, or warnings only; 1: errors.
    """
    from toolkit.explain import check as checks
    from toolkit.ui import findings as screen

    found = checks.bundle(bundle, terminal=sys.stdin.isatty(), privileged=os.geteuid() == 0)
    errors = sum(finding.error for finding in found)
    if as_json:
        told = {
            "bundle": os.path.abspath(bundle),
            "errors": errors,
            "warnings": len(found) - errors,
            "findings": [finding.as_json() for finding in found],
        }
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    else:
        screen.show(found, bundle, sys.stdout)
    if errors:
        raise typer.Exit(1)
