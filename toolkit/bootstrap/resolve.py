"""Which packages a bootstrap installs.

For debootstrap's variants (`-`, `minbase`, `buildd`) the answer is debootstrap's own, set for set: seeds by
priority, then the closure over Depends and Pre-Depends, first alternatives only, versions not looked at. debootstrap
silently drops a dependency whose first alternative is no package of the index; such a group is then looked at again
and, where nothing in the set satisfies it, the first package that does is added with its own closure, or the request
is refused with the chain of reasons. For sets that debootstrap can install this second look finds nothing to do.

mmdebstrap's other variants seed by Essential: yes and priority (its manual page, VARIANTS).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from toolkit.bootstrap.model import Lock, Package, Source
from toolkit.bootstrap.pool import Pool
from toolkit.bootstrap.suites import Suite
from toolkit.deb.relation import Alternative, Group, parse_relations
from toolkit.deb.version import satisfies
from toolkit.errors import NotFound, Unsolvable

VARIANTS = (
    "-",
    "minbase",
    "buildd",
    "extract",
    "custom",
    "essential",
    "apt",
    "required",
    "important",
    "standard",
)
_ALIASES = {"default": "-", "debootstrap": "-", "": "-"}

# Counts up when the same packages give another tree (a change in unpack, seed, configure or tidy).
TREE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Wish:
    """One `--include`: NAME, NAME=VERSION, NAME:ARCHITECTURE."""

    name: str
    version: str = ""
    architecture: str = ""


def variant_name(given: str) -> str:
    """The variant by its usual name. Raises NotFound."""
    variant = _ALIASES.get(given, given)
    if variant not in VARIANTS:
        import difflib

        near = difflib.get_close_matches(given, VARIANTS, n=1)
        raise NotFound(
            f"find variant {given!r}",
            because="there is no such variant" + (f"; did you mean {near[0]!r}?" if near else ""),
            hint="the variants are: " + ", ".join(VARIANTS),
        )
    return variant


def resolve(
    pool: Pool,
    suite: Suite,
    sources: tuple[Source, ...],
    *,
    variant: str,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> Lock:
    """The exact packages of one build. Raises Unsolvable, Malformed, NotFound (variant). Opens nothing."""
    variant = variant_name(variant)
    work = _Work(pool, set(suite.ignored_dependencies))
    left_out = set(exclude)
    wishes = [work.wish(written) for written in include if written]
    required_seeds, base_seeds = _seeds(pool, suite, variant, https=sources[0].mirror.startswith("https://"))
    for name in required_seeds:
        work.why.setdefault(name, f"variant {variant!r} has it")
    for name in base_seeds:
        work.why.setdefault(name, f"variant {variant!r} has it")
    # With no set of their own (extract, custom) the wishes are all there is, and what is there first is required.
    (base_seeds if required_seeds else required_seeds).extend(wish.name for wish in wishes)
    # As debootstrap's --exclude: what is named there is no seed, but stays if another package depends on it.
    required = work.closure(name for name in required_seeds if name not in left_out)
    base_seeds = [name for name in base_seeds if name not in left_out]
    base = work.closure(base_seeds) - required
    work.complete(required, base)
    # A set without wishes is taken as the distribution made it, as debootstrap takes it.
    if wishes and work.conflict(required | base):
        # First alternatives alone contradict each other (a desktop that depends on "a | b" and on what conflicts with
        # a): now those that are there anyway are preferred, as apt does.
        if base:
            base = work.sparing_closure(base_seeds, required)
        else:
            required = work.sparing_closure([name for name in required_seeds if name not in left_out], set())
        work.complete(required, base)
        conflict = work.conflict(required | base)
        if conflict is not None:
            raise conflict
    origin = sources[0].origin.lower()
    return lock(
        suite=suite.codename,
        distribution=suite.distribution.name if suite.distribution else origin,
        variant=variant,
        architecture=pool.architecture,
        sources=sources,
        required=tuple(pool.package(name) for name in sorted(required)),
        base=tuple(pool.package(name) for name in sorted(base)),
    )


def lock(
    *,
    suite: str,
    distribution: str,
    variant: str,
    architecture: str,
    sources: tuple[Source, ...],
    required: tuple[Package, ...],
    base: tuple[Package, ...],
) -> Lock:
    """A Lock with its build id: the SHA-256 of what decides the tree, written as JSON with sorted keys.

    The mirror is part of it because it is written to sources.list; dates and signers are not.
    """
    facts = {
        "format": TREE_FORMAT,
        "suite": suite,
        "distribution": distribution,
        "variant": variant,
        "architecture": architecture,
        "sources": [[one.mirror, one.suite, list(one.components)] for one in sources],
        "required": [[p.name, p.version, p.architecture, p.sha256, p.source] for p in required],
        "base": [[p.name, p.version, p.architecture, p.sha256, p.source] for p in base],
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return Lock(
        suite=suite,
        distribution=distribution,
        variant=variant,
        architecture=architecture,
        sources=sources,
        required=required,
        base=base,
        build_id=hashlib.sha256(text.encode()).hexdigest(),
    )


def _seeds(pool: Pool, suite: Suite, variant: str, *, https: bool) -> tuple[list[str], list[str]]:
    def priority(name: str) -> list[str]:
        return pool.having(f"Priority: {name}")

    if variant in ("extract", "custom"):
        return [], []
    if variant in ("essential", "apt", "required", "important", "standard"):
        # The names that debootstrap joins for merged /usr would pull in nothing else; apt works out the same.
        required = [*pool.having("Essential: yes"), *suite.packages]
        base: list[str] = []
        if variant != "essential":
            base.append("apt")
        if variant in ("required", "important", "standard"):
            required += priority("required")
        if variant in ("important", "standard"):
            base += priority("important")
        if variant == "standard":
            base += priority("standard")
        return required, base
    required = [*priority("required"), *suite.packages]
    if variant == "minbase":
        base = ["apt"]
    elif variant == "buildd":
        base = ["apt", "build-essential"]
    else:
        base = priority("important")
    if https:
        base += suite.https_packages
    return required, base


class _Work:
    """One resolution under way. `why` says for every name what brought it in: the chain of reasons of an error."""

    def __init__(self, pool: Pool, ignored: set[str]) -> None:
        self.pool = pool
        self.ignored = ignored
        self.why: dict[str, str] = {}
        self._groups: dict[str, tuple[Group, ...]] = {}

    def wish(self, written: str) -> Wish:
        """Raises Unsolvable when no package of the pool answers it."""
        name, _, version = written.partition("=")
        name, _, architecture = name.partition(":")
        doing = f"include {written!r}"
        fields = self.pool.fields(name)
        if fields is None:
            providers = self.pool.providers(name)
            if providers:
                raise Unsolvable(
                    doing,
                    because=f"{name!r} is a virtual package",
                    hint="include one of those that provide it: " + ", ".join(sorted(providers)[:8]),
                )
            raise Unsolvable(
                doing, because=f"there is no package {name!r}" + self._in_components(), hint=self._near(name)
            )
        if version and fields.get("Version") != version:
            raise Unsolvable(doing, because=f"the suite has version {fields.get('Version')} of it")
        if architecture and architecture not in (self.pool.architecture, fields.get("Architecture"), "native"):
            raise Unsolvable(
                doing, because=f"the root is for {self.pool.architecture}", hint="foreign packages are not built"
            )
        self.why[name] = "it was asked for by --include"
        return Wish(name, version, architecture)

    def groups(self, name: str) -> tuple[Group, ...]:
        """The Pre-Depends and Depends of package `name`."""
        groups = self._groups.get(name)
        if groups is None:
            fields = self.pool.fields(name) or {}
            written = ",".join(fields[key] for key in ("Pre-Depends", "Depends") if key in fields)
            groups = self._groups[name] = parse_relations(written, self.pool.architecture)
        return groups

    def closure(self, seeds: Iterable[str]) -> set[str]:
        """debootstrap's resolve_deps: first alternatives, by name alone, what is no package left out."""
        found: set[str] = set()
        todo = [name for name in seeds if name in self.pool]
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found.add(name)
            for group in self.groups(name):
                first = group[0].name
                if first not in found and first not in self.ignored and first in self.pool:
                    self.why.setdefault(first, name)
                    todo.append(first)
        return found

    def sparing_closure(self, seeds: Iterable[str], present: set[str]) -> set[str]:
        """As `closure`, but a group with several alternatives is looked at last, and only if nothing chosen by then
        satisfies it. `present` is there already and not part of the answer."""
        offered = _Offered(self.pool, present)
        found: set[str] = set()
        todo = [name for name in seeds if name in self.pool]
        later: list[tuple[str, Group]] = []
        while todo or later:
            if not todo:
                name, group = later.pop(0)
                if not offered.holds(group) and group[0].name not in self.ignored:
                    todo.append(self._choose(name, group))
                continue
            name = todo.pop()
            if name in found or name in present:
                continue
            found.add(name)
            offered.add(name)
            for group in self.groups(name):
                first = group[0].name
                if len(group) > 1 or first not in self.pool:
                    later.append((name, group))
                elif first not in found and first not in self.ignored:
                    self.why.setdefault(first, name)
                    todo.append(first)
        return found

    def complete(self, required: set[str], base: set[str]) -> None:
        """Add to each set what its own packages still lack (see the module's text). Raises Unsolvable."""
        offered = _Offered(self.pool, required | base)
        for chosen in (required, base):
            todo = sorted(chosen)
            while todo:
                name = todo.pop(0)
                for group in self.groups(name):
                    if offered.holds(group) or group[0].name in self.ignored:
                        continue
                    added = self.closure([self._choose(name, group)]) - required - base
                    for one in added:
                        offered.add(one)
                    chosen |= added
                    todo += sorted(added)

    def conflict(self, names: set[str]) -> Unsolvable | None:
        """Two packages of `names` that exclude each other, as an error with its chain of reasons; None if all agree."""
        offered = _Offered(self.pool, names)
        for name in sorted(names):
            fields = self.pool.fields(name) or {}
            for key in ("Conflicts", "Breaks"):
                for group in parse_relations(fields.get(key, "")):
                    for other in offered.matching(group[0]):
                        if other != name:
                            return Unsolvable(
                                f"install {name!r} and {other!r} together",
                                because=f"{name!r} {key.lower()} with {group[0]}; "
                                f"{self.chain(name)}; {self.chain(other)}",
                                hint="include only one of them",
                            )
        return None

    def _choose(self, name: str, group: Group) -> str:
        for wanted in group:
            for candidate in self.pool.satisfied_by(wanted):
                if candidate not in self.ignored:
                    self.why.setdefault(candidate, name)
                    return candidate
        written = " | ".join(map(str, group))
        raise Unsolvable(
            f"install {name!r}",
            because=f"it depends on {written}, {self._lacks(group)}; {self.chain(name)}",
            hint="--components may name further components, --exclude leaves a package out",
        )

    def _lacks(self, group: tuple[Alternative, ...]) -> str:
        for wanted in group:
            fields = self.pool.fields(wanted.name)
            if fields is not None:
                return f"but the suite has {wanted.name} {fields.get('Version')}"
        return "which no package is or provides" + self._in_components()

    def chain(self, name: str) -> str:
        """'a' is needed by 'b', which is needed by 'c', which …"""
        reasons: list[str] = []
        at = name
        while at in self.why and len(reasons) < 12:
            cause = self.why[at]
            if cause not in self.pool:
                reasons.append(f"{at!r}: {cause}")
                break
            reasons.append(f"{at!r} is needed by {cause!r}")
            at = cause
        return ", ".join(reasons) or f"{name!r}: nothing known"

    def _in_components(self) -> str:
        names = dict.fromkeys(member.component for member in self.pool.members)
        return " in " + " ".join(names)

    def _near(self, name: str) -> str:
        import difflib

        start = name[:1]
        near = difflib.get_close_matches(
            name, [one for one in self.pool.names() if one.startswith(start)], n=3, cutoff=0.75
        )
        return "did you mean " + " or ".join(repr(one) for one in near) + "?" if near else ""


class _Offered:
    """What a growing set of packages offers, by name: (package, version), Provides included."""

    def __init__(self, pool: Pool, names: Iterable[str]) -> None:
        self._pool = pool
        self._by_name: dict[str, list[tuple[str, str]]] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        fields = self._pool.fields(name) or {}
        self._by_name.setdefault(name, []).append((name, fields.get("Version", "")))
        for group in parse_relations(fields.get("Provides", "")):
            self._by_name.setdefault(group[0].name, []).append((name, group[0].version))

    def matching(self, wanted: Alternative) -> Iterator[str]:
        """The packages that answer `wanted`; an unversioned Provides answers no versioned relation (Policy 7.5)."""
        for name, version in self._by_name.get(wanted.name, ()):
            if not wanted.relation or (version and satisfies(version, wanted.relation, wanted.version)):
                yield name

    def holds(self, group: Group) -> bool:
        return any(True for wanted in group for _ in self.matching(wanted))
