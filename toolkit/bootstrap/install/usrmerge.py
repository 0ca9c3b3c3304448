"""Whether a tree's /bin, /sbin and /lib* are links into /usr, as debootstrap decides it per suite and variant."""

from toolkit.bootstrap.facts import suites
from toolkit.bootstrap.facts.model import Lock

# The directories that a merged /usr turns into links (debootstrap's list; it holds every multilib name there is).
ALIASES = frozenset((b"bin", b"sbin", b"lib", b"lib32", b"lib64", b"libo32", b"libx32"))

# From these on a system that stays unmerged must say so, or the package usr-is-merged will not install.
_MERGE_REQUIRED = frozenset(("bookworm",))


def is_merged(lock: Lock) -> bool:
    """Whether the tree of this lock gets the links."""
    return suites.SUITES.get(lock.suite, suites.unknown(lock.suite)).merges_usr(lock.variant)


def needs_exemption(lock: Lock, merged: bool | None = None) -> bool:
    """Whether an unmerged tree needs /etc/unsupported-skip-usrmerge-conversion. `merged`: None is the suite's rule."""
    return lock.suite in _MERGE_REQUIRED and not (is_merged(lock) if merged is None else merged)
