"""Whether /bin, /sbin and /lib* of a tree are links into /usr: debootstrap's decision by suite and variant."""

from toolkit.bootstrap.facts import suites
from toolkit.bootstrap.facts.model import Lock

# The directories that are links in a merged /usr (debootstrap's list, which has every multilib name).
ALIASES = frozenset((b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libo32", b"libx32"))

# From these releases on an unmerged system must be marked as such, or the package usr-is-merged does not install.
_MERGE_REQUIRED = frozenset(("bookworm",))


def is_merged(lock: Lock) -> bool:
    """Whether the tree of this lock gets the links."""
    return suites.SUITES.get(lock.suite, suites.unknown(lock.suite)).merges_usr(lock.variant)


def needs_exemption(lock: Lock, merged: bool | None = None) -> bool:
    """Whether an unmerged tree needs /etc/unsupported-skip-usrmerge-conversion. `merged`: None is the suite's rule."""
    return lock.suite in _MERGE_REQUIRED and not (is_merged(lock) if merged is None else merged)
