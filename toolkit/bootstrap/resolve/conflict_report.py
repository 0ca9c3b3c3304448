"""The error for packages that can't be installed together: from the request to the relation that nothing satisfies."""

from dataclasses import dataclass

from toolkit.bootstrap.facts.pool import Candidate, Pool
from toolkit.deb.relation import Group
from toolkit.errors import Unsolvable

_LONGEST = 12


@dataclass(frozen=True, slots=True)
class Reason:
    """One clause of a contradiction. `kind` is "asked", "present", "needs" or "excludes"."""

    kind: str
    package: Candidate
    field: str = ""
    written: str = ""
    targets: tuple[Candidate, ...] = ()
    group: Group = ()

    def __str__(self) -> str:
        name = repr(self.package.key)
        match self.kind:
            case "asked":
                return f"{name} was asked for by --include"
            case "present":
                return f"{name} belongs to the variant"
            case "excludes":
                if self.field == "Multi-Arch":
                    return f"{name} allows beside it {self.written}: {self.targets[0].key!r}"
                return f"{name} {self.field.lower()} with {self.written}"
            case _:
                return f"{name} depends on {self.written}"


def explain(pool: Pool, reasons: list[Reason]) -> Unsolvable:
    """The error for a contradiction of these reasons, as short as possible."""
    needs = [reason for reason in reasons if reason.kind == "needs"]
    excludes = [reason for reason in reasons if reason.kind == "excludes"]
    parents: dict[Candidate, Reason] = {}
    for reason in needs:
        for one in reason.targets:
            parents.setdefault(one, reason)
    roots = {reason.package: reason for reason in reasons if reason.kind in ("asked", "present")}
    dead = [reason for reason in needs if not reason.targets]
    if len(dead) == 1 and not excludes:
        (reason,) = dead
        return Unsolvable(
            f"install {reason.package.key!r}",
            because=f"it depends on {reason.written}, {lacking(pool, reason.group)}; "
            + _chain(reason.package, parents, roots),
            hint="--components may name further components, --pocket and --source further sources",
        )
    if len(excludes) == 1 and not dead and all(len(reason.targets) == 1 for reason in needs):
        (reason,) = excludes
        one, other = reason.package, reason.targets[0]
        present = [name for name in (one, other) if name in roots and roots[name].kind == "present"]
        return Unsolvable(
            f"install {one.key!r} and {other.key!r} together",
            because=f"{reason}; {_chain(one, parents, roots)}; {_chain(other, parents, roots)}",
            hint=f"--exclude {present[0].key} leaves that one out" if present else "include only one of them",
        )
    lines = [
        str(reason) + (f", {lacking(pool, reason.group)}" if reason in dead else "") for reason in _ordered(reasons)
    ]
    if len(lines) > _LONGEST:
        lines = [*lines[:_LONGEST], f"and {len(lines) - _LONGEST} more"]
    return Unsolvable(
        "install all that was asked for",
        because="; ".join(lines),
        hint="leave one of these out, or name another version with NAME=VERSION or NAME/SUITE",
    )


def lacking(pool: Pool, group: Group) -> str:
    """Why nothing satisfies a group: what exists in another version or architecture, or that nothing does."""
    for wanted in group:
        found = pool.candidate(wanted.name)
        if found is not None:
            if wanted.qualifier == "any" and found.multi_arch != "allowed":
                return f"but {wanted.name} is not for every architecture (Multi-Arch: allowed)"
            return f"but the suite has {wanted.name} {found.version}"
    components = " ".join(dict.fromkeys(one.component for one in pool.members))
    return f"which no package in {components} is or provides"


def _chain(at: Candidate, parents: dict[Candidate, Reason], roots: dict[Candidate, Reason]) -> str:
    links: list[str] = []
    while len(links) < _LONGEST:
        if at in roots:
            asked = roots[at].kind == "asked"
            links.append(f"{at.key!r}: it " + ("was asked for by --include" if asked else "belongs to the variant"))
            break
        if at not in parents:
            break
        links.append(f"{at.key!r} is needed by {parents[at].package.key!r}")
        at = parents[at].package
    return ", ".join(links)


def _ordered(reasons: list[Reason]) -> list[Reason]:
    """Sorted from the wishes on: the reasons of a package come after those that brought it in."""
    todo = [reason for reason in reasons if reason.kind in ("asked", "present")]
    found: list[Reason] = []
    reached: set[Candidate] = set()
    while todo:
        reason = todo.pop(0)
        found.append(reason)
        for one in reason.targets if reason.kind == "needs" else (reason.package,):
            if one not in reached:
                reached.add(one)
                todo += [other for other in reasons if other.package is one and other.kind in ("needs", "excludes")]
    return found + [reason for reason in reasons if reason not in found]
