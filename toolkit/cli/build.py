"""Build: `ctk bootstrap`."""

import sys
from typing import Annotated

import typer

from toolkit.cli import complete, download_options, output, source_options, tree_options
from toolkit.cli.care import RemoveTree
from toolkit.cli.output import commas, progress, several
from toolkit.text import quote

_PANEL = "Build"
_SOURCE, _CONTENT, _OUTPUT = "Where from", "What goes in", "How"

Suite = Annotated[
    str,
    typer.Argument(
        metavar="SUITE",
        help="Code name, alias or version: bookworm, stable, 12, jammy, 22.04.",
        show_default=False,
        autocompletion=complete.suites,
    ),
]
Mirror = Annotated[
    list[str] | None,
    typer.Option(
        "--mirror",
        metavar="URL",
        help="Base URL of the archive; of several a slow or broken one is left. Default: CTK_MIRROR, else the host's "
        "own sources, else the suite's home.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Keyring = Annotated[
    str,
    typer.Option(
        "--keyring",
        metavar="FILE",
        help="OpenPGP keys that may sign the archive, in place of the vendored ones.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
CheckGpg = Annotated[
    bool, typer.Option("--check-gpg/--no-check-gpg", help="Verify the archive's signature.", rich_help_panel=_SOURCE)
]
CheckDate = Annotated[
    bool,
    typer.Option(
        "--check-date/--no-check-date",
        help="Refuse an archive whose signature has expired.",
        rich_help_panel=_SOURCE,
    ),
]
Components = Annotated[
    list[str] | None,
    typer.Option(
        "--components",
        metavar="A,B",
        help="Components to install from.",
        rich_help_panel=_SOURCE,
        show_default="the suite's",
    ),
]
Arch = Annotated[
    str,
    typer.Option(
        "--arch",
        metavar="ARCH",
        help="Debian's name of the architecture.",
        rich_help_panel=_CONTENT,
        show_default="the host's",
    ),
]
Variant = Annotated[
    str,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Which packages: - (debootstrap's default), minbase, buildd.",
        rich_help_panel=_CONTENT,
        autocompletion=complete.variants,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="A,B",
        help="Packages to add, as apt-get takes them: NAME, NAME=VERSION, NAME/SUITE, ./FILE.deb, ?section(shells).",
        rich_help_panel=_CONTENT,
        show_default=False,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="A,B", help="Packages to leave out.", rich_help_panel=_CONTENT, show_default=False
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        metavar="N",
        min=0,
        help="Downloads and unpackers at a time; 0: as many as pay.",
        rich_help_panel=_OUTPUT,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="directory, tar, tar.zst, tar.gz, squashfs or ext4.",
        rich_help_panel=_OUTPUT,
        show_default="by TARGET's suffix",
    ),
]
UseKept = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Lay out a cached tree where nothing has changed since, and keep this one.",
        rich_help_panel=_OUTPUT,
    ),
]
OrHost = Annotated[
    bool,
    typer.Option("--or-host", help="Take this host's own programs where no archive answers.", rich_help_panel=_SOURCE),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print every event as one JSON object a line on stdout.", rich_help_panel=_OUTPUT)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Show what the packages' scripts print.", rich_help_panel=_OUTPUT)
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bootstrap", rich_help_panel=_PANEL, epilog=source_options.EXAMPLES)(bootstrap)


def bootstrap(
    suite: Suite = "",
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Folder to make (it must not exist or be empty), file of a --format, or - for a tar on stdout.",
            show_default=False,
        ),
    ] = "",
    mirror_argument: Annotated[
        str, typer.Argument(metavar="MIRROR", help="As --mirror, in debootstrap's place.", show_default=False)
    ] = "",
    script: tree_options.Script = "",
    variant: Variant = "-",
    arch: Arch = "",
    include: Include = None,
    exclude: Exclude = None,
    mirror: Mirror = None,
    components: Components = None,
    keyring: Keyring = "",
    check_gpg: CheckGpg = True,
    check_date: CheckDate = True,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "--restart",
            help="Delete what an earlier bootstrap left in TARGET and begin anew.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    keep_failed: Annotated[
        bool,
        typer.Option("--keep-failed", help="Leave the tree of a failed bootstrap for a look.", rich_help_panel=_OUTPUT),
    ] = False,
    pocket: source_options.Pocket = None,
    source: source_options.Source = None,
    sources_file: source_options.Sources = None,
    pin: source_options.Pin = None,
    preferences: source_options.Preferences = None,
    snapshot: source_options.Snapshot = "",
    include_file: source_options.IncludeFile = None,
    recommends: source_options.Recommends = False,
    locked: source_options.Locked = "",
    lock: source_options.Lock = "",
    sbom: source_options.Sbom = None,
    diff: source_options.Diff = False,
    print_debs: Annotated[
        bool,
        typer.Option(
            "--print-debs", help="Print the packages that would be installed, and stop.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    download_only: download_options.DownloadOnly = False,
    cache_dir: download_options.CacheDir = "",
    make_tarball: download_options.MakeTarball = "",
    unpack_tarball: download_options.UnpackTarball = "",
    keep_debootstrap_dir: download_options.KeepDebootstrapDir = False,
    certificate: download_options.Certificate = "",
    private_key: download_options.PrivateKey = "",
    setup_hook: tree_options.SetupHook = None,
    extract_hook: tree_options.ExtractHook = None,
    essential_hook: tree_options.EssentialHook = None,
    customize_hook: tree_options.CustomizeHook = None,
    hook_dir: tree_options.HookDir = None,
    dpkg_opt: tree_options.DpkgOpt = None,
    apt_opt: tree_options.AptOpt = None,
    setup_user: tree_options.SetupUser = None,
    locale: tree_options.Locale = "",
    timezone: tree_options.Timezone = "",
    hostname: tree_options.Hostname = "",
    resolv_conf: tree_options.ResolvConf = "",
    root_password: tree_options.RootPassword = "",
    merged_usr: tree_options.MergedUsr = None,
    engine: tree_options.Engine = "native",
    engine_opt: tree_options.EngineOpt = None,
    foreign: tree_options.Foreign = False,
    second_stage: tree_options.SecondStage = False,
    second_stage_target: tree_options.SecondStageTarget = "",
    force_check_gpg: tree_options.ForceCheckGpg = False,
    format: Format = "",
    jobs: Jobs = 0,
    cache: UseKept = True,
    json: Json = False,
    verbose: Verbose = False,
    or_host: OrHost = False,
    _: RemoveTree = "",
) -> None:
    """Make a root file system from a Debian or Ubuntu archive.

    The suite `host` is a small root of this host's own programs, without a network; --include names more of them.
    Needs no debootstrap, dpkg, apt or gpgv on the host.
    """
    from toolkit.bootstrap import build
    from toolkit.bootstrap.compat import second_stage as other_half
    from toolkit.bootstrap.compat import tarball_write
    from toolkit.bootstrap.facts.hooks_config import Customisation
    from toolkit.bootstrap.facts.model import Request
    from toolkit.bootstrap.plan import download_only as downloading
    from toolkit.bootstrap.plan import plan_build
    from toolkit.errors import Usage

    if diff:
        source_options.print_difference(suite, target, json=json)
        return
    if second_stage:
        target = second_stage_target or target or suite
    if not suite and not second_stage:
        raise Usage("read the command line", because="missing argument 'SUITE'", hint="see ctk bootstrap --help")
    if not target and not (print_debs or download_only or make_tarball):
        # mmdebstrap's way: no TARGET, and a tar where standard output leads.
        command = f"ctk bootstrap {quote(suite)} {quote(f'./{suite}')}"
        tar = "" if sys.stdout.isatty() else f"; for a tar on standard output, ctk bootstrap {quote(suite)} -"
        raise Usage(
            "read the command line",
            because="there is no TARGET",
            hint=command + tar,
        )
    mirrors = several(mirror, mirror_argument)
    request = Request(
        suite=suite,
        target=target,
        variant=variant,
        architecture=arch,
        mirror=mirrors[0],
        mirrors=mirrors[1:],
        keyring=keyring,
        check_gpg=check_gpg or force_check_gpg,
        check_date=check_date,
        components=commas(components),
        include=commas(include),
        exclude=commas(exclude),
        jobs=jobs,
        restart=force,
        keep_failed=keep_failed,
        use_kept=cache,
        or_host=or_host,
        engine=engine,
        engine_options=tuple(engine_opt or ()),
        script=script,
        foreign=foreign,
        custom=Customisation(
            setup_hooks=tuple(setup_hook or ()),
            extract_hooks=tuple(extract_hook or ()),
            essential_hooks=tuple(essential_hook or ()),
            customize_hooks=tuple(customize_hook or ()),
            hook_folders=tuple(hook_dir or ()),
            dpkg_options=tuple(dpkg_opt or ()),
            apt_options=tuple(apt_opt or ()),
            users=tuple(setup_user or ()),
            locale=locale,
            timezone=timezone,
            hostname=hostname,
            resolv_conf=resolv_conf,
            root_password=root_password,
            merged_usr=merged_usr,
        ),
        pockets=commas(pocket),
        sources=tuple(source or ()),
        source_files=tuple(sources_file or ()),
        pins=tuple(pin or ()),
        preferences=tuple(preferences or ()),
        snapshot=snapshot,
        include_files=tuple(include_file or ()),
        recommends=recommends,
        locked=locked,
        lock=lock,
        sboms=tuple(sbom or ()),
        format=format,
        cache_dir=cache_dir,
        unpack_tarball=unpack_tarball,
        keep_debootstrap_dir=keep_debootstrap_dir,
        certificate=certificate,
        private_key=private_key,
    )
    if target == "-" and json:
        raise Usage("read the command line", because="TARGET - and --json both want standard output")
    with progress(json=json, verbose=verbose) as emit:
        if print_debs:
            chosen = plan_build.solve(request, emit)
        elif make_tarball:
            tarball_write.make(request, make_tarball, emit)
        elif download_only:
            downloading.download_only(request, emit)
        elif second_stage:
            other_half.second_stage(request, emit)
        else:
            build.bootstrap(request, emit)
    if print_debs and not json:
        output.out(" ".join(package.name for package in chosen.packages) + "\n")
