"""The packages that debootstrap installs first, and the required packages that need no dpkg to unpack them."""

from collections.abc import Iterable

from toolkit.bootstrap.facts.model import Lock
from toolkit.bootstrap.install.unpack import Unpacked

_CORE = ("base-passwd", "base-files", "dpkg", "libc6", "libc6.1", "libc0.3", "perl-base", "mawk")


def core(lock: Lock) -> list[str]:
    """The lock's core packages by key, in debootstrap's order."""
    names = {lock.key(package) for package in lock.required}
    debconf = ("debconf",) if lock.variant == "-" else ()
    return [name for name in (*_CORE, *debconf) if name in names]


def settled(lock: Lock, unpacked: Iterable[Unpacked]) -> list[Unpacked]:
    """The core, and the required packages that dpkg has nothing to decide about.

    The others ship a path that another required package ships too. The tree's dpkg unpacks them when it is their turn.
    """
    required = {lock.key(package) for package in lock.required}
    first = set(core(lock))
    found = ((lock.key(one.package), one) for one in unpacked)
    return [one for key, one in found if key in required and (key in first or not one.contested)]
