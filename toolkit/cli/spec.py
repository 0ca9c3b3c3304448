"""Description: `ctk spec`."""

from typing import Annotated, Any

from toolkit.cli import declare, output
from toolkit.cli.options import spec as spec_options

_PANEL = "Describe"
_EXAMPLE = "Example: ctk spec --rootfs debianfs --writable --memory 64M -- bash"
_PROGRAM, _FILE = "Program", "Any field, and the file"

Texts = list[str] | None


def register(app: declare.App) -> None:
    """Add the group's commands."""
    app.command("spec", rich_help_panel=_PANEL, epilog=_EXAMPLE)(spec_options.taking(spec, first=True))


def spec(
    command: Annotated[
        Texts, declare.Argument(metavar="[-- CMD…]", help="The program and its arguments.", show_default="sh")
    ] = None,
    arg: Annotated[
        Texts,
        declare.Option(
            "--arg", metavar="WORD", help="One word of the program's command line.", rich_help_panel=_PROGRAM
        ),
    ] = None,
    _: Annotated[
        bool, declare.Option("--args", help="The command line follows: --args -- CMD…", rich_help_panel=_PROGRAM)
    ] = False,
    bundle: Annotated[
        str,
        declare.Option(
            "--bundle", "-b", metavar="DIR", help="Write config.json here.", rich_help_panel=_FILE, show_default=False
        ),
    ] = ".",
    update: Annotated[
        bool, declare.Option("--update", help="Change the existing config.json.", rich_help_panel=_FILE)
    ] = False,
    diff: Annotated[
        bool, declare.Option("--diff", help="Show what would change; write nothing.", rich_help_panel=_FILE)
    ] = False,
    force: Annotated[
        bool, declare.Option("--force", help="Replace the existing config.json.", rich_help_panel=_FILE)
    ] = False,
    **words: Any,
) -> None:
    """Write config.json, which describes the container.

    Without options it writes the same file as runc spec.
    """
    from toolkit.bundle import build
    from toolkit.cli.output import progress

    args = tuple(arg or ()) + tuple(command or ())
    request = build.SpecRequest(bundle=bundle, force=force, update=update, args=args, **words)
    if diff:
        if text := build.diff(request):
            output.out(text + "\n")
        return
    with progress(json=False) as emit:
        build.build(request, emit)
