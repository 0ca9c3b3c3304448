"""Open and verify every source of a request, then read their indexes into the pool to choose from."""

import os
import time
from dataclasses import dataclass

from toolkit import places
from toolkit.bootstrap.acquire import mirrors, repositories, snapshot
from toolkit.bootstrap.acquire.indexes import load_members
from toolkit.bootstrap.acquire.sources import Opened, open_source
from toolkit.bootstrap.facts import suites
from toolkit.bootstrap.facts.architectures import is_native
from toolkit.bootstrap.facts.model import Request, Source
from toolkit.bootstrap.facts.policy import Facts, Pin, Policy, parse_pin, parse_preferences
from toolkit.bootstrap.facts.pool import Candidate, Pool
from toolkit.bootstrap.facts.stage import stage
from toolkit.bootstrap.resolve import package_files, package_specs
from toolkit.deb.release import parse_date
from toolkit.errors import NotFound, Usage, reason
from toolkit.events import Emit
from toolkit.fetch.cache import Cache
from toolkit.fetch.http import Client
from toolkit.fetch.verify import find_keyring
from toolkit.kernel import reading


@dataclass(frozen=True, slots=True)
class Gathered:
    """The sources of a request, with verified Release files. Their indexes are not read yet."""

    suite: suites.Suite  # as the main Release file says
    sources: tuple[Source, ...]
    opened: tuple[Opened, ...]
    facts: tuple[Facts, ...]
    pins: tuple[Pin, ...]
    architectures: tuple[str, ...]  # the root's own first
    files: tuple[Candidate, ...]  # the package files of --include
    include: tuple[str, ...]  # its other package specifications

    @property
    def preferences(self) -> str:
        """The pins in the format of apt_preferences(5)."""
        return "\n".join(pin.text() for pin in self.pins)

    def read(self, client: Client, cache: Cache, emit: Emit) -> Pool:
        """Read the indexes of all sources (the stage `index`). Raises like `load_members`."""
        with stage("index", emit) as report:
            members = [
                member
                for number, one in enumerate(self.opened)
                for member in load_members(client, cache, number, one, self.architectures, emit)
            ]
            members += [one.member for one in self.files]
            report.detail = f"{sum(len(member.index) for member in members)} packages"
        # With one source and no pins the order of the indexes decides, as in debootstrap.
        policy = Policy(self.facts, self.pins) if len(self.sources) > 1 or self.pins else None
        return Pool(members, self.architectures[0], policy)


def gather(request: Request, client: Client, architecture: str, emit: Emit) -> Gathered:
    """Open and verify every source (the stage `release`). Raises any ArchiveError, NotFound, Usage."""
    include = (*request.include, *(word for path in request.include_files for word in _words(path)))
    pins = [pin for written in request.pins for pin in parse_pin(written)]
    for path in request.preferences:
        pins += parse_preferences(_read(path, "--preferences"), what=f"--preferences {path!r}")
    architectures = (architecture, *package_specs.foreign_architectures(include, architecture))
    suite = _suite(request)
    if request.snapshot:
        choices: tuple[mirrors.Choice, ...] = (snapshot.mirror(request, suite),)
    else:
        choices = mirrors.choose(
            suite,
            architecture,
            request.mirror,
            today=time.strftime("%Y-%m-%d", time.gmtime()),
            native=is_native(architecture),
        )
        choices += tuple(mirrors.Choice(one.rstrip("/"), "given as well") for one in request.mirrors)
    first = repositories.main(request, suite, choices, _keyrings(request, suite))
    further = list(repositories.further(request, first.keyring, architecture))
    as_of = snapshot.timestamp(request.snapshot) if request.snapshot else ""
    with stage("release", emit) as report:
        main = open_source(client, first, emit, as_of=as_of)
        opened = [main]
        mirror = main.source.mirror
        if request.mirrors:
            others = (client.logins.take(choice.mirror) for choice in choices)
            client.mirrors.add(tuple(dict.fromkeys((mirror, *others))))
        for pocket in repositories.pockets(request, first, main.suite, mirror):
            opened.append(open_source(client, pocket, emit, as_of=as_of))
        opened += [open_source(client, one, emit, architectures=architectures) for one in further]
        day = f"{parse_date(main.source.date):%Y-%m-%d}"
        report.detail = f"{main.source.origin} {main.source.codename} of {day}, from {mirror}"
        if len(opened) > 1:
            report.detail += " and " + ", ".join(one.source.suite for one in opened[1:])
    sources = [one.source for one in opened]
    facts = [one.facts for one in opened]
    files = []
    for path in (one for one in include if package_specs.is_file(one)):
        source, candidate = package_files.read(path, len(sources), architecture)
        sources.append(source)
        facts.append(package_files.FACTS)
        files.append(candidate)
    return Gathered(
        suite=main.suite,
        sources=tuple(sources),
        opened=tuple(opened),
        facts=tuple(facts),
        pins=tuple(pins),
        architectures=architectures,
        files=tuple(files),
        include=tuple(one for one in include if not package_specs.is_file(one)),
    )


def _words(path: str) -> list[str]:
    """The package specifications of a file, separated by spaces, commas or newlines. `#` begins a comment."""
    text = _read(path, "--include-file").decode(errors="replace")
    lines = (line.partition("#")[0] for line in text.splitlines())
    return [word for line in lines for word in line.replace(",", " ").split()]


def _read(path: str, option: str) -> bytes:
    try:
        return reading.named(path)
    except OSError as error:
        raise Usage(f"read {option} {path!r}", because=reason(error)) from None


def _suite(request: Request) -> suites.Suite:
    try:
        return suites.lookup(request.suite)
    except NotFound:
        if (request.mirror or os.environ.get("CTK_MIRROR")) and (request.keyring or not request.check_gpg):
            return suites.unknown(request.suite)
        raise


def _keyrings(request: Request, suite: suites.Suite) -> tuple[str, ...]:
    if not request.check_gpg:
        return ()
    if request.keyring:
        return (request.keyring,)
    folders = (places.shipped("keyrings"), "/usr/share/keyrings")
    return tuple(find_keyring(name, folders) for name in suite.keyrings)
