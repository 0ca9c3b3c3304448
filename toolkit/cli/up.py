"""`ctk up`: bootstrap, spec and run in one command."""

import os
import sys
from dataclasses import dataclass, fields
from typing import Annotated, Any

from toolkit.cli import declare
from toolkit.cli.images.base_options import ImageOptions
from toolkit.cli.options import groups
from toolkit.cli.options import spec as spec_options
from toolkit.cli.options.archive import ArchiveOptions, Suite, Variant
from toolkit.cli.options.display import Json, Verbose
from toolkit.cli.output import progress
from toolkit.text import quote

_EXAMPLE = "Example: sudo ctk up bookworm web -- cat /etc/os-release"
_OUTPUT, _RUN = "How", "The run"
_MADE = ("rootfs", "rootless", "from_image", "init")  # what `up` sets itself, or passes to the run


Identity = Annotated[str, declare.Argument(metavar="ID", help="The container's name.", show_default=False)]
Command = Annotated[
    list[str] | None, declare.Argument(metavar="[-- CMD…]", help="What to run.", show_default="a shell")
]
Bundle = Annotated[
    str,
    declare.Option(
        "--bundle",
        "-b",
        metavar="DIR",
        help="Where to keep rootfs and config.json.",
        show_default="a folder of ctk's own",
        rich_help_panel=_OUTPUT,
    ),
]
Force = Annotated[
    bool, declare.Option("--force", help="Build the bundle again, replacing what is there.", rich_help_panel=_OUTPUT)
]


def _flag(*names: str, help: str) -> declare.Option:
    option: declare.Option = declare.Option(*names, help=help, rich_help_panel=_RUN)
    return option


Overlay = Annotated[
    str,
    declare.Option(
        "--overlay",
        metavar="DIR",
        help="Write changes to DIR, not to the rootfs.",
        rich_help_panel=_RUN,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options that `ctk run` gets."""

    detach: Annotated[bool, _flag("--detach", "-d", help="Run in the background; see ctk logs, attach and stop.")] = (
        False
    )
    rm: Annotated[bool, _flag("--rm", help="Remove the container when it ends, and a bundle made from an image.")] = (
        False
    )
    replace: Annotated[bool, _flag("--replace", help="First remove any container with that name.")] = False
    ephemeral: Annotated[bool, _flag("--ephemeral", help="Keep changes in memory, not in the rootfs.")] = False
    overlay: Overlay = ""
    init: Annotated[bool, _flag("--init", help="Run a small init that reaps orphans and passes signals on.")] = False
    tell: Annotated[bool, _flag("--tell", help="Say why it ended.")] = False

    def words(self, *, shell: bool) -> list[str]:
        """The options of `ctk run`; `shell`: nothing else was asked for."""
        flags = ("rm", "replace", "ephemeral", "init", "tell")
        found = [f"--{flag}" for flag in flags if getattr(self, flag)]
        if self.overlay:
            found.append(f"--overlay={self.overlay}")
        if self.detach:
            # A shell reads its standard input, and would end at once if that were closed.
            found += ["--detach", "--hold", *(["--interactive"] if shell else [])]
        return found


def register(app: declare.App) -> None:
    """Add the command."""
    app.command("up", rich_help_panel="Build", epilog=_EXAMPLE)(spec_options.taking(groups.flat(up), without=_MADE))


def up(
    *,
    ctx: declare.Context,
    suite: Suite,
    identity: Identity,
    command: Command = None,
    bundle: Bundle = "",
    force: Force = False,
    run: RunOptions,
    variant: Variant = "minbase",
    archive: ArchiveOptions,
    image: ImageOptions,
    json: Json = False,
    verbose: Verbose = False,
    **words: Any,
) -> None:
    """Make a container and run it: bootstrap or pull, spec and run in one command.

    What already exists is reused. SUITE may also be an image: a name with a colon, slash or @ in it (debian:bookworm),
    or one of the store (`ctk images`).
    """
    from toolkit.bootstrap.facts.model import Request
    from toolkit.bundle.build import SpecRequest
    from toolkit.errors import InUse
    from toolkit.up import from_image, launch, stages
    from toolkit.up.bundle import UpRequest
    from toolkit.up.from_image import ImageRequest

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
    request = UpRequest(
        id=identity,
        bundle=bundle,
        terminal=terminal,
        force=force,
        spec=SpecRequest(rootless=ordinary, args=tuple(command or ()), **words),
    )
    with progress(json=json, verbose=verbose) as emit:
        if not run.replace and (status := launch.status(identity, ctx.obj)):
            hint = f"ctk exec -t {quote(identity)} sh"
            if status == "stopped":
                hint = f"ctk restart {quote(identity)}, or ctk rm {quote(identity)}"
            because = f"there is a container of that name, {status}"
            raise InUse(f"bring up {identity!r}", because=because, hint=f"{hint}, or once more with --replace")
        options = run.words(shell=not command)
        if from_image.means_image(suite, bootstrapped=bool(archive.mirror or archive.keyring)):
            _refuse_others(suite, "an image", archive)
            asked = ImageRequest(suite, image.platform, image.given())
            made = from_image.prepare(request, asked, emit)
            where = made.bundle
            options += made.words(keep=not run.ephemeral and not run.overlay)
        else:
            _refuse_others(suite, "a suite", image)
            wanted = Request(suite=suite, target="", variant=variant, **archive.fields())
            where = stages.prepare(request, wanted, emit)
    sys.exit(launch.run(identity, where, options, ctx.obj))


def _refuse_others(what: str, kind: str, options: ArchiveOptions | ImageOptions) -> None:
    """Raise Usage if one of these options, which are for the other kind of root, was given: it would do nothing."""
    from toolkit.errors import Usage

    for one in fields(options):
        if getattr(options, one.name) != one.default:
            hint = "--platform OS/ARCH chooses an image's machine" if one.name == "arch" else ""
            hint = "--arch ARCH chooses a suite's machine" if one.name == "platform" else hint
            raise Usage(
                f"bring up {what!r}",
                because=f"it is {kind}, which --{one.name.replace('_', '-')} is not for",
                hint=hint,
            )
