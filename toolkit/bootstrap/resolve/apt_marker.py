"""What has to come with the packages that were asked for: apt's way, and a complete search where that fails.

apt marks a package, then walks through its dependencies in their order; of a group that nothing marked so far satisfies
it takes the first alternative that can be marked with all that it needs itself. That is fast, and gives what people who
know apt expect (tests/story/test_like_apt.py compares the sets). It isn't complete: a choice made early may exclude
something that comes later. Then cdcl.py decides, and says why if there is no way at all.
"""

import sys
from collections.abc import Iterable

from toolkit.bootstrap.facts.pool import Candidate, Pool
from toolkit.bootstrap.resolve.cdcl import search
from toolkit.bootstrap.resolve.relations import Chosen, Relations
from toolkit.errors import Unsolvable

_DEEP = 20_000  # frames of Python; a chain of dependencies in Debian's main is some hundred packages long


def choose(
    pool: Pool,
    wishes: Iterable[Candidate],
    present: Iterable[str],
    *,
    excluded: frozenset[str] = frozenset(),
    recommends: bool = False,
) -> list[str]:
    """The keys of what must be added to the packages `present` so that all `wishes` can be installed.

    `excluded` names what is taken only where nothing else will do; `recommends` follows Recommends as well.
    Raises Unsolvable with the chain of reasons.
    """
    wishes = list(wishes)
    there = [found for key in present if (found := pool.candidate(key)) is not None]
    marking = _Marking(pool, there, excluded, recommends=recommends)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEP))
    try:
        if not marking.all(wishes):
            ways = search(pool, marking.relations, wishes, there, excluded)
            marking = _Marking(pool, there, excluded, recommends=recommends)
            marking.take(ways)
    except RecursionError:
        raise Unsolvable(
            "choose the packages", because=f"a chain of dependencies is longer than {_DEEP // 4} packages"
        ) from None
    finally:
        sys.setrecursionlimit(limit)
    return [one.key for one in marking.chosen.order[len(there) :]]


class _Marking:
    """One walk. What failed once is not tried again, as apt discards a candidate."""

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
        """Mark every wish first, and then what they need: a wish answers the other's dependency, as with apt."""
        new = [one for one in dict.fromkeys(wishes) if one.key not in self.chosen]
        for one in new:
            if any(True for _ in self.chosen.excluded_by(one)):
                return False
            self.chosen.add(one)
        return all(self._needs(one) for one in new)

    def take(self, ways: list[Candidate]) -> None:
        """Mark a set that was found elsewhere and holds together; then what it recommends."""
        new = [one for one in ways if one.key not in self.chosen]
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
