"""The options of `ctk bootstrap` about downloading packages and keeping them for later builds."""

from dataclasses import dataclass
from typing import Annotated, Any

from toolkit.cli import declare

_SOURCE, _OUTPUT = "Where from", "How"

DownloadOnly = Annotated[
    bool,
    declare.Option(
        "--download-only",
        help="Download the packages into the cache, verify them, and stop. Needs neither TARGET nor root.",
        rich_help_panel=_OUTPUT,
    ),
]
CacheDir = Annotated[
    str,
    declare.Option(
        "--cache-dir",
        metavar="DIR",
        help="A folder of .deb files (debootstrap's, APT's) to read packages from and add them to.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
MakeTarball = Annotated[
    str,
    declare.Option(
        "--make-tarball",
        metavar="FILE",
        help="Write the packages to FILE, for --unpack-tarball (ours or debootstrap's), and stop. Needs no TARGET.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
UnpackTarball = Annotated[
    str,
    declare.Option(
        "--unpack-tarball",
        metavar="FILE",
        help="Take the packages from a --make-tarball file (ours or debootstrap's), without a network.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
KeepDebootstrapDir = Annotated[
    bool,
    declare.Option(
        "--keep-debootstrap-dir",
        help="Keep /debootstrap in the tree: the package list, its sources, and the log.",
        rich_help_panel=_OUTPUT,
    ),
]
Certificate = Annotated[
    str,
    declare.Option(
        "--certificate",
        metavar="FILE",
        help="Client certificate (PEM) for https mirrors that require one.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]
PrivateKey = Annotated[
    str,
    declare.Option(
        "--private-key",
        metavar="FILE",
        help="The certificate's key (PEM), if it isn't in the same file.",
        rich_help_panel=_SOURCE,
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """How packages are downloaded, and where they are kept for later builds."""

    download_only: DownloadOnly = False
    cache_dir: CacheDir = ""
    make_tarball: MakeTarball = ""
    unpack_tarball: UnpackTarball = ""
    keep_debootstrap_dir: KeepDebootstrapDir = False
    certificate: Certificate = ""
    private_key: PrivateKey = ""

    def fields(self) -> dict[str, Any]:
        """These options as fields of a Request."""
        return {
            "cache_dir": self.cache_dir,
            "unpack_tarball": self.unpack_tarball,
            "keep_debootstrap_dir": self.keep_debootstrap_dir,
            "certificate": self.certificate,
            "private_key": self.private_key,
        }
