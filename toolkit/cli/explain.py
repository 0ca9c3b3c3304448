"""Learn: `ctk check`, `ctk explain`."""

import dataclasses
import json
import os
import sys
from typing import Annotated

import typer

_PANEL = "Learn"
_EXAMPLE = "Example: ctk explain mounts"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the group's commands."""
    app.command("check", rich_help_panel=_PANEL, epilog="Example: sudo ctk check ./my-bundle")(check)
    app.command("explain", rich_help_panel=_PANEL, epilog=_EXAMPLE)(explain)


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
        _json(told)
    else:
        screen.show(found, bundle, sys.stdout)
    if errors:
        raise typer.Exit(1)


def explain(
    what: Annotated[
        str, typer.Argument(metavar="[WHAT]", help="A field (mounts, linux.namespaces) or a code (E042).")
    ] = "",
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", metavar="DIR", help="Whose config.json to look into.", show_default=".")
    ] = "",
    as_json: Json = False,
) -> None:
    """Explain a field of config.json or a code.

    `codes` lists all codes.
    """
    from toolkit.explain import topics
    from toolkit.explain.codes import CODES
    from toolkit.ui import dictionary as page

    if what == "codes":
        if as_json:
            _json({code: dict(zip(_OF_A_CODE, told, strict=True)) for code, told in CODES.items()})
        else:
            page.show_codes({code: told[0] for code, told in CODES.items()}, sys.stdout)
    elif topics.kind_of(what) == "code":
        code, told = topics.code(what)
        if as_json:
            _json({"code": code, **dict(zip(_OF_A_CODE, told, strict=True))})
        else:
            page.show_code(code, told, sys.stdout)
    else:
        field, document = topics.field(what, bundle)
        if as_json:
            _json(dataclasses.asdict(field))
        else:
            page.show_field(field, document, sys.stdout)


_OF_A_CODE = ("what", "why", "do")


def _json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
