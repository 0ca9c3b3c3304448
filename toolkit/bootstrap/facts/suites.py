"""Every suite of Debian and Ubuntu: names, mirrors, keyrings, and what debootstrap does differently for each.

Dates and versions: distro-info-data 2026.10.12-1. Rules: debootstrap 1.0.128 and 1.0.141, scripts `sid`,
`debian-common` and `gutsy`. A suite that is not listed works from its signed Release file alone, given --mirror and
--keyring (`unknown`).
"""

from dataclasses import dataclass, replace

from toolkit.errors import NotFound


@dataclass(frozen=True, slots=True)
class Distribution:
    """What all suites of one distribution have in common. Mirrors have no trailing slash."""

    name: str
    mirror: str
    ports_mirror: str  # for the architectures outside `main_architectures`; "" is `mirror`
    archive_mirror: str  # where suites are moved after their end of life
    main_architectures: tuple[str, ...]  # () is all
    keyring: str  # file in the shipped keyrings
    components: tuple[str, ...]  # debootstrap's default for --components
    all_components: tuple[str, ...]
    security_mirror: str = ""  # of the pocket `security`; "" is `mirror`
    archived_security_mirror: str = ""
    # The archive as it was at {date} (YYYYMMDDTHHMMSSZ), and the same for `security_mirror`.
    snapshot: str = ""
    security_snapshot: str = ""


DEBIAN = Distribution(
    name="debian",
    mirror="http://ftp.debian.org/debian",
    ports_mirror="",
    archive_mirror="http://archive.debian.org/debian",
    main_architectures=(),
    keyring="debian-archive-keyring.pgp",
    components=("main",),
    all_components=("main", "contrib", "non-free-firmware", "non-free"),
    security_mirror="http://security.debian.org/debian-security",
    archived_security_mirror="http://archive.debian.org/debian-security",
    snapshot="http://snapshot.debian.org/archive/debian/{date}",
    security_snapshot="http://snapshot.debian.org/archive/debian-security/{date}",
)
UBUNTU = Distribution(
    name="ubuntu",
    mirror="http://archive.ubuntu.com/ubuntu",
    ports_mirror="http://ports.ubuntu.com/ubuntu-ports",
    archive_mirror="http://old-releases.ubuntu.com/ubuntu",
    main_architectures=("amd64", "i386"),
    keyring="ubuntu-archive-keyring.gpg",
    components=("main",),
    all_components=("main", "restricted", "universe", "multiverse"),
    snapshot="https://snapshot.ubuntu.com/ubuntu/{date}",
)
DISTRIBUTIONS = {one.name: one for one in (DEBIAN, UBUNTU)}


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite. `merged_usr` and `merged_usr_buildd` say whether /bin and the like are links into /usr once the
    packages are unpacked: the latter in the buildd variant, the former in all others."""

    codename: str
    version: str
    distribution: Distribution | None  # None: unknown
    over: str = ""  # date (ISO) from which it is on `archive_mirror`; "": not known yet
    merged_usr: bool = True
    merged_usr_buildd: bool = True
    keyrings: tuple[str, ...] = ()  # files of the shipped keyrings; a signature by any of their keys is enough
    aliases: tuple[str, ...] = ()
    name: str = ""  # the folder under dists/; differs from the code name when an alias was asked for
    packages: tuple[str, ...] = ()  # added to the required set: bookworm's usr-is-merged
    ignored_dependencies: tuple[str, ...] = ()  # debootstrap's EXCLUDE_DEPENDENCY
    https_packages: tuple[str, ...] = ("ca-certificates",)  # added to the base set if the mirror is https
    pockets: tuple[tuple[str, str], ...] = ()  # pocket → suite name under dists/
    weak_keys: bool = False  # signed only by keys whose self-signatures are SHA-1 or DSA

    def merges_usr(self, variant: str) -> bool:
        return self.merged_usr_buildd if variant == "buildd" else self.merged_usr


# version, code name, date of its move (or expected move) to the archive: end of long-term support plus a few months
_DEBIAN = """
3.1 sarge 2010-01-01
4.0 etch 2010-06-01
5.0 lenny 2012-09-01
6.0 squeeze 2016-04-01
7 wheezy 2019-03-01
8 jessie 2021-03-01
9 stretch 2023-03-01
10 buster 2025-06-01
11 bullseye 2027-02-01
12 bookworm 2029-01-01
13 trixie 2031-01-01
14 forky -
15 duke -
- sid -
- experimental -
"""

# Ubuntu's long-term releases stay on the main mirror while Canonical sells support for them.
_UBUNTU = """
4.10 warty 2006-04-30
5.04 hoary 2006-10-31
5.10 breezy 2007-04-13
6.06 dapper 2011-06-01
6.10 edgy 2008-04-25
7.04 feisty 2008-10-19
7.10 gutsy 2009-04-18
8.04 hardy 2013-05-09
8.10 intrepid 2010-04-30
9.04 jaunty 2010-10-23
9.10 karmic 2011-04-30
10.04 lucid 2015-04-30
10.10 maverick 2012-04-10
11.04 natty 2012-10-28
11.10 oneiric 2013-05-09
12.04 precise 2019-04-26
12.10 quantal 2014-05-16
13.04 raring 2014-01-27
13.10 saucy 2014-07-17
14.04 trusty 2029-04-26
14.10 utopic 2015-07-23
15.04 vivid 2016-02-04
15.10 wily 2016-07-28
16.04 xenial 2031-04-30
16.10 yakkety 2017-07-20
17.04 zesty 2018-01-13
17.10 artful 2018-07-19
18.04 bionic 2033-04-28
18.10 cosmic 2019-07-18
19.04 disco 2020-01-23
19.10 eoan 2020-07-17
20.04 focal 2035-04-26
20.10 groovy 2021-07-22
21.04 hirsute 2022-01-20
21.10 impish 2022-07-14
22.04 jammy 2037-04-30
22.10 kinetic 2023-07-20
23.04 lunar 2024-01-25
23.10 mantic 2024-07-11
24.04 noble 2039-04-28
24.10 oracular 2025-07-10
25.04 plucky 2026-01-15
25.10 questing 2026-07-09
26.04 resolute 2041-04-30
26.10 stonking 2027-07-15
27.04 tenacious 2028-01-20
"""

# Aliases, which move from suite to suite. The folder under dists/ has the name that was asked for, and the signed
# Release file gives today's code name; this table is only a guess before that is read.
_MOVING = {
    "oldoldstable": "bullseye",
    "oldstable": "bookworm",
    "stable": "trixie",
    "testing": "forky",
    "unstable": "sid",
    "rc-buggy": "experimental",
    "devel": "tenacious",  # Ubuntu's
}

_USUAL = {"debian": ("stable", "trixie", "bookworm"), "ubuntu": ("resolute", "noble", "jammy")}

# Releases before these have separate /bin, /sbin and /lib (_BUILDD: in the buildd variant, which was merged later).
_DEBIAN_MERGED, _DEBIAN_MERGED_BUILDD = "buster", "trixie"
_UBUNTU_MERGED, _UBUNTU_SPLIT_BUILDD = "disco", "hirsute"  # of later releases, only hirsute's buildd is not merged
_DEBIAN_HTTPS_SINCE, _UBUNTU_HTTPS_SINCE = "buster", "artful"
# The oldest releases whose archive keys today's OpenPGP policy accepts (docs/decisions/0002-openpgp.md).
_DEBIAN_KEYS_SINCE, _UBUNTU_KEYS_SINCE = "wheezy", "artful"


def _rows(text: str) -> list[tuple[str, str, str]]:
    rows = [line.split() for line in text.strip().splitlines()]
    return [(a.replace("-", ""), b, "" if c == "-" else c) for a, b, c in rows]


def _debian() -> list[Suite]:
    suites = []
    rows = _rows(_DEBIAN)
    order = [codename for _, codename, _ in rows]
    for at, (version, codename, over) in enumerate(rows):
        removed = at < order.index("bullseye")
        after_bullseye = at > order.index("bullseye")
        security = f"{codename}-security" if at >= order.index("bullseye") else f"{codename}/updates"
        released = bool(version)
        suites.append(
            Suite(
                codename=codename,
                version=version,
                distribution=DEBIAN,
                over=over,
                merged_usr=at >= order.index(_DEBIAN_MERGED),
                merged_usr_buildd=at >= order.index(_DEBIAN_MERGED_BUILDD),
                keyrings=(DEBIAN.keyring, "debian-archive-removed-keys.pgp") if removed else (DEBIAN.keyring,),
                aliases=tuple(alias for alias, to in _MOVING.items() if to == codename),
                name=codename,
                packages=("usr-is-merged",) if codename == "bookworm" else (),
                ignored_dependencies=("usrmerge",) if after_bullseye else (),
                https_packages=_https(at >= order.index(_DEBIAN_HTTPS_SINCE)),
                pockets=(
                    (
                        ("updates", f"{codename}-updates"),
                        ("security", security),
                        ("backports", f"{codename}-backports"),
                        ("proposed-updates", f"{codename}-proposed-updates"),
                    )
                    if released
                    else ()
                ),
                weak_keys=at < order.index(_DEBIAN_KEYS_SINCE),
            )
        )
    return suites


def _ubuntu() -> list[Suite]:
    suites = []
    rows = _rows(_UBUNTU)
    order = [codename for _, codename, _ in rows]
    for at, (version, codename, over) in enumerate(rows):
        suites.append(
            Suite(
                codename=codename,
                version=version,
                distribution=UBUNTU,
                over=over,
                merged_usr=at >= order.index(_UBUNTU_MERGED),
                merged_usr_buildd=at >= order.index(_UBUNTU_MERGED) and codename != _UBUNTU_SPLIT_BUILDD,
                keyrings=(UBUNTU.keyring,),
                aliases=tuple(alias for alias, to in _MOVING.items() if to == codename),
                name=codename,
                https_packages=_https(at >= order.index(_UBUNTU_HTTPS_SINCE)),
                pockets=tuple(
                    (pocket, f"{codename}-{pocket}") for pocket in ("updates", "security", "backports", "proposed")
                ),
                weak_keys=at < order.index(_UBUNTU_KEYS_SINCE),
            )
        )
    return suites


def _https(built_in: bool) -> tuple[str, ...]:
    return ("ca-certificates",) if built_in else ("apt-transport-https", "ca-certificates")


SUITES: dict[str, Suite] = {suite.codename: suite for suite in (*_debian(), *_ubuntu())}


def lookup(name: str) -> Suite:
    """The suite called `name`: a code name, an alias (`stable`) or a version (`12`, `12.5`, `22.04`, `debian:12`).

    Raises NotFound, with the closest names that exist.
    """
    asked = name.strip().lower()
    only, colon, rest = asked.partition(":")
    if colon and only in DISTRIBUTIONS:
        asked = rest
    found = SUITES.get(asked)
    if found is not None:
        return found
    if asked in _MOVING:
        return replace(SUITES[_MOVING[asked]], name="experimental" if asked == "rc-buggy" else asked)
    version = asked.removesuffix("lts").strip()
    # The major number alone is tried last: 12.5 is bookworm, but 14.04 is trusty and not a point release of forky.
    for wanted in (version, version.partition(".")[0]) if version.replace(".", "").isdigit() else ():
        for suite in SUITES.values():
            if suite.version and suite.version == wanted:
                return suite
    if asked in DISTRIBUTIONS or (colon and only in DISTRIBUTIONS):
        raise NotFound(
            f"find suite {name!r}",
            because=f"{only!r} is the distribution" + (f", and {rest!r} is not one of its suites" if rest else ""),
            hint="name a suite of it: " + ", ".join(_USUAL[only]),
        )
    raise NotFound(
        f"find suite {name!r}",
        because="it is not a Debian or Ubuntu suite that ctk knows" + _near(asked),
        hint="a suite of another archive, or a newer one, works with --mirror URL and --keyring FILE",
    )


def unknown(name: str) -> Suite:
    """A suite that is not in the table: the rules of the newest release, all else from its signed Release file."""
    return Suite(codename=name, version="", distribution=None, name=name)


def for_release(asked: Suite, codename: str, origin: str) -> Suite:
    """The suite that a verified Release file is for: `stable` may be another one than the table says.

    A code name that is not in the table (a release newer than ctk, a derivative) gets the rules of the newest release.
    """
    if codename == asked.codename:
        return asked
    known = SUITES.get(codename)
    if known is not None and known.distribution is not None and known.distribution.name == origin.lower():
        return replace(known, name=asked.name)
    distribution = DISTRIBUTIONS.get(origin.lower())
    return replace(
        unknown(codename or asked.codename),
        name=asked.name,
        distribution=distribution,
        ignored_dependencies=("usrmerge",) if distribution is DEBIAN else (),
    )


def mirror_inside(mirror: str, distribution: str, architecture: str) -> str:
    """The mirror for a tree's sources.list: `mirror`, or the distribution's own if `mirror` is a path or a file: URI.

    This is debootstrap's rule: a path of the host means nothing inside the tree.
    """
    known = DISTRIBUTIONS.get(distribution)
    if mirror.startswith(("http://", "https://")) or known is None:
        return mirror
    if known.main_architectures and architecture not in known.main_architectures:
        return known.ports_mirror
    return known.mirror


def _near(asked: str) -> str:
    import difflib

    names = [*SUITES, *_MOVING, *(suite.version for suite in SUITES.values() if suite.version)]
    near = difflib.get_close_matches(asked, names, n=3, cutoff=0.6)
    return "; did you mean " + " or ".join(repr(one) for one in near) + "?" if near else ""
