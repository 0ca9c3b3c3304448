"""The options that say which packages of which archive a root is made of: those of `ctk bootstrap` and `ctk up`."""

from dataclasses import dataclass
from typing import Annotated, Any

from toolkit.cli import complete, declare
from toolkit.cli.output import commas, several

_SOURCE, _CONTENT, _OUTPUT = "Where from", "What goes in", "How"

Suite = Annotated[
    str,
    declare.Argument(
        metavar="SUITE",
        help="Code name, alias or version: bookworm, stable, 12, jammy, 22.04.",
        show_default=False,
        autocompletion=complete.suites,
    ),
]
Mirror = Annotated[
    list[str] | None,
    declare.Option(
        "--mirror",
        metavar="URL",
        help="Base URL of the archive. Repeat it, and ctk moves on from a slow or broken one. Default: CTK_MIRROR, "
        "else the host's own sources, else the suite's official archive.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
Keyring = Annotated[
    str,
    declare.Option(
        "--keyring",
        metavar="FILE",
        help="OpenPGP keys that may sign the archive, instead of those that ctk brings.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
CheckGpg = Annotated[
    bool, declare.Option("--check-gpg/--no-check-gpg", help="Verify the archive's signature.", rich_help_panel=_SOURCE)
]
CheckDate = Annotated[
    bool,
    declare.Option(
        "--check-date/--no-check-date",
        help="Refuse an archive whose signature has expired.",
        rich_help_panel=_SOURCE,
    ),
]
Components = Annotated[
    list[str] | None,
    declare.Option(
        "--components",
        metavar="A,B",
        help="Components to install from.",
        rich_help_panel=_SOURCE,
        show_default="the suite's",
    ),
]
Arch = Annotated[
    str,
    declare.Option(
        "--arch",
        metavar="ARCH",
        help="Architecture, by Debian's name for it: amd64, arm64, riscv64.",
        rich_help_panel=_CONTENT,
        show_default="the host's",
    ),
]
Variant = Annotated[
    str,
    declare.Option(
        "--variant",
        metavar="NAME",
        help="Which packages: - (debootstrap's default), minbase, buildd.",
        rich_help_panel=_CONTENT,
        autocompletion=complete.variants,
    ),
]
Include = Annotated[
    list[str] | None,
    declare.Option(
        "--include",
        metavar="A,B",
        help="Packages to add, as for apt-get: NAME, NAME=VERSION, NAME/SUITE, ./FILE.deb, ?section(shells).",
        rich_help_panel=_CONTENT,
        show_default=False,
    ),
]
Exclude = Annotated[
    list[str] | None,
    declare.Option(
        "--exclude", metavar="A,B", help="Packages to leave out.", rich_help_panel=_CONTENT, show_default=False
    ),
]
Jobs = Annotated[
    int,
    declare.Option(
        "--jobs",
        metavar="N",
        min=0,
        help="Parallel downloads and unpackers; 0: as many as are worthwhile.",
        rich_help_panel=_OUTPUT,
    ),
]
Cache = Annotated[
    bool,
    declare.Option(
        "--cache/--no-cache",
        help="Use a cached tree if nothing has changed since, and cache this one.",
        rich_help_panel=_OUTPUT,
    ),
]
OrHost = Annotated[
    bool,
    declare.Option("--or-host", help="Use this host's own programs if no archive answers.", rich_help_panel=_SOURCE),
]


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """The archive, and the packages."""

    arch: Arch = ""
    include: Include = None
    exclude: Exclude = None
    mirror: Mirror = None
    components: Components = None
    keyring: Keyring = ""
    check_gpg: CheckGpg = True
    check_date: CheckDate = True
    jobs: Jobs = 0
    cache: Cache = True
    or_host: OrHost = False

    def fields(self, mirror: str = "") -> dict[str, Any]:
        """These options as fields of a Request; `mirror` is one mirror more, or ''."""
        mirrors = several(self.mirror, mirror)
        return {
            "architecture": self.arch,
            "mirror": mirrors[0],
            "mirrors": mirrors[1:],
            "keyring": self.keyring,
            "check_gpg": self.check_gpg,
            "check_date": self.check_date,
            "components": commas(self.components),
            "include": commas(self.include),
            "exclude": commas(self.exclude),
            "jobs": self.jobs,
            "use_kept": self.cache,
            "or_host": self.or_host,
        }
