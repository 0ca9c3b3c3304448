"""The dependencies of the requested packages, chosen as apt does; if that fails, by a complete search.

apt marks a package, then goes through its dependencies in order. For a group that no marked package satisfies it takes
the first alternative that can be marked together with its own dependencies. That is fast, and gives what users of apt
expect (tests/story/test_like_apt.py compares the sets). It is not complete: an early choice may exclude a package that
is needed later. Then cdcl.py searches, and gives the reasons if there is no solution.
"""

import sys
from collections.abc import Iterable

from toolkit.bootstrap.facts.pool import Candidate, Pool
from toolkit.bootstrap.resolve.cdcl import search
from toolkit.bootstrap.resolve.relations import Chosen, Relations
from toolkit.errors import Unsolvable

_DEEP = 20_000  # Python frames; a chain of dependencies in Debian's main is a few hundred packages long


def choose(
    pool: Pool,
    wishes: Iterable[Candidate],
    present: Iterable[str],
    *,
    excluded: frozenset[str] = frozenset(),
    recommends: bool = False,
) -> list[str]:
    """The keys of the packages to add to those `present` so that all `wishes` can be installed.

    Packages in `excluded` are chosen only if no other alternative will do. `recommends` also follows Recommends. Raises
    Unsolvable with the chain of reasons.
    """
    wishes = list(wishes)
    there = [found for key in present if (found := pool.candidate(key)) is not None]
    marking = _Marking(pool, there, excluded, recommends=recommends)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEP))
    try:
        if not marking.all(wishes):
            solution = search(pool, marking.relations, wishes, there, excluded)
            marking = _Marking(pool, there, excluded, recommends=recommends)
            marking.take(solution)
    except RecursionError:
        raise Unsolvable(
            "choose the packages", because=f"a chain of dependencies is longer than {_DEEP // 4} packages"
        ) from None
    finally:
        sys.setrecursionlimit(limit)
    return [one.key for one in marking.chosen.order[len(there) :]]


class _Marking:
    """One run of apt's marking. A candidate that failed once is not tried again, as in apt."""

    def __init__(self, pool: Pool, there: list[Candidate], excluded: frozenset[str], *, recommends: bool) -> None:
        self.relations = Relations(pool)
        self.chosen = Chosen(self.relations)
        for one in there:
            self.chosen.add(one)
        self._excluded = excluded
        self._recommends = recommends
        self._failed: set[str] = set()
        self._fields = ("Pre-Depends", "Depends")

    def all(self, wishes: list[Candidate]) -> bool:
        """Mark every wish first, then their dependencies: one wish may satisfy a dependency of another, as in apt."""
        new = [one for one in dict.fromkeys(wishes) if one.key not in self.chosen]
        for one in new:
            if any(True for _ in self.chosen.excluded_by(one)):
                return False
            self.chosen.add(one)
        return all(self._needs(one) for one in new)

    def take(self, solution: list[Candidate]) -> None:
        """Mark a consistent set that was found elsewhere, then what it recommends."""
        new = [one for one in solution if one.key not in self.chosen]
        for one in new:
            self.chosen.add(one)
        if self._recommends:
            for one in new:
                self._needs(one)

    def _mark(self, one: Candidate) -> bool:
        if one.key in self.chosen:
            return self.chosen.by_key[one.key] is one
        if one.key in self._failed:
            return False
        length = len(self.chosen.order)
        if not any(True for _ in self.chosen.excluded_by(one)):
            self.chosen.add(one)
            if self._needs(one):
                return True
            self.chosen.cut(length)
        self._failed.add(one.key)
        return False

    def _needs(self, one: Candidate) -> bool:
        for group in self.relations.of(one, *self._fields):
            if self.chosen.satisfies(group, one):
                continue
            solutions = self.relations.solutions(one, group)
            if self._excluded:
                solutions.sort(key=lambda other: other.name in self._excluded)
            if not any(self._mark(other) for other in solutions):
                return False
        if self._recommends:
            for group in self.relations.of(one, "Recommends"):
                if not self.chosen.satisfies(group, one):
                    for other in self.relations.solutions(one, group):
                        if other.name not in self._excluded and self._mark(other):
                            break
        return True
