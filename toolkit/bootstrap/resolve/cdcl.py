"""A SAT search for a set of packages when apt's way fails; if there is no such set, it gives the reasons.

Conflict-driven clause learning (Marques-Silva and Sakallah 1996; the design is that of the MiniSat paper, 2003): a
package is a variable, and "a needs b or c" and "a excludes b" are clauses. A decision takes the first remaining
alternative of the first unsatisfied group, so the result is close to apt's, and packages that nothing needs stay out.
If no set exists, the reasons are the clauses that the last contradiction was derived from.

Why not a library: docs/decisions, the page on the solver.
"""

from dataclasses import dataclass

from toolkit.bootstrap.facts.pool import Candidate, Pool
from toolkit.bootstrap.resolve.conflict_report import Reason, explain
from toolkit.bootstrap.resolve.relations import Chosen, Relations
from toolkit.errors import Unsolvable

_MOST_LEARNED = (
    5_000  # Debian's archive never needed a hundred; a hostile one (a pigeonhole problem) could go on forever
)
_MOST_REASONS = 40  # a larger set of reasons is not minimised


@dataclass(slots=True)
class _Clause:
    """At least one of its literals must hold. A literal is the number of a variable, negated for "not chosen"."""

    literals: list[int]
    reason: Reason | None  # None: learned
    learned_from: tuple[int, ...] = ()  # numbers of clauses


def search(
    pool: Pool, relations: Relations, wishes: list[Candidate], there: list[Candidate], excluded: frozenset[str]
) -> list[Candidate]:
    """A set of `wishes`, `there` and all that they need. Raises Unsolvable."""
    problem = _Problem(relations, excluded)
    for one in there:
        problem.demand(one, Reason("present", one))
    for one in wishes:
        problem.demand(one, Reason("asked", one))
    problem.close()
    clauses = problem.clauses
    solver = _Solver(clauses, len(problem.candidates), problem.choices)
    core = solver.solve()
    if core is None:
        return [problem.candidates[variable - 1] for variable in solver.true()]
    if len(core) <= _MOST_REASONS:
        core = _minimised(clauses, core, len(problem.candidates))
    reasons = [reason for number in core if (reason := clauses[number].reason) is not None]
    raise explain(pool, reasons)


def _minimised(clauses: list[_Clause], core: list[int], variables: int) -> list[int]:
    """A minimal core: each clause without which the rest is still contradictory is left out."""
    for number in list(core):
        rest = [clauses[other] for other in core if other != number]
        copies = [_Clause(list(one.literals), one.reason) for one in rest]
        if _Solver(copies, variables, {}).solve() is not None:
            core = [other for other in core if other != number]
    return core


class _Problem:
    """The clauses about all packages that could be needed."""

    def __init__(self, relations: Relations, excluded: frozenset[str]) -> None:
        self._relations = relations
        self._excluded = excluded
        self.candidates: list[Candidate] = []
        self.clauses: list[_Clause] = []
        self.choices: dict[int, list[list[int]]] = {}  # variable → the groups that it needs one of
        self._variables: dict[Candidate, int] = {}
        self._present: set[Candidate] = set()

    def demand(self, one: Candidate, reason: Reason) -> None:
        if reason.kind == "present":
            self._present.add(one)
        self.clauses.append(_Clause([self._variable(one)], reason))

    def close(self) -> None:
        """Add the dependencies of every package that may be needed, and what excludes what."""
        known = Chosen(self._relations)
        done = 0
        while done < len(self.candidates):
            one = self.candidates[done]
            done += 1
            variable = self._variables[one]
            for package, field, written, target in known.excluded_by(one):
                if package in self._present and target in self._present:
                    continue
                pair = [-self._variables[package], -self._variables[target]]
                self.clauses.append(_Clause(pair, Reason("excludes", package, field, written, (target,))))
            # Two versions of one package are never considered: the pool has chosen the candidate.
            if one.key not in known:
                known.add(one)
            # The variant's own set is not questioned.
            for field in ("Pre-Depends", "Depends") if one not in self._present else ():
                for group in self._relations.of(one, field):
                    solutions = self._relations.solutions(one, group)
                    solutions.sort(key=lambda other: other.name in self._excluded)
                    literals = [self._variable(other) for other in solutions]
                    if variable in literals:
                        continue  # it provides what it needs itself
                    written = " | ".join(map(str, group))
                    reason = Reason("needs", one, field, written, tuple(solutions), group)
                    self.clauses.append(_Clause([-variable, *literals], reason))
                    self.choices.setdefault(variable, []).append(literals)

    def _variable(self, one: Candidate) -> int:
        number = self._variables.get(one)
        if number is None:
            self.candidates.append(one)
            number = self._variables[one] = len(self.candidates)
        return number


class _Solver:
    """One search over clauses. Learned clauses are added to the list."""

    def __init__(self, clauses: list[_Clause], variables: int, choices: dict[int, list[list[int]]]) -> None:
        self._clauses = clauses
        self._most = len(clauses) + _MOST_LEARNED
        self._choices = choices
        self._value = [0] * (variables + 1)  # 1 chosen, -1 not chosen, 0 undecided
        self._level = [0] * (variables + 1)
        self._because: list[int] = [-1] * (variables + 1)  # the clause that forced it
        self._trail: list[int] = []
        self._starts: list[int] = []  # where each level begins in the trail
        self._next = 0
        self._watched: dict[int, list[int]] = {}

    def true(self) -> list[int]:
        return [literal for literal in self._trail if literal > 0]

    def solve(self) -> list[int] | None:
        """None if a set was found; otherwise the clauses (not learned ones) that contradict each other."""
        for number in range(len(self._clauses)):
            conflict = self._attach(number)
            if conflict is not None:
                return self._core(conflict)
        while True:
            conflict = self._propagate()
            if conflict is None:
                literal = self._decision()
                if literal == 0:
                    return None
                self._starts.append(len(self._trail))
                self._set(literal, -1)
            elif not self._starts:
                return self._core(conflict)
            elif len(self._clauses) > self._most:
                raise Unsolvable(
                    "choose the packages",
                    because=f"no set was found in {_MOST_LEARNED} tries: too many packages exclude each other",
                    hint="leave packages or sources out, or name the ones to take with --include",
                )
            else:
                self._learn(conflict)

    def _attach(self, number: int) -> int | None:
        literals = self._clauses[number].literals
        if len(literals) > 1:
            for literal in literals[:2]:
                self._watched.setdefault(literal, []).append(number)
            return None
        if not literals or self._holds(literals[0]) < 0:
            return number
        if self._holds(literals[0]) == 0:
            self._set(literals[0], number)
        return None

    def _holds(self, literal: int) -> int:
        return self._value[literal] if literal > 0 else -self._value[-literal]

    def _set(self, literal: int, because: int) -> None:
        variable = abs(literal)
        self._value[variable] = 1 if literal > 0 else -1
        self._level[variable] = len(self._starts)
        self._because[variable] = because
        self._trail.append(literal)

    def _propagate(self) -> int | None:
        """Unit propagation. Returns the number of a clause that is violated, or None."""
        while self._next < len(self._trail):
            false = -self._trail[self._next]
            self._next += 1
            watching = self._watched.get(false, [])
            kept: list[int] = []
            for position, number in enumerate(watching):
                literals = self._clauses[number].literals
                if literals[0] == false:
                    literals[0], literals[1] = literals[1], literals[0]
                if self._holds(literals[0]) > 0:
                    kept.append(number)
                    continue
                for at in range(2, len(literals)):
                    if self._holds(literals[at]) >= 0:
                        literals[1], literals[at] = literals[at], literals[1]
                        self._watched.setdefault(literals[1], []).append(number)
                        break
                else:
                    kept.append(number)
                    if self._holds(literals[0]) < 0:
                        self._watched[false] = kept + watching[position + 1 :]
                        return number
                    self._set(literals[0], number)
            self._watched[false] = kept
        return None

    def _decision(self) -> int:
        """The first remaining alternative of the first unsatisfied group; 0 if all are satisfied."""
        for literal in self._trail:
            for group in self._choices.get(literal, ()) if literal > 0 else ():
                if not any(self._value[other] > 0 for other in group):
                    return next(other for other in group if self._value[other] == 0)
        return 0

    def _learn(self, conflict: int) -> None:
        """Resolve the violated clause with its reasons until one literal of this level is left (the first unique
        implication point); go back and set that literal."""
        level = len(self._starts)
        seen: set[int] = set()
        learned: list[int] = []
        origins = [conflict]
        open_here = 0
        at = len(self._trail)
        literals = self._clauses[conflict].literals
        while True:
            for literal in literals:
                variable = abs(literal)
                if variable in seen:
                    continue
                seen.add(variable)
                if self._level[variable] == level:
                    open_here += 1
                else:
                    learned.append(literal)  # level 0 too: `_core` finds reasons through these
            while True:
                at -= 1
                if abs(self._trail[at]) in seen:
                    break
            open_here -= 1
            if open_here == 0:
                break
            because = self._because[abs(self._trail[at])]
            origins.append(because)
            literals = self._clauses[because].literals
        asserted = -self._trail[at]
        back = max((self._level[abs(literal)] for literal in learned), default=0)
        learned.sort(key=lambda literal: -self._level[abs(literal)])
        self._back_to(back)
        self._clauses.append(_Clause([asserted, *learned], None, tuple(origins)))
        number = len(self._clauses) - 1
        for literal in self._clauses[number].literals[:2] if learned else ():
            self._watched.setdefault(literal, []).append(number)
        self._set(asserted, number)

    def _back_to(self, level: int) -> None:
        start = self._starts[level]
        for literal in self._trail[start:]:
            self._value[abs(literal)] = 0
        del self._trail[start:], self._starts[level:]
        self._next = start

    def _core(self, conflict: int) -> list[int]:
        todo, found = [conflict], set()
        while todo:
            number = todo.pop()
            if number < 0 or number in found:
                continue
            found.add(number)
            clause = self._clauses[number]
            todo += clause.learned_from
            # Level 0 only: these assignments hold for good. The other literals of a learned clause were undecided.
            todo += [self._because[abs(one)] for one in clause.literals if self._level[abs(one)] == 0]
        return sorted(number for number in found if self._clauses[number].reason is not None)
