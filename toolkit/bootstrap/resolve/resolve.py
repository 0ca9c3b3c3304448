"""Which packages a bootstrap installs.

For debootstrap's variants (`-`, `minbase`, `buildd`) the set is debootstrap's own: seeds by priority, then the closure
over Depends and Pre-Depends, with first alternatives only and without versions. debootstrap silently drops a dependency
whose first alternative is not in the index. Here such a group is checked again: if nothing in the set satisfies it, the
first package that does is added with its own closure, or the request is refused with the chain of reasons. For sets
that debootstrap can install this second pass adds nothing.

Packages requested beyond that are added as `apt-get install` in the finished root would (apt_marker.py).

mmdebstrap's other variants seed by Essential: yes and priority (its manual page, VARIANTS).
"""

import hashlib
import json
import os
from collections.abc import Iterable

from toolkit.bootstrap.facts.model import Lock, Package, Source
from toolkit.bootstrap.facts.pool import Candidate, Pool
from toolkit.bootstrap.facts.suites import Suite
from toolkit.bootstrap.resolve import package_specs
from toolkit.bootstrap.resolve.apt_marker import choose
from toolkit.bootstrap.resolve.conflict_report import lacking
from toolkit.bootstrap.resolve.relations import Chosen, Relations
from toolkit.deb.relation import Group, parse_relations
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

# Must be increased when the same packages give another tree (a change in unpack, seed, configure or tidy).
TREE_FORMAT = 1


def variant_name(given: str) -> str:
    """The canonical name of a variant. Raises NotFound."""
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
    files: Iterable[Candidate] = (),
    exclude: Iterable[str] = (),
    recommends: bool = False,
    preferences: str = "",
) -> Lock:
    """The exact packages of one build. `files` are the package files of --include; they are in the pool already.

    Raises Unsolvable, Malformed, NotFound (variant), Usage. Opens no file.
    """
    variant = variant_name(variant)
    left_out = frozenset(exclude)
    # This comes first: a requested version becomes the candidate, for the variant's own set as well.
    wanted = [one for written in include if written for one in package_specs.find(pool, written)]
    for one in files:
        pool.use(one)
        wanted.append(one)
    work = _Work(pool, set(suite.ignored_dependencies))
    https = any(one.mirror.startswith("https://") for one in sources)
    required_seeds, base_seeds = _seeds(pool, suite, variant, https=https)
    for name in (*required_seeds, *base_seeds):
        work.why.setdefault(name, f"variant {variant!r} has it")
    # As in debootstrap, an excluded package is not a seed, but is installed if another package depends on it.
    required = work.closure(name for name in required_seeds if name not in left_out)
    base = work.closure(name for name in base_seeds if name not in left_out) - required
    work.complete(required, base)
    if wanted:
        _settle(wanted, pool)
        added = choose(pool, wanted, sorted(required | base), excluded=left_out, recommends=recommends)
        # A variant without a set of its own (extract, custom) has only the wishes; they are its required set.
        (base if required_seeds else required).update(added)
    origin = sources[0].origin.lower()
    return lock(
        suite=suite.codename,
        distribution=suite.distribution.name if suite.distribution else origin,
        variant=variant,
        architecture=pool.architecture,
        sources=sources,
        required=tuple(pool.package(name) for name in sorted(required)),
        base=tuple(pool.package(name) for name in sorted(base)),
        preferences=preferences,
    )


def _settle(wanted: list[Candidate], pool: Pool) -> None:
    """Refuse two versions of one package."""
    for one in wanted:
        chosen = pool.candidate(one.key)
        if chosen is not None and chosen.version != one.version:
            raise Unsolvable(
                f"include {one.key!r} in versions {one.version} and {chosen.version}",
                because="only one version of a package can be installed at a time",
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
    preferences: str = "",
) -> Lock:
    """A Lock with its build id: the SHA-256 of all that determines the tree, as JSON with sorted keys.

    The mirror is part of it because it is written to sources.list, and SOURCE_DATE_EPOCH because it sets the tree's
    times. Dates and signers are not.
    """
    facts = {
        "format": TREE_FORMAT,
        "suite": suite,
        "distribution": distribution,
        "variant": variant,
        "architecture": architecture,
        "sources": [[one.mirror, one.suite, list(one.components), one.options, one.key] for one in sources],
        "preferences": preferences,
        "epoch": os.environ.get("SOURCE_DATE_EPOCH", ""),
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
        preferences=preferences,
    )


def _seeds(pool: Pool, suite: Suite, variant: str, *, https: bool) -> tuple[list[str], list[str]]:
    def priority(name: str) -> list[str]:
        return pool.having(f"Priority: {name}")

    if variant in ("extract", "custom"):
        return [], []
    if variant in ("essential", "apt", "required", "important", "standard"):
        # debootstrap adds further names for merged /usr, which would pull in nothing else; apt gets the same set.
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
    """The state of one resolution. `why` has for every name what brought it in, for the chain of reasons in errors."""

    def __init__(self, pool: Pool, ignored: set[str]) -> None:
        self.pool = pool
        self.ignored = ignored
        self.why: dict[str, str] = {}
        self._groups: dict[str, tuple[Group, ...]] = {}

    def groups(self, name: str) -> tuple[Group, ...]:
        """The Pre-Depends and Depends of package `name`."""
        groups = self._groups.get(name)
        if groups is None:
            fields = self.pool.fields(name) or {}
            written = ",".join(fields[key] for key in ("Pre-Depends", "Depends") if key in fields)
            groups = self._groups[name] = parse_relations(written, self.pool.architecture)
        return groups

    def closure(self, seeds: Iterable[str]) -> set[str]:
        """debootstrap's resolve_deps: first alternatives, by name alone; unknown names are dropped."""
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

    def complete(self, required: set[str], base: set[str]) -> None:
        """Add to each set the dependencies that its packages still lack (see the module). Raises Unsolvable."""
        offered = Chosen(Relations(self.pool))
        for name in required | base:
            offered.add(self._candidate(name))
        for chosen in (required, base):
            todo = sorted(chosen)
            while todo:
                name = todo.pop(0)
                for group in self.groups(name):
                    if group[0].name in self.ignored or offered.satisfies(group, self._candidate(name)):
                        continue
                    added = self.closure([self._choose(name, group)]) - required - base
                    for one in added:
                        offered.add(self._candidate(one))
                    chosen |= added
                    todo += sorted(added)

    def _candidate(self, name: str) -> Candidate:
        found = self.pool.candidate(name)
        assert found is not None
        return found

    def _choose(self, name: str, group: Group) -> str:
        for wanted in group:
            for candidate in self.pool.satisfied_by(wanted):
                if candidate not in self.ignored:
                    self.why.setdefault(candidate, name)
                    return candidate
        written = " | ".join(map(str, group))
        raise Unsolvable(
            f"install {name!r}",
            because=f"it depends on {written}, {lacking(self.pool, group)}; {self.chain(name)}",
            hint="--components may name further components, --exclude leaves a package out",
        )

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
