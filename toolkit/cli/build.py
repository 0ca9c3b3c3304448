"""Build: `ctk bootstrap`."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

from toolkit.cli import declare, output
from toolkit.cli.care import RemoveTree
from toolkit.cli.options import groups
from toolkit.cli.options import source as source_options
from toolkit.cli.options.archive import ArchiveOptions, Suite, Variant
from toolkit.cli.options.display import HOW, Json, Verbose
from toolkit.cli.options.download import DownloadOptions
from toolkit.cli.options.source import SourceOptions
from toolkit.cli.options.tree import Script, TreeOptions
from toolkit.cli.output import progress
from toolkit.text import quote

if TYPE_CHECKING:
    from toolkit.bootstrap.facts.model import Request

_PANEL = "Build"

Target = Annotated[
    str,
    declare.Argument(
        metavar="TARGET",
        help="Folder to create (it may exist if empty), file or image in a --format, or - for a tar on stdout.",
        show_default=False,
    ),
]
MirrorArgument = Annotated[
    str, declare.Argument(metavar="MIRROR", help="Same as --mirror, at debootstrap's position.", show_default=False)
]
Force = Annotated[
    bool,
    declare.Option(
        "--force",
        "--restart",
        help="Delete what an earlier bootstrap left in TARGET, and start over.",
        rich_help_panel=HOW,
    ),
]
KeepFailed = Annotated[
    bool,
    declare.Option("--keep-failed", help="Keep the tree of a failed bootstrap, to look at.", rich_help_panel=HOW),
]
PrintDebs = Annotated[
    bool,
    declare.Option("--print-debs", help="Print the packages that would be installed, and stop.", rich_help_panel=HOW),
]
Format = Annotated[
    str,
    declare.Option(
        "--format",
        metavar="NAME",
        help="directory, tar, tar.zst, tar.gz, squashfs, ext4; an image: oci, oci-archive, docker-archive.",
        rich_help_panel=HOW,
        show_default="by TARGET's suffix",
    ),
]
Tag = Annotated[
    str,
    declare.Option(
        "--tag",
        metavar="NAME",
        help="Make an image of that name: in the store if there is no TARGET, else in TARGET.",
        rich_help_panel=HOW,
        show_default=False,
    ),
]


def register(app: declare.App) -> None:
    """Add the command."""
    app.command("bootstrap", rich_help_panel=_PANEL, epilog=source_options.EXAMPLES)(groups.flat(bootstrap))


def bootstrap(
    *,
    suite: Suite = "",
    target: Target = "",
    mirror_argument: MirrorArgument = "",
    script: Script = "",
    variant: Variant = "-",
    archive: ArchiveOptions,
    sources: SourceOptions,
    force: Force = False,
    keep_failed: KeepFailed = False,
    print_debs: PrintDebs = False,
    downloads: DownloadOptions,
    tree: TreeOptions,
    format: Format = "",
    tag: Tag = "",
    json: Json = False,
    verbose: Verbose = False,
    _: RemoveTree = "",
) -> None:
    """Make a root file system from a Debian or Ubuntu archive.

    The suite `host` makes a small root from this host's own programs, without a network; --include adds more of them.
    The host needs no debootstrap, dpkg, apt or gpgv.
    """
    from toolkit.bootstrap.facts.model import Request
    from toolkit.errors import Usage

    if sources.diff:
        source_options.print_difference(suite, target, json=json)
        return
    if tree.second_stage:
        target = tree.second_stage_target or target or suite
    if not suite and not tree.second_stage:
        raise Usage("read the command line", because="missing argument 'SUITE'", hint="see ctk bootstrap --help")
    if not target and not (tag or print_debs or downloads.download_only or downloads.make_tarball):
        raise _no_target(suite)
    if target == "-" and json:
        raise Usage("read the command line", because="TARGET - and --json both want standard output")
    values = archive.fields(mirror_argument) | sources.fields() | downloads.fields() | tree.fields()
    values["check_gpg"] = archive.check_gpg or tree.force_check_gpg
    request = Request(
        suite=suite,
        target=target,
        script=script,
        variant=variant,
        restart=force,
        keep_failed=keep_failed,
        format=format,
        tag=tag,
        **values,
    )
    with progress(json=json, verbose=verbose) as emit:
        if print_debs:
            from toolkit.bootstrap.plan import plan_build

            chosen = plan_build.solve(request, emit)
        else:
            _carry_out(request, downloads, tree, emit)
    if print_debs and not json:
        output.out(" ".join(package.name for package in chosen.packages) + "\n")


def _no_target(suite: str) -> Exception:
    from toolkit.errors import Usage

    # mmdebstrap without a TARGET writes a tar to standard output.
    command = f"ctk bootstrap {quote(suite)} {quote(f'./{suite}')}"
    tar = "" if sys.stdout.isatty() else f"; for a tar on standard output, ctk bootstrap {quote(suite)} -"
    return Usage("read the command line", because="there is no TARGET", hint=command + tar)


def _carry_out(request: "Request", downloads: DownloadOptions, tree: TreeOptions, emit: Any) -> None:
    from toolkit.bootstrap import build
    from toolkit.bootstrap.compat import second_stage, tarball_write
    from toolkit.bootstrap.plan import download_only

    if downloads.make_tarball:
        tarball_write.make(request, downloads.make_tarball, emit)
    elif downloads.download_only:
        download_only.download_only(request, emit)
    elif tree.second_stage:
        second_stage.second_stage(request, emit)
    else:
        build.bootstrap(request, emit)
