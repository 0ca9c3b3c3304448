"""The options of `ctk bootstrap` that change a tree beyond its packages, and the ways to make it."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

_CHANGE, _HOOKS, _ENGINE = "What is changed", "Hooks", "Engine"


def _hook(stage: str, when: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{stage}-hook",
        metavar="CMD",
        help=f"Run CMD {when}, with the root as $1; or copy-in, copy-out, sync-in, sync-out, tar-in, tar-out, upload, "
        "download with their paths."
        if stage == "setup"
        else f"The same {when}.",
        rich_help_panel=_HOOKS,
        show_default=False,
    )
    return option


Hooks = list[str] | None
SetupHook = Annotated[Hooks, _hook("setup", "before the download")]
ExtractHook = Annotated[Hooks, _hook("extract", "after unpacking")]
EssentialHook = Annotated[Hooks, _hook("essential", "when the required packages are configured")]
CustomizeHook = Annotated[Hooks, _hook("customize", "when all is configured")]
HookDir = Annotated[
    list[str] | None,
    typer.Option(
        "--hook-dir",
        "--hook-directory",
        metavar="DIR",
        help="Programs in DIR as hooks, by the names that they begin with: setup, extract, essential, customize.",
        rich_help_panel=_HOOKS,
        show_default=False,
    ),
]
DpkgOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--dpkg-opt",
        "--dpkgopt",
        metavar="OPT|FILE",
        help="An option for dpkg, kept in the tree: 'path-exclude=/usr/share/doc/*'.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
AptOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--apt-opt",
        "--aptopt",
        metavar="OPT|FILE",
        help="A setting for apt, kept in the tree: 'Acquire::Languages \"none\"'.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
SetupUser = Annotated[
    list[str] | None,
    typer.Option(
        "--setup-user",
        metavar="NAME[:UID][:sudo]",
        help="Make a user without a password; with sudo it may become root.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
Locale = Annotated[
    str,
    typer.Option(
        "--locale",
        metavar="NAME",
        help="Default locale, such as de_DE.UTF-8; adds the package locales.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
Timezone = Annotated[
    str,
    typer.Option(
        "--timezone",
        metavar="ZONE",
        help="Time zone, such as Europe/Berlin; adds the package tzdata.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
Hostname = Annotated[
    str,
    typer.Option(
        "--hostname", metavar="NAME", help="/etc/hostname.", rich_help_panel=_CHANGE, show_default="the host's"
    ),
]
ResolvConf = Annotated[
    str,
    typer.Option(
        "--resolv-conf",
        metavar="copy|keep|none|FILE",
        help="/etc/resolv.conf: the host's, what packages and hooks make, nothing, or FILE.",
        rich_help_panel=_CHANGE,
        show_default="copy",
    ),
]
RootPassword = Annotated[
    str,
    typer.Option(
        "--root-password",
        metavar="WORD",
        help="locked, none (no password), hashed:HASH (as in shadow(5)), file:PATH (its first line).",
        rich_help_panel=_CHANGE,
        show_default="no login by password",
    ),
]
MergedUsr = Annotated[
    bool | None,
    typer.Option(
        "--merged-usr/--no-merged-usr",
        help="/bin, /sbin and /lib as links into /usr.",
        rich_help_panel=_CHANGE,
        show_default="the suite's rule",
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="native, or debootstrap: the real program, with the same result file and next step.",
        rich_help_panel=_ENGINE,
    ),
]
EngineOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-opt",
        metavar="OPT",
        help="An option for --engine debootstrap alone, as it is: --engine-opt=--no-resolve-deps.",
        rich_help_panel=_ENGINE,
        show_default=False,
    ),
]
Script = Annotated[
    str,
    typer.Argument(metavar="SCRIPT", help="With --engine debootstrap: its suite script.", show_default=False),
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--foreign",
        help="Only the half in which no program of the tree runs; --second-stage is the other.",
        rich_help_panel=_ENGINE,
    ),
]
SecondStage = Annotated[
    bool,
    typer.Option(
        "--second-stage",
        help="Finish a tree that --foreign (ours or debootstrap's) has begun: --second-stage TARGET.",
        rich_help_panel=_ENGINE,
    ),
]
SecondStageTarget = Annotated[
    str,
    typer.Option(
        "--second-stage-target",
        metavar="DIR",
        help="The tree of --second-stage, in debootstrap's word for it.",
        rich_help_panel=_ENGINE,
        show_default=False,
    ),
]
ForceCheckGpg = Annotated[
    bool,
    typer.Option(
        "--force-check-gpg",
        "--force-check-sig",  # its name from debootstrap 1.0.139 on
        help="What ctk always does, unless --no-check-gpg is said.",
        hidden=True,
    ),
]


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """What changes a tree beyond its packages, and the ways to make it."""

    setup_hook: SetupHook = None
    extract_hook: ExtractHook = None
    essential_hook: EssentialHook = None
    customize_hook: CustomizeHook = None
    hook_dir: HookDir = None
    dpkg_opt: DpkgOpt = None
    apt_opt: AptOpt = None
    setup_user: SetupUser = None
    locale: Locale = ""
    timezone: Timezone = ""
    hostname: Hostname = ""
    resolv_conf: ResolvConf = ""
    root_password: RootPassword = ""
    merged_usr: MergedUsr = None
    engine: Engine = "native"
    engine_opt: EngineOpt = None
    foreign: Foreign = False
    second_stage: SecondStage = False
    second_stage_target: SecondStageTarget = ""
    force_check_gpg: ForceCheckGpg = False

    def fields(self) -> dict[str, Any]:
        """The fields of a Request that they stand for."""
        from toolkit.bootstrap.facts.hooks_config import Customisation

        custom = Customisation(
            setup_hooks=tuple(self.setup_hook or ()),
            extract_hooks=tuple(self.extract_hook or ()),
            essential_hooks=tuple(self.essential_hook or ()),
            customize_hooks=tuple(self.customize_hook or ()),
            hook_folders=tuple(self.hook_dir or ()),
            dpkg_options=tuple(self.dpkg_opt or ()),
            apt_options=tuple(self.apt_opt or ()),
            users=tuple(self.setup_user or ()),
            locale=self.locale,
            timezone=self.timezone,
            hostname=self.hostname,
            resolv_conf=self.resolv_conf,
            root_password=self.root_password,
            merged_usr=self.merged_usr,
        )
        return {
            "custom": custom,
            "engine": self.engine,
            "engine_options": tuple(self.engine_opt or ()),
            "foreign": self.foreign,
        }
