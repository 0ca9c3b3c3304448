"""The options of `ctk bootstrap` about how packages get here, and where they are left for another time."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

_SOURCE, _OUTPUT = "Where from", "How"

DownloadOnly = Annotated[
    bool,
    typer.Option(
        "--download-only",
        help="Fetch and check the packages into the cache, and stop. Needs neither TARGET nor root.",
        rich_help_panel=_OUTPUT,
    ),
]
CacheDir = Annotated[
    str,
    typer.Option(
        "--cache-dir",
        metavar="DIR",
        help="A folder of .deb files (debootstrap's, APT's) to take from and add to.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
MakeTarball = Annotated[
    str,
    typer.Option(
        "--make-tarball",
        metavar="FILE",
        help="Write the packages to FILE, for --unpack-tarball (debootstrap's, too), and stop. Needs no TARGET.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
UnpackTarball = Annotated[
    str,
    typer.Option(
        "--unpack-tarball",
        metavar="FILE",
        help="Take the packages from such a file (debootstrap's, too), and ask no network.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
KeepDebootstrapDir = Annotated[
    bool,
    typer.Option(
        "--keep-debootstrap-dir",
        help="Leave /debootstrap in the tree: which packages, where from, and the log.",
        rich_help_panel=_OUTPUT,
    ),
]
Certificate = Annotated[
    str,
    typer.Option(
        "--certificate",
        metavar="FILE",
        help="Client certificate (PEM) for https mirrors that want one.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
PrivateKey = Annotated[
    str,
    typer.Option(
        "--private-key",
        metavar="FILE",
        help="The certificate's key (PEM), where it isn't in the same file.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How packages get here, and where they are left for another time."""

    download_only: DownloadOnly = False
    cache_dir: CacheDir = ""
    make_tarball: MakeTarball = ""
    unpack_tarball: UnpackTarball = ""
    keep_debootstrap_dir: KeepDebootstrapDir = False
    certificate: Certificate = ""
    private_key: PrivateKey = ""

    def fields(self) -> dict[str, Any]:
        """The fields of a Request that they stand for."""
        return {
            "cache_dir": self.cache_dir,
            "unpack_tarball": self.unpack_tarball,
            "keep_debootstrap_dir": self.keep_debootstrap_dir,
            "certificate": self.certificate,
            "private_key": self.private_key,
        }
