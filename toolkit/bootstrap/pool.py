"""The packages that a bootstrap may choose from: the indexes of its sources, asked in a fixed order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from toolkit.bootstrap.model import Package
from toolkit.deb.index import Index
from toolkit.deb.relation import Alternative
from toolkit.deb.version import satisfies
from toolkit.errors import Malformed

_NAME = re.compile(r"[a-z0-9][a-z0-9+.\-]+\Z")  # Policy 5.6.1
_VERSION = re.compile(r"[A-Za-z0-9.+:~\-]+\Z")  # Policy 5.6.12
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9\-]*\Z")
_PRIORITIES = ("required", "important", "standard", "optional", "extra")  # Policy 2.5
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Member:
    """One index of the pool: which source (its place in Lock.sources) and component it belongs to."""

    source: int
    component: str
    index: Index


class Pool:
    """Indexes in the order in which they are searched; the first that has a name wins, as in debootstrap."""

    def __init__(self, members: list[Member], architecture: str) -> None:
        self.members = members
        self.architecture = architecture
        self._packages: dict[str, Package] = {}

    def __contains__(self, name: str) -> bool:
        return any(name in member.index for member in self.members)

    def fields(self, name: str) -> dict[str, str] | None:
        """The index's fields of package `name`, or None."""
        found = self._find(name)
        return found[1] if found else None

    def package(self, name: str) -> Package:
        """Package `name`, every field that becomes a path, a URL or a limit checked. Raises KeyError, Malformed."""
        package = self._packages.get(name)
        if package is None:
            found = self._find(name)
            if found is None:
                raise KeyError(name)
            package = self._packages[name] = _package(*found, self.architecture)
        return package

    def having(self, line: str) -> list[str]:
        """Names of the packages with this very line, e.g. 'Priority: required', index after index."""
        names = (name for member in self.members for name in member.index.having(line))
        return list(dict.fromkeys(names))

    def providers(self, virtual: str) -> list[str]:
        """Names of the packages that provide `virtual`, index after index."""
        names = (name for member in self.members for name in member.index.providers(virtual))
        return list(dict.fromkeys(names))

    def satisfied_by(self, wanted: Alternative) -> Iterator[str]:
        """Names of packages that satisfy `wanted`: the package itself first, then its providers (Policy 7.5).

        Providers in the order of their priority, as apt prefers them, and of the indexes.
        """
        found = self.fields(wanted.name)
        if found is not None and satisfies(found.get("Version", ""), wanted.relation, wanted.version):
            yield wanted.name
        for name in sorted(self.providers(wanted.name), key=self._rank):
            version = self._provided_version(name, wanted.name)
            if version is not None and name != wanted.name:
                # An unversioned Provides satisfies no versioned relation.
                if wanted.relation and not (version and satisfies(version, wanted.relation, wanted.version)):
                    continue
                yield name

    def names(self) -> Iterator[str]:
        for member in self.members:
            yield from member.index.names()

    def _rank(self, name: str) -> int:
        priority = (self.fields(name) or {}).get("Priority", "")
        return _PRIORITIES.index(priority) if priority in _PRIORITIES else len(_PRIORITIES)

    def _provided_version(self, name: str, virtual: str) -> str | None:
        for member in self.members:
            if name in member.index:
                return member.index.provides(name, virtual)
        return None

    def _find(self, name: str) -> tuple[Member, dict[str, str]] | None:
        for member in self.members:
            fields = member.index.get(name)
            if fields is not None:
                return member, fields
        return None


def _package(member: Member, fields: dict[str, str], architecture: str) -> Package:
    name = fields.get("Package", "")
    doing = f"read {member.index.what}, package {name!r}"

    def checked(field: str, pattern: re.Pattern[str]) -> str:
        value = fields.get(field, "")
        if not pattern.match(value):
            raise Malformed(doing, because=f"field {field} is {value!r}")
        return value

    filename = fields.get("Filename", "")
    parts = filename.split("/")
    # The name becomes part of a URL and must not lead out of the mirror, nor carry a query or a second line.
    if not filename or filename.startswith("/") or ".." in parts or re.search(r"[\s?#\\\x00-\x1f]", filename):
        raise Malformed(doing, because=f"field Filename is {filename!r}")
    size = fields.get("Size", "")
    if not (size.isascii() and size.isdigit()):
        raise Malformed(doing, because=f"field Size is {size!r}")
    found = checked("Architecture", _ARCHITECTURE)
    if found not in (architecture, "all"):
        raise Malformed(doing, because=f"it is for architecture {found!r}, not {architecture!r}")
    return Package(
        name=checked("Package", _NAME),
        version=checked("Version", _VERSION),
        architecture=found,
        filename=filename,
        size_bytes=int(size),
        sha256=checked("SHA256", _SHA256),
        source=member.source,
        paragraph=fields,
        component=member.component,
    )
