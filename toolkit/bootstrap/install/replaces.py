"""Which of two packages keeps a path that both ship, by the rule of dpkg's tarobject (archives.c, does_replace)."""

from toolkit.bootstrap.facts.model import Package
from toolkit.deb.relation import Alternative, parse_relations
from toolkit.deb.version import Version
from toolkit.errors import Malformed

_HOLDS = {
    "<<": lambda a, b: a < b,
    "<": lambda a, b: a <= b,
    "<=": lambda a, b: a <= b,
    "=": lambda a, b: a == b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a >= b,
    ">>": lambda a, b: a > b,
}  # fmt: skip


def replaces(one: Package, other: Package) -> bool:
    """Whether `one` may take over files of `other`: its Replaces must name that package, not one that it provides."""
    try:
        groups = parse_relations(one.paragraph.get("Replaces", ""))
    except Malformed:
        return False
    return any(_means(wanted, other) for group in groups for wanted in group)


def share(one: Package, other: Package) -> bool:
    """Whether they are one package in two architectures, which share identical files (Multi-Arch: same)."""
    return one.name == other.name


def keeps(earlier: tuple[Package, bytes], later: tuple[Package, bytes]) -> bool:
    """Whether the package that dpkg unpacks earlier keeps the path. Each comes with the name under which it lists it.

    Two names (/bin/x, /usr/bin/x) are two files for dpkg: the one unpacked last stays.
    """
    (one, name), (other, other_name) = earlier, later
    return name == other_name and not share(one, other) and replaces(one, other) and not replaces(other, one)


def unasked(one: Package, other: Package) -> bool:
    """Whether the two must not both ship a path: neither replaces the other, and they are not one package."""
    return not share(one, other) and not replaces(one, other) and not replaces(other, one)


def _means(wanted: Alternative, package: Package) -> bool:
    if wanted.name != package.name:
        return False
    holds = _HOLDS.get(wanted.relation)
    return holds is None or bool(holds(Version(package.version), Version(wanted.version)))
