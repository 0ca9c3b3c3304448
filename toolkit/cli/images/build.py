"""`ctk build`: an image from a Containerfile."""

import sys
from typing import Annotated

from toolkit.cli import declare
from toolkit.cli.images.base_options import BaseOptions
from toolkit.cli.options import groups
from toolkit.cli.options.display import Json, Verbose
from toolkit.cli.output import progress

_PANEL = "Images"
_WHAT, _HOW = "What to build", "How to build it"

Tags = Annotated[
    list[str] | None,
    declare.Option("--tag", "-t", metavar="NAME", help="Name the image. Several are possible.", show_default=False),
]
File = Annotated[
    str,
    declare.Option(
        "--file", "-f", metavar="FILE", help="The Containerfile.",
        show_default="Containerfile, then Dockerfile, in DIR",
        rich_help_panel=_WHAT,
    ),
]  # fmt: skip
Target = Annotated[
    str,
    declare.Option(
        "--target", metavar="STAGE", help="Build this stage and what it needs.", show_default="the last",
        rich_help_panel=_WHAT,
    ),
]  # fmt: skip
Args = Annotated[
    list[str] | None,
    declare.Option(
        "--build-arg", metavar="NAME[=VALUE]",
        help="A value for ARG NAME; without =VALUE that of the environment.",
        show_default=False, rich_help_panel=_WHAT,
    ),
]  # fmt: skip
NoCache = Annotated[
    bool, declare.Option("--no-cache", help="Carry out every step, also those that an earlier build has made.")
]
Net = Annotated[
    str,
    declare.Option(
        "--net", metavar="host|none",
        help="The network of RUN: the host's, as installing packages needs it, or none but lo.",
        rich_help_panel=_HOW,
    ),
]  # fmt: skip


def register(app: declare.App) -> None:
    """Add the command."""
    app.command("build", rich_help_panel=_PANEL, epilog="Example: ctk build -t localhost/web .")(groups.flat(build))


def build(
    *,
    folder: Annotated[
        str, declare.Argument(metavar="[DIR]", help="The folder that COPY takes files from.", show_default="this one")
    ] = ".",
    tags: Tags = None,
    file: File = "",
    target: Target = "",
    args: Args = None,
    no_cache: NoCache = False,
    net: Net = "host",
    base: BaseOptions,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Build an image from a Containerfile (Dockerfile), into the store. It needs no daemon, and no root.

    RUN runs in a container of ctk's. A step whose input has not changed is taken from an earlier build. What ctk does
    not know is refused with its line before the first step.
    """
    from toolkit.errors import Usage
    from toolkit.image.build import build as building
    from toolkit.image.build.instructions import HOST, NONE
    from toolkit.up import build_run

    if net not in (HOST, NONE):
        raise Usage(f"read --net {net!r}", because=f"it is {HOST} or {NONE}")
    request = building.BuildRequest(
        folder,
        tuple(tags or ()),
        file,
        target,
        tuple(args or ()),
        not no_cache,
        net,
        base.given(),
    )
    with progress(json=json, verbose=verbose) as emit:
        digest = building.build(request, build_run.run, emit)
    if not json and not sys.stdout.isatty():
        from toolkit.cli import output

        output.out(f"{digest}\n")
