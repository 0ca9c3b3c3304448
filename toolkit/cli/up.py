"""Build: `ctk up`."""

import os
import sys
from typing import Annotated, Any

import typer

from toolkit.cli import spec_options
from toolkit.cli.build import (
    Arch,
    CheckDate,
    CheckGpg,
    Components,
    Exclude,
    Include,
    Jobs,
    Json,
    Keyring,
    Mirror,
    OrHost,
    Suite,
    UseKept,
    Variant,
    Verbose,
)
from toolkit.cli.output import commas, progress, several
from toolkit.text import quote

_EXAMPLE = "Example: sudo ctk up bookworm web -- cat /etc/os-release"
_OUTPUT, _RUN = "How", "The run"
_MADE = ("rootfs", "rootless", "from_image", "init")  # what `up` makes by itself, or gives to the run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("up", rich_help_panel="Build", epilog=_EXAMPLE)(spec_options.taking(up, without=_MADE))


def up(
    suite: Suite,
    identity: Annotated[str, typer.Argument(metavar="ID", help="The container's name.", show_default=False)],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- CMD…]", help="What to run.", show_default="a shell")
    ] = None,
    bundle: Annotated[
        str,
        typer.Option(
            "--bundle",
            "-b",
            metavar="DIR",
            help="Where to keep rootfs and config.json.",
            show_default="a folder of ctk's own",
            rich_help_panel=_OUTPUT,
        ),
    ] = "",
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="In the background: ctk logs, attach and stop.", rich_help_panel=_RUN),
    ] = False,
    rm: Annotated[
        bool, typer.Option("--rm", help="Remove the container at its end; the bundle stays.", rich_help_panel=_RUN)
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove a container of that name first.", rich_help_panel=_RUN)
    ] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Write into memory, not into the rootfs.", rich_help_panel=_RUN)
    ] = False,
    overlay: Annotated[
        str,
        typer.Option(
            "--overlay",
            metavar="DIR",
            help="Write into DIR, not into the rootfs.",
            rich_help_panel=_RUN,
            show_default=False,
        ),
    ] = "",
    init: Annotated[
        bool,
        typer.Option("--init", help="A first process that reaps and passes signals on.", rich_help_panel=_RUN),
    ] = False,
    tell: Annotated[bool, typer.Option("--tell", help="Say why it ended.", rich_help_panel=_RUN)] = False,
    variant: Variant = "minbase",
    arch: Arch = "",
    include: Include = None,
    exclude: Exclude = None,
    mirror: Mirror = None,
    components: Components = None,
    keyring: Keyring = "",
    check_gpg: CheckGpg = True,
    check_date: CheckDate = True,
    force: Annotated[
        bool, typer.Option("--force", help="Make the bundle anew, whatever is there.", rich_help_panel=_OUTPUT)
    ] = False,
    jobs: Jobs = 0,
    cache: UseKept = True,
    or_host: OrHost = False,
    json: Json = False,
    verbose: Verbose = False,
    **words: Any,
) -> None:
    """Make a container and run it: bootstrap, spec and run in one go.

    What is already there is not made again.
    """
    from toolkit.bootstrap.facts.model import Request
    from toolkit.bundle.build import SpecRequest
    from toolkit.errors import InUse
    from toolkit.up import launch, stages

    flags = {"--rm": rm, "--replace": replace, "--ephemeral": ephemeral, "--init": init, "--tell": tell}
    options = [flag for flag, wanted in flags.items() if wanted] + ([f"--overlay={overlay}"] if overlay else [])
    if detach:
        # A shell without a terminal waits for what is typed to it, and ends where nobody can.
        options += ["--detach", "--hold", *([] if command else ["--interactive"])]
    mirrors = several(mirror)
    ordinary = os.geteuid() != 0
    tty = words.pop("terminal")
    terminal = sys.stdin.isatty() and sys.stdout.isatty() if tty is None else tty
    own_map = bool(words["uid_map"] or words["gid_map"])
    if ordinary and not words["share_net"]:
        words["namespace"] = ("net", *words["namespace"])  # the rootless default shares the host's
    words |= {
        "userns": words["userns"] or (ordinary and not own_map),
        "writable": None if words["writable"] is False else True,
        "hostname": words["hostname"] or identity,
    }
    request = stages.UpRequest(
        id=identity,
        bundle=bundle,
        terminal=terminal,
        force=force,
        spec=SpecRequest(rootless=ordinary, args=tuple(command or ()), **words),
        bootstrap=Request(
            suite=suite,
            target="",
            variant=variant,
            architecture=arch,
            mirror=mirrors[0],
            mirrors=mirrors[1:],
            keyring=keyring,
            check_gpg=check_gpg,
            check_date=check_date,
            components=commas(components),
            include=commas(include),
            exclude=commas(exclude),
            jobs=jobs,
            use_kept=cache,
            or_host=or_host,
        ),
    )
    with progress(json=json, verbose=verbose) as emit:
        if not replace and launch.exists(identity):
            hint = f"ctk exec -t {quote(identity)} sh, or once more with --replace"
            raise InUse(f"bring up {identity!r}", because="there is a container of that name", hint=hint)
        where = stages.prepare(request, emit)
    sys.exit(launch.run(identity, where, options))
