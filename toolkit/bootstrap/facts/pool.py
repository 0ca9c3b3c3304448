"""The packages that a bootstrap may choose from: the indexes of its sources, searched in a fixed order.

With one source the first index that has a name wins, as in debootstrap. With several sources, or with pins, apt's rules
decide which version is the candidate (policy.py). The key of a package of a foreign architecture is NAME:ARCHITECTURE;
that of any other package is its name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit import text
from toolkit.bootstrap.facts.model import Package
from toolkit.bootstrap.facts.policy import Policy
from toolkit.deb.index import Index
from toolkit.deb.relation import Alternative
from toolkit.deb.version import Version, satisfies
from toolkit.errors import Malformed

_NAME = re.compile(r"[a-z0-9][a-z0-9+.\-]+\Z")  # Policy 5.6.1
_VERSION = re.compile(r"[A-Za-z0-9.+:~\-]+\Z")  # Policy 5.6.12
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9\-]*\Z")
_PRIORITIES = ("required", "important", "standard", "optional", "extra")  # Policy 2.5
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Member:
    """One index of the pool, with its source (the place in Lock.sources) and component."""

    source: int
    component: str
    index: Index
    foreign: str = ""  # the architecture, if it is not the root's own


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A version of a package that can be chosen."""

    key: str  # its name, with ":ARCHITECTURE" for a foreign one
    fields: dict[str, str]
    member: Member
    architecture: str  # "all" is the root's own here
    priority: int = 500  # apt's

    @property
    def name(self) -> str:
        return self.fields["Package"]

    @property
    def version(self) -> str:
        return self.fields.get("Version", "")

    @property
    def multi_arch(self) -> str:
        return self.fields.get("Multi-Arch", "")

    def __str__(self) -> str:
        return f"{self.key} {self.version}"


class Pool:
    """Indexes, in the order in which they are searched."""

    def __init__(self, members: list[Member], architecture: str, policy: Policy | None = None) -> None:
        self.members = members
        self.architecture = architecture
        self.policy = policy
        self.foreign = tuple(dict.fromkeys(member.foreign for member in members if member.foreign))
        self._chosen: dict[str, Candidate | None] = {}
        self._packages: dict[str, Package] = {}
        self._mentions: dict[str, tuple[int, ...]] = {}

    def __contains__(self, name: str) -> bool:
        if self.policy is not None:
            return self.candidate(name) is not None
        return any(name in member.index for member in self.members)

    def fields(self, name: str) -> dict[str, str] | None:
        """The fields of the candidate of package `name`, or None."""
        found = self.candidate(name)
        return found.fields if found else None

    def candidate(self, key: str) -> Candidate | None:
        """The candidate of a package; None if it has no versions, or pins forbid all of them."""
        try:
            return self._chosen[key]
        except KeyError:
            found = self._chosen[key] = self._choose(key)
            return found

    def use(self, candidate: Candidate) -> None:
        """Make this version the candidate of its package."""
        self._chosen[candidate.key] = candidate

    def versions(self, key: str) -> list[Candidate]:
        """The versions of a package, the best first (by priority, then version), without those that pins forbid."""
        name, _, foreign = key.partition(":")
        found = []
        for member in self.members:
            if member.foreign != foreign:
                continue
            for fields in member.index.versions(name):
                # A foreign index lists the packages of architecture `all` again; a flat one lists all architectures.
                if fields.get("Architecture") not in ((foreign,) if foreign else (self.architecture, "all")):
                    continue
                priority = self.policy.priority(member.source, member.component, fields) if self.policy else 500
                if priority >= 0:
                    found.append(Candidate(key, fields, member, foreign or self.architecture, priority))
        found.sort(key=lambda one: (one.priority, Version(one.version)), reverse=True)
        return found

    def package(self, name: str) -> Package:
        """Package `name`. Checks every field that becomes a path, a URL or a limit. Raises KeyError, Malformed."""
        package = self._packages.get(name)
        if package is None:
            found = self.candidate(name)
            if found is None:
                raise KeyError(name)
            package = self._packages[name] = package_of(found.member, found.fields, found.architecture)
        return package

    def having(self, line: str) -> list[str]:
        """Names of the packages with exactly this line, e.g. 'Priority: required', in the order of the indexes."""
        names = dict.fromkeys(
            name for member in self.members if not member.foreign for name in member.index.having(line)
        )
        if self.policy is None:
            return list(names)
        # The candidate may be another version, with another value.
        field, _, value = line.partition(": ")
        return [name for name in names if (self.fields(name) or {}).get(field) == value]

    def providers(self, virtual: str) -> list[str]:
        """Names of the packages that provide `virtual`, in the order of the indexes."""
        names = (
            name
            for member in self.members
            if not member.foreign
            for name in member.index.providers(virtual)
            if provided((self.fields(name) or {}), virtual)
        )
        return list(dict.fromkeys(names))

    def satisfied_by(self, wanted: Alternative) -> Iterator[str]:
        """Names of packages that satisfy `wanted`: the package itself first, then its providers (Policy 7.5).

        Providers are sorted by their Priority, as apt prefers them, then in the order of the indexes.
        """
        found = self.fields(wanted.name)
        if found is not None and satisfies(found.get("Version", ""), wanted.relation, wanted.version):
            yield wanted.name
        for name in sorted(self.providers(wanted.name), key=self._rank):
            if name != wanted.name and any(
                answers(version, wanted) for version in provided(self.fields(name) or {}, wanted.name)
            ):
                yield name

    def first_mention(self, name: str) -> tuple[int, ...]:
        """Where a package is first mentioned: the number of the index, and the place in it; () for nowhere."""
        known = self._mentions.get(name)
        if known is None:
            places = ((number, member.index.mention(name)) for number, member in enumerate(self.members))
            known = next(((number, *place) for number, place in places if place is not None), ())
            self._mentions[name] = known
        return known

    def names(self) -> Iterator[str]:
        for member in self.members:
            yield from member.index.names()

    def _rank(self, name: str) -> int:
        return priority_rank(self.fields(name) or {})

    def _choose(self, key: str) -> Candidate | None:
        if self.policy is not None or ":" in key:
            best = self.versions(key)
            return best[0] if best else None
        for member in self.members:
            fields = member.index.get(key)
            if fields is not None:
                return Candidate(key, fields, member, self.architecture)
        return None


def provided(fields: dict[str, str], virtual: str) -> list[str]:
    """The versions in which a package provides `virtual`, "" for an unversioned one; [] if it doesn't provide it."""
    written = fields.get("Provides", "")
    if virtual not in written:
        return []
    found = []
    for one in written.replace("\n", " ").split(","):
        name, _, version = one.partition("(")
        if name.strip().partition(":")[0] == virtual:
            found.append(version.strip(" =)"))
    return found


def answers(version: str, wanted: Alternative) -> bool:
    """Whether a Provides with that version satisfies `wanted`; an unversioned one satisfies no version (Policy 7.5)."""
    return not wanted.relation or bool(version and satisfies(version, wanted.relation, wanted.version))


def priority_rank(fields: dict[str, str]) -> int:
    """0 for required, …, 5 for a package without a priority."""
    priority = fields.get("Priority", "")
    return _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)


def package_of(member: Member, fields: dict[str, str], architecture: str) -> Package:
    """A paragraph of an index as a Package for a root of `architecture`. Raises Malformed."""
    name = fields.get("Package", "")
    doing = f"read {member.index.what}, package {name!r}"

    def checked(field: str, pattern: re.Pattern[str]) -> str:
        value = fields.get(field, "")
        if not pattern.match(value):
            raise Malformed(doing, because=f"field {field} is {value!r}")
        return value

    filename = fields.get("Filename", "")
    parts = filename.split("/")
    # The name becomes part of a URL: it must not lead out of the mirror, nor contain a query or a line break.
    if not filename or filename.startswith("/") or ".." in parts or re.search(r"[\s?#\\\x00-\x1f]", filename):
        raise Malformed(doing, because=f"field Filename is {filename!r}")
    size = fields.get("Size", "")
    if text.number(size) < 0:
        raise Malformed(doing, because=f"field Size is {size!r}")
    found = checked("Architecture", _ARCHITECTURE)
    if found not in (architecture, "all"):
        raise Malformed(doing, because=f"it is for architecture {found!r}, not {architecture!r}")
    return Package(
        name=checked("Package", _NAME),
        version=checked("Version", _VERSION),
        architecture=found,
        filename=filename,
        size_bytes=text.number(size),
        sha256=checked("SHA256", _SHA256),
        source=member.source,
        paragraph=fields,
        component=member.component,
    )
