"""Learning: `ctk check`, `ctk explain`."""

import dataclasses
import os
import sys
from typing import Annotated

from toolkit.cli import declare, output
from toolkit.runtime.options import Options

_PANEL = "Learn"
_EXAMPLE = "Example: ctk explain mounts"

Json = Annotated[bool, declare.Option("--json", help="Print one JSON object.")]


def register(app: declare.App) -> None:
    """Add the group's commands."""
    app.command("check", rich_help_panel=_PANEL, epilog="Example: sudo ctk check ./my-bundle")(check)
    app.command("explain", rich_help_panel=_PANEL, epilog=_EXAMPLE)(explain)


def check(
    bundle: Annotated[str, declare.Argument(metavar="BUNDLE", help="The bundle's folder.", show_default=".")] = ".",
    as_json: Json = False,
) -> None:
    """List everything that is wrong with a bundle.

    The exit code is 0 if there is nothing, or only warnings; 1 if there are errors.
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
        sys.exit(1)


def explain(
    what: Annotated[
        str,
        declare.Argument(
            metavar="WHAT",
            help="A bundle's folder, a field (mounts), a capability, a namespace (pidns), a code (E042), a registry's "
            "(DENIED), or codes.",
            show_default="the bundle here",
        ),
    ] = "",
    bundle: Annotated[
        str, declare.Option("--bundle", "-b", metavar="DIR", help="Bundle whose config.json to read.", show_default=".")
    ] = "",
    container_id: Annotated[
        str, declare.Option("--id", metavar="ID", help="The container's id.", show_default="the folder's name")
    ] = "",
    script: Annotated[bool, declare.Option("--script", help="Write the launch as a shell script.")] = False,
    run: Annotated[bool, declare.Option("--run", help="Run the container, and show each step as it is done.")] = False,
    as_json: Json = False,
) -> None:
    """Explain a launch step by step, a field of config.json, or a code. An image: `ctk image explain`."""
    from toolkit.errors import NotFound
    from toolkit.explain import topics
    from toolkit.text import quote

    kind = topics.kind_of(what)
    if topics.is_image(what):
        hint = f"ctk image explain {quote(what)}"
        raise NotFound(f"explain {what!r}", because="it is neither a field nor a bundle's folder", hint=hint)
    if what == "codes":
        _codes(as_json)
    elif kind == "code":
        _code(what, as_json)
    elif kind == "word":
        _word(what, bundle, as_json)
    elif kind == "field":
        _field(what, bundle, as_json)
    else:
        code = _launch(what or bundle or ".", container_id, script, run, as_json)
        if code:
            sys.exit(code)


def of_run(options: Options) -> int:
    """`ctk run --explain`: show what `run` would do; returns the exit code."""
    from toolkit.explain import launch
    from toolkit.explain.network import wiring
    from toolkit.ui import plan as screen

    told = launch.of(
        options.bundle or ".",
        options.id,
        config=options.config,
        no_pivot=options.no_pivot,
        systemd=options.systemd_cgroup or options.cgroup_manager == "systemd",
        layer=options.overlay or "" if options.overlay or options.ephemeral else None,
        lowers=tuple(options.lower),
        init=options.init,
        asked=wiring.asked(options),
    )
    screen.show(told.acts, told.root, sys.stdout)
    return 0


def _launch(bundle: str, container_id: str, script: bool, run: bool, as_json: bool) -> int:
    from toolkit.explain import carry_out, launch
    from toolkit.explain import script as scripts
    from toolkit.ui import plan as screen

    told = launch.of(bundle, container_id)
    if script:
        output.exactly(scripts.write(told))
    elif as_json:
        _json({"bundle": told.bundle, "id": told.id, "root": told.root, "acts": [act.as_json() for act in told.acts]})
    elif run:
        return carry_out.run(told, screen.Watching(told.acts, sys.stdout))
    else:
        screen.show(told.acts, told.root, sys.stdout)
    return 0


def _codes(as_json: bool) -> None:
    from toolkit.explain.codes import CODES
    from toolkit.ui import dictionary as page

    if as_json:
        _json({code: dict(zip(_OF_A_CODE, told, strict=True)) for code, told in CODES.items()})
    else:
        page.show_codes({code: told[0] for code, told in CODES.items()}, sys.stdout)


def _code(word: str, as_json: bool) -> None:
    from toolkit.explain import topics
    from toolkit.ui import dictionary as page

    code, told = topics.code(word)
    if as_json:
        _json({"code": code, **dict(zip(_OF_A_CODE, told, strict=True))})
    else:
        page.show_code(code, told, sys.stdout)


def _word(text: str, bundle: str, as_json: bool) -> None:
    from toolkit.explain import topics
    from toolkit.ui import dictionary as page

    name, (what, told, read) = topics.word(text, bundle)
    if as_json:
        _json({"word": name, "what": what, "told": told, "read": read})
    else:
        page.show_word(name, what, told, read, sys.stdout)


def _field(word: str, bundle: str, as_json: bool) -> None:
    from toolkit.explain import topics
    from toolkit.ui import dictionary as page

    field, document = topics.field(word, bundle)
    if as_json:
        _json(dataclasses.asdict(field))
    else:
        page.show_field(field, document, sys.stdout)


_OF_A_CODE = ("what", "why", "do")


def _json(value: object) -> None:
    output.document(value, indent=2)
