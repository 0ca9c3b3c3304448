"""Choose the mirror: the argument, CTK_MIRROR, the host's own apt sources if of the same distribution, the suite table.

The host's sources are used because they are near, they may be the only ones that a firewall lets through, and the
host's administrator has chosen them. A setting there about dates applies here too (`Choice.dates_unchecked`).
"""

import contextlib
import os
from dataclasses import dataclass

from toolkit.bootstrap.facts.suites import Suite
from toolkit.deb.sources_list import AptSource, is_yes, parse_deb822, parse_line
from toolkit.errors import CtkError, NotFound
from toolkit.events import Emit, Note
from toolkit.fetch.logins import bare
from toolkit.kernel import reading


@dataclass(frozen=True, slots=True)
class Choice:
    """Base URI without a trailing slash, and why it was chosen (shown to the user)."""

    mirror: str
    why: str
    dates_unchecked: bool = False  # the host's apt is configured not to check Valid-Until for this mirror


_MOST_BYTES = 16 << 20  # read from a file of /etc, which may be that of an untrusted tree


def choose(
    suite: Suite, architecture: str, given: str, *, today: str, native: bool = True, root: str = "/"
) -> tuple[Choice, ...]:
    """The mirrors to try, best first. A later one is tried only if an earlier one does not have the suite.

    `given` is the argument ("" is none), `today` an ISO date, `native` whether `architecture` is the host's own, `root`
    the host's root (for tests). Raises NotFound for an unknown suite without a mirror.
    """
    sources = tuple(one.of(architecture) for one in host_sources(root))
    given = given or os.environ.get("CTK_MIRROR", "")
    if given:
        mirror = given.rstrip("/") or given
        why = "given"
        return (Choice(mirror, why, _dates_unchecked(mirror, sources, root)),)
    distribution = suite.distribution
    if distribution is None:
        raise NotFound(
            f"choose a mirror for suite {suite.name!r}",
            because="the suite is not in ctk's table",
            hint="name its mirror with --mirror URL, and its keyring with --keyring FILE",
        )
    choices: list[Choice] = []
    over = bool(suite.over) and today > suite.over
    host_id, host_like = host_distribution(root)
    # Ubuntu's architectures are on two mirrors; the host's mirror has the host's own architecture.
    if distribution.name in (host_id, *host_like) and (native or not distribution.main_architectures):
        for uri in _main_archives(sources, distribution.name):
            choices.append(Choice(uri, "the host's apt sources", _dates_unchecked(uri, sources, root)))
    table = distribution.mirror
    if not _served_here(distribution.main_architectures, architecture):
        table = distribution.ports_mirror
    listed = [Choice(table, "the suite table"), Choice(distribution.archive_mirror, "the suite table")]
    if over:
        # The host's mirror comes last: it rarely has suites that have ended, but behind a firewall it may.
        return (listed[1], *choices, listed[0])
    return (*choices, *listed)


def note_login(given: str, emit: Emit) -> None:
    """Note how to give apt in the tree the name and password of a mirror, if `given` contains them."""
    mirror = bare(given)
    if mirror != given:
        emit(
            Note(
                f"the tree's sources.list names {mirror} without your name and password; for its apt, put "
                f"'machine {mirror.rstrip('/')} login NAME password PASSWORD' into a file of its /etc/apt/auth.conf.d "
                "(apt_auth.conf(5)), or of the host's: --customize-hook 'copy-in FILE /etc/apt/auth.conf.d'",
                warning=True,
            )
        )


def host_distribution(root: str = "/") -> tuple[str, tuple[str, ...]]:
    """ID and ID_LIKE of the host's os-release(5); empty without one."""
    fields = _os_release(root)
    return fields.get("ID", "").lower(), tuple(fields.get("ID_LIKE", "").lower().split())


def host_suite(root: str = "/") -> str:
    """The host's own suite if it is Debian or Ubuntu (`trixie`); "" for another system, or without a code name."""
    fields = _os_release(root)
    return fields.get("VERSION_CODENAME", "") if fields.get("ID") in ("debian", "ubuntu") else ""


def _os_release(root: str) -> dict[str, str]:
    """The fields of os-release(5)."""
    fields: dict[str, str] = {}
    for name in ("etc/os-release", "usr/lib/os-release"):
        try:
            for line in reading.text(os.path.join(root, name), limit_bytes=_MOST_BYTES, errors="replace").split("\n"):
                key, equals, value = line.strip().partition("=")
                if equals:
                    fields[key] = value.strip("\"'")
            break
        except OSError:
            continue
    return fields


def host_sources(root: str = "/") -> tuple[AptSource, ...]:
    """The `deb` entries of the host's /etc/apt in both forms (sources.list(5)). Unreadable files are skipped."""
    folder = os.path.join(root, "etc/apt")
    files = [os.path.join(folder, "sources.list")]
    parts = os.path.join(folder, "sources.list.d")
    try:
        files += sorted(os.path.join(parts, name) for name in os.listdir(parts))
    except OSError:
        pass
    found: list[AptSource] = []
    for path in files:
        try:
            data = reading.named(path, limit_bytes=_MOST_BYTES)
        except OSError:
            continue
        # A broken file is for the host's apt to report; it does not prevent a build.
        if path.endswith(".list"):
            for line in data.decode(errors="replace").splitlines():
                with contextlib.suppress(CtkError):
                    source = parse_line(line, what=path)
                    found += [source] if source else []
        elif path.endswith(".sources"):
            with contextlib.suppress(CtkError):
                found += parse_deb822(data, what=path)
    return tuple(found)


def _main_archives(sources: tuple[AptSource, ...], distribution: str) -> list[str]:
    """The URIs that serve the distribution's own release pocket, each once.

    An entry qualifies if it lists `main` for a suite of the table, not for a pocket, and its URI is the distribution's:
    third-party repositories name a suite too, but have none of its base packages.
    """
    from toolkit.bootstrap.facts.suites import SUITES

    names = {
        name
        for suite in SUITES.values()
        if suite.distribution is not None and suite.distribution.name == distribution
        for name in (suite.codename, *suite.aliases)
    }
    uris = [
        source.uri
        for source in sources
        if "main" in source.components
        and names.intersection(source.suites)
        and source.uri.startswith(("http://", "https://", "file:", "copy:"))
        # The last part of the path names the archive: "debian", "ubuntu", "debian-archive", …
        and distribution in source.uri.rpartition("/")[2]
    ]
    return list(dict.fromkeys(uris))


def _dates_unchecked(mirror: str, sources: tuple[AptSource, ...], root: str) -> bool:
    mine = [source for source in sources if source.uri == mirror]
    if not mine:
        return False
    stated = [source.check_valid_until for source in mine if source.check_valid_until is not None]
    if stated:
        return not all(stated)
    return not _apt_conf_checks_dates(root)


def _apt_conf_checks_dates(root: str) -> bool:
    """Acquire::Check-Valid-Until of the host's apt.conf; the last occurrence counts (apt.conf(5))."""
    import re

    folder = os.path.join(root, "etc/apt/apt.conf.d")
    try:
        files = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    except OSError:
        files = []
    checks = True
    pattern = re.compile(r'^[^/#\n]*?Check-Valid-Until\s+"?([A-Za-z0-9]+)"?\s*;', re.MULTILINE)
    for path in [*files, os.path.join(root, "etc/apt/apt.conf")]:
        try:
            for match in pattern.finditer(reading.text(path, limit_bytes=_MOST_BYTES, errors="replace")):
                checks = is_yes(match[1])
        except OSError:
            continue
    return checks


def _served_here(main_architectures: tuple[str, ...], architecture: str) -> bool:
    return not main_architectures or architecture in main_architectures
