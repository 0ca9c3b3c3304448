"""What a growing set of packages provides, needs and excludes, by version and architecture.

Sources: Debian Policy 7, and for architectures dpkg's deparchsatisfied(): a relation without a qualifier is satisfied
by a package of the same architecture and by any `Multi-Arch: foreign` package; `:any` is satisfied by a
`Multi-Arch: allowed` one; Conflicts and Breaks apply to every architecture.
"""

from collections.abc import Iterator

from toolkit.bootstrap.facts.pool import Candidate, Pool, answers, priority_rank, provided
from toolkit.deb.relation import Alternative, Group, parse_relations
from toolkit.deb.version import satisfies

_Row = tuple[Candidate, str, bool]  # who provides a name, in which version, True if it is the package's own name


class Relations:
    """The relation fields of a pool's candidates, each parsed once."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._parsed: dict[tuple[Candidate, str], tuple[Group, ...]] = {}

    def of(self, one: Candidate, *fields: str) -> tuple[Group, ...]:
        """The groups in these fields, in this order."""
        found: tuple[Group, ...] = ()
        for field in fields:
            written = one.fields.get(field)
            if written:
                key = (one, field)
                groups = self._parsed.get(key)
                if groups is None:
                    groups = self._parsed[key] = parse_relations(written, self.pool.architecture)
                found += groups
        return found

    def solutions(self, one: Candidate, group: Group) -> list[Candidate]:
        """The candidates that satisfy a group of `one`, by alternative; for each alternative the package itself first,
        then its providers in the order of apt's CompareProviders."""
        found: dict[str, Candidate] = {}
        for wanted in group:
            here = [other for other in self._answering(wanted) if fits_architecture(other, wanted, one)]
            ranked: dict[tuple[bool, bool, bool, int], list[Candidate]] = {}
            for other in here:
                ranked.setdefault(self._rank(other, wanted), []).append(other)
            for rank in sorted(ranked):
                for other in self._settled(ranked[rank]):
                    found.setdefault(other.key, other)
        return list(found.values())

    def _answering(self, wanted: Alternative) -> Iterator[Candidate]:
        for key in self._keys(wanted.name):
            found = self.pool.candidate(key)
            if found is not None and satisfies(found.version, wanted.relation, wanted.version):
                yield found
        for name in self.pool.providers(wanted.name):
            for key in self._keys(name):
                found = self.pool.candidate(key)
                if found is None or name == wanted.name:
                    continue
                if any(answers(version, wanted) for version in provided(found.fields, wanted.name)):
                    yield found

    def _keys(self, name: str) -> list[str]:
        return [name, *(f"{name}:{foreign}" for foreign in self.pool.foreign)]

    def _settled(self, equals: list[Candidate]) -> list[Candidate]:
        """Among equal providers apt prefers the one that the indexes mention last: it has the highest id."""
        if len(equals) < 2:
            return equals
        return sorted(equals, key=lambda one: self.pool.first_mention(one.name), reverse=True)

    def _rank(self, one: Candidate, wanted: Alternative) -> tuple[bool, bool, bool, int]:
        return (
            one.name != wanted.name,
            one.fields.get("Essential") != "yes",
            one.architecture != self.pool.architecture,
            priority_rank(one.fields),
        )


def fits_architecture(one: Candidate, wanted: Alternative, needed_by: Candidate) -> bool:
    """Whether a relation of `needed_by` may be satisfied by the architecture of `one`."""
    if not wanted.qualifier:
        return one.architecture == needed_by.architecture or one.multi_arch == "foreign"
    if wanted.qualifier == "any":
        return one.multi_arch == "allowed"
    return wanted.qualifier in (one.architecture, "native")


class Chosen:
    """A set of candidates that knows what it satisfies and excludes, and can be cut back to an earlier length."""

    def __init__(self, relations: Relations) -> None:
        self._relations = relations
        self._offered: dict[str, list[_Row]] = {}
        self._refused: dict[str, list[tuple[Candidate, str, Alternative]]] = {}
        self.order: list[Candidate] = []
        self.by_key: dict[str, Candidate] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def add(self, one: Candidate) -> None:
        self.order.append(one)
        self.by_key[one.key] = one
        for name, row in self._rows(one):
            self._offered.setdefault(name, []).append(row)
        for field in ("Conflicts", "Breaks"):
            for group in self._relations.of(one, field):
                self._refused.setdefault(group[0].name, []).append((one, field, group[0]))

    def cut(self, length: int) -> None:
        """Remove the last additions until `length` candidates are left."""
        while len(self.order) > length:
            one = self.order.pop()
            del self.by_key[one.key]
            for name, _ in self._rows(one):
                self._offered[name].pop()
            for field in ("Conflicts", "Breaks"):
                for group in self._relations.of(one, field):
                    self._refused[group[0].name].pop()

    def satisfies(self, group: Group, needed_by: Candidate) -> bool:
        return any(
            fits_architecture(one, wanted, needed_by)
            and (satisfies(version, wanted.relation, wanted.version) if itself else answers(version, wanted))
            for wanted in group
            for one, version, itself in self._offered.get(wanted.name, ())
        )

    def excluded_by(self, one: Candidate) -> Iterator[tuple[Candidate, str, str, Candidate]]:
        """What excludes `one` or is excluded by it: (the candidate with the relation, field, relation, its target)."""
        for field in ("Conflicts", "Breaks"):
            for group in self._relations.of(one, field):
                for row in self._offered.get(group[0].name, ()):
                    if row[0].name != one.name and _means(group[0], row):
                        yield one, field, str(group[0]), row[0]
        for name, row in self._rows(one):
            for other, field, wanted in self._refused.get(name, ()):
                if other.name != one.name and _means(wanted, row):
                    yield other, field, str(wanted), one
        for architecture in ("", *self._relations.pool.foreign):
            twin = self.by_key.get(f"{one.name}:{architecture}" if architecture else one.name)
            if twin is not None and twin is not one:
                if one.multi_arch != "same" or twin.multi_arch != "same":
                    yield one, "Multi-Arch", "no other architecture of itself", twin
                elif one.version != twin.version:
                    yield one, "Multi-Arch", "the same version in every architecture", twin

    @staticmethod
    def _rows(one: Candidate) -> Iterator[tuple[str, _Row]]:
        yield one.name, (one, one.version, True)
        for written in one.fields.get("Provides", "").replace("\n", " ").split(","):
            name, _, version = written.partition("(")
            name = name.strip().partition(":")[0]
            if name:
                yield name, (one, version.strip(" =)"), False)


def _means(wanted: Alternative, row: _Row) -> bool:
    one, version, itself = row
    if wanted.qualifier not in ("", "any", one.architecture):
        return False
    return satisfies(version, wanted.relation, wanted.version) if itself else answers(version, wanted)
