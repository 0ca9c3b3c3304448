"""The types of a bootstrap: what is asked for (Request), what will be installed (Lock), what was made (Result).

    Request --resolve--> Lock (exact packages and hashes; its hash is the build id) --build--> Result

All are plain immutable values; none opens a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from toolkit.bootstrap.facts.hooks_config import NOTHING, Customisation


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for. `suite` is a code name, alias or version; `target` a path as typed."""

    suite: str
    target: str
    variant: str = "-"  # debootstrap's names: "-", "minbase", "buildd"; mmdebstrap's others
    architecture: str = ""  # Debian's name; "" is the host's
    mirror: str = ""  # "": chosen from CTK_MIRROR, the host's apt sources, the suite table
    mirrors: tuple[str, ...] = ()  # further ones of the same archive
    keyring: str = ""  # "" is the one that the suite table names
    check_gpg: bool = True
    check_date: bool = True  # False goes on with an expired or future Release, with a warning
    components: tuple[str, ...] = ()  # () is the suite table's
    pockets: tuple[str, ...] = ()  # "updates", "security", …, or whole suite names of the same mirror
    sources: tuple[str, ...] = ()  # further archives: lines as in sources.list
    source_files: tuple[str, ...] = ()  # .list and .sources files with more of them
    pins: tuple[str, ...] = ()  # --pin, see policy.parse_pin
    preferences: tuple[str, ...] = ()  # files, see apt_preferences(5)
    include_files: tuple[str, ...] = ()  # files with package specifications, one or more a line
    recommends: bool = False
    snapshot: str = ""  # a date or timestamp: the archive as it was then
    locked: str = ""  # a lock file: build exactly this
    lock: str = ""  # where to write one
    sboms: tuple[str, ...] = ()  # "spdx=FILE", "cyclonedx=FILE"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    jobs: int = 0  # 0: chosen by the number of cores
    restart: bool = False  # remove a half-made target of ours and start again; touches nothing else
    or_host: bool = False  # use the host's own programs if no archive can be reached (host.py)
    keep_failed: bool = False  # leave the half-made tree of a failed build for inspection
    format: str = ""  # of the target (outputs.py); "": by its suffix
    tag: str = ""  # the name of the image; without a target it goes into the store
    use_kept: bool = True  # use a cached tree of the same build, and cache this one (tree_cache.py)
    cache_dir: str = ""  # a folder of .deb files to take from and add to (deb_folder.py)
    unpack_tarball: str = ""  # packages in a file (tarball_write.py), in place of an archive
    keep_debootstrap_dir: bool = False  # leave /debootstrap in the finished tree
    certificate: str = ""  # a PEM file: the client certificate for https mirrors that ask for one
    private_key: str = ""  # its key; "": in the certificate's file
    custom: Customisation = NOTHING  # hooks, options of dpkg and apt, names, users
    engine: str = "native"  # or "debootstrap", the real program
    engine_options: tuple[str, ...] = ()  # for debootstrap, as they are
    script: str = ""  # debootstrap's suite script, by name or path
    foreign: bool = False  # only the first stage, in which no program of the tree runs


@dataclass(frozen=True, slots=True)
class Source:
    """One signed suite of one mirror, as its Release file describes it."""

    mirror: str  # base URI without a trailing slash
    suite: str  # the name under dists/
    codename: str
    origin: str  # Release's Origin: "Debian", "Ubuntu", …
    components: tuple[str, ...]  # those whose index was used, in Release's order
    date: str  # Release's Date field
    release_sha256: str  # of the signed text that was verified
    signed_by: tuple[str, ...] = ()  # fingerprints; () only with check_gpg=False
    options: str = ""  # as in a line of sources.list, without signed-by: "trusted=yes check-valid-until=no"
    key: str = ""  # the keyring that the tree trusts for this source alone, base64; "": the distribution's
    kind: str = "archive"  # "flat": no dists/; "file": package files of the command line, not in sources.list


@dataclass(frozen=True, slots=True)
class Package:
    """One package version of an index. `paragraph` holds the fields of the index as written, by name."""

    name: str
    version: str
    architecture: str
    filename: str  # relative to the mirror, checked: no "..", not absolute
    size_bytes: int
    sha256: str
    source: int  # index into Lock.sources
    paragraph: Mapping[str, str] = field(hash=False)
    component: str = "main"


@dataclass(frozen=True, slots=True)
class Lock:
    """The exact packages of one build, in debootstrap's two sets.

    `required` and `base` are disjoint and sorted by name; together they are what is installed. `build_id` is the
    SHA-256 (hex) of everything that determines the tree.
    """

    suite: str  # the code name
    distribution: str  # "debian", "ubuntu" or Origin in lower case
    variant: str
    architecture: str
    sources: tuple[Source, ...]
    required: tuple[Package, ...]
    base: tuple[Package, ...]
    build_id: str
    preferences: str = ""  # apt_preferences(5) for the tree: the pins by which the packages were chosen

    def key(self, package: Package) -> str:
        """A package's name for dpkg: with its architecture if that is a foreign one."""
        if package.architecture in (self.architecture, "all"):
            return package.name
        return f"{package.name}:{package.architecture}"

    @property
    def title(self) -> str:
        """Suite, variant and architecture for people."""
        return _title(self.suite, self.variant, self.architecture)

    @property
    def packages(self) -> tuple[Package, ...]:
        return self.required + self.base


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a bootstrap: returned to the caller, and written beside the tree as JSON."""

    target: str
    suite: str
    distribution: str
    variant: str
    architecture: str
    packages: int
    size_bytes: int
    seconds: float
    build_id: str
    engine: str = "native"
    foreign: bool = False  # only the first stage is done; the second has still to run

    @property
    def title(self) -> str:
        """Suite, variant and architecture for people."""
        return _title(self.suite, self.variant, self.architecture)


def _title(suite: str, variant: str, architecture: str) -> str:
    """The default variant, "-", is not shown."""
    return f"{suite} ({'' if variant == '-' else variant + ', '}{architecture})"
