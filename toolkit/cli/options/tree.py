"""The options of `ctk bootstrap` that change the tree beyond its packages, and those that choose how it is built."""

from dataclasses import dataclass
from typing import Annotated, Any

from toolkit.cli import declare

_CHANGE, _HOOKS, _ENGINE = "What is changed", "Hooks", "Engine"


def _hook(stage: str, when: str) -> declare.Option:
    option: declare.Option = declare.Option(
        f"--{stage}-hook",
        metavar="CMD",
        help=f"Run CMD {when}, with the root as $1. CMD can also be copy-in, copy-out, sync-in, sync-out, tar-in, "
        "tar-out, upload or download, with paths."
        if stage == "setup"
        else f"The same, {when}.",
        rich_help_panel=_HOOKS,
        show_default=False,
    )
    return option


Hooks = list[str] | None
SetupHook = Annotated[Hooks, _hook("setup", "before the download")]
ExtractHook = Annotated[Hooks, _hook("extract", "after unpacking")]
EssentialHook = Annotated[Hooks, _hook("essential", "after the required packages are configured")]
CustomizeHook = Annotated[Hooks, _hook("customize", "after all packages are configured")]
HookDir = Annotated[
    list[str] | None,
    declare.Option(
        "--hook-dir",
        "--hook-directory",
        metavar="DIR",
        help="Run the programs in DIR whose names begin with setup, extract, essential or customize as such hooks.",
        rich_help_panel=_HOOKS,
        show_default=False,
    ),
]
DpkgOpt = Annotated[
    list[str] | None,
    declare.Option(
        "--dpkg-opt",
        "--dpkgopt",
        metavar="OPT|FILE",
        help="A dpkg option, also written into the tree: 'path-exclude=/usr/share/doc/*'.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
AptOpt = Annotated[
    list[str] | None,
    declare.Option(
        "--apt-opt",
        "--aptopt",
        metavar="OPT|FILE",
        help="An apt setting, also written into the tree: 'Acquire::Languages \"none\"'.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
SetupUser = Annotated[
    list[str] | None,
    declare.Option(
        "--setup-user",
        metavar="NAME[:UID][:sudo]",
        help="Create a user without a password; with sudo it may become root.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
Locale = Annotated[
    str,
    declare.Option(
        "--locale",
        metavar="NAME",
        help="Default locale, such as de_DE.UTF-8; adds the package locales.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
Timezone = Annotated[
    str,
    declare.Option(
        "--timezone",
        metavar="ZONE",
        help="Time zone, such as Europe/Berlin; adds the package tzdata.",
        rich_help_panel=_CHANGE,
        show_default=False,
    ),
]
Hostname = Annotated[
    str,
    declare.Option(
        "--hostname",
        metavar="NAME",
        help="Content of /etc/hostname.",
        rich_help_panel=_CHANGE,
        show_default="the host's",
    ),
]
ResolvConf = Annotated[
    str,
    declare.Option(
        "--resolv-conf",
        metavar="copy|keep|none|FILE",
        help="/etc/resolv.conf: a copy of the host's, as packages and hooks leave it, none, or FILE.",
        rich_help_panel=_CHANGE,
        show_default="copy",
    ),
]
RootPassword = Annotated[
    str,
    declare.Option(
        "--root-password",
        metavar="WORD",
        help="locked, none (no password), hashed:HASH (as in shadow(5)), file:PATH (its first line).",
        rich_help_panel=_CHANGE,
        show_default="no password login",
    ),
]
MergedUsr = Annotated[
    bool | None,
    declare.Option(
        "--merged-usr/--no-merged-usr",
        help="Make /bin, /sbin and /lib symbolic links into /usr.",
        rich_help_panel=_CHANGE,
        show_default="the suite's rule",
    ),
]
Engine = Annotated[
    str,
    declare.Option(
        "--engine",
        metavar="NAME",
        help="native, or debootstrap: run the real program; the result file and the next step are the same.",
        rich_help_panel=_ENGINE,
    ),
]
EngineOpt = Annotated[
    list[str] | None,
    declare.Option(
        "--engine-opt",
        metavar="OPT",
        help="An option to pass to debootstrap (--engine debootstrap only): --engine-opt=--no-resolve-deps.",
        rich_help_panel=_ENGINE,
        show_default=False,
    ),
]
Script = Annotated[
    str,
    declare.Argument(metavar="SCRIPT", help="With --engine debootstrap: its suite script.", show_default=False),
]
Foreign = Annotated[
    bool,
    declare.Option(
        "--foreign",
        help="Do only the first stage, in which no program of the tree runs; --second-stage does the rest.",
        rich_help_panel=_ENGINE,
    ),
]
SecondStage = Annotated[
    bool,
    declare.Option(
        "--second-stage",
        help="Finish a tree begun with --foreign (ours or debootstrap's): --second-stage TARGET.",
        rich_help_panel=_ENGINE,
    ),
]
SecondStageTarget = Annotated[
    str,
    declare.Option(
        "--second-stage-target",
        metavar="DIR",
        help="The tree of --second-stage, by debootstrap's option name.",
        rich_help_panel=_ENGINE,
        show_default=False,
    ),
]
ForceCheckGpg = Annotated[
    bool,
    declare.Option(
        "--force-check-gpg",
        "--force-check-sig",  # its name from debootstrap 1.0.139 on
        help="ctk does this by default, unless --no-check-gpg is given.",
        hidden=True,
    ),
]


@dataclass(frozen=True, slots=True)
class TreeOptions:
    """What changes the tree beyond its packages, and how it is built."""

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
        """These options as fields of a Request."""
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
