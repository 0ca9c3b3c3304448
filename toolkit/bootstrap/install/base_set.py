"""Unpack the base set into a tree whose required packages are configured, in dpkg's order and with dpkg's result.

dpkg decides much at unpack: who keeps a path that two packages ship, where a diverted one goes, what stays because it
is a directory or a link, whom a file belongs to by name (docs/unpacking.md, a row each). Nearly no package has anything
of it to decide; of such a one the files lie ready (staging.py), and unpacking is moving them in. Whatever might have
something to decide is unpacked by the tree's own dpkg, at its place in the order, as debootstrap does with all.
"""

import errno
import re
from collections import Counter
from collections.abc import Callable, Iterable

from toolkit.archive import entries
from toolkit.bootstrap.facts.model import Lock
from toolkit.bootstrap.install import owners
from toolkit.bootstrap.install.by_dpkg import ByDpkg
from toolkit.bootstrap.install.database import Database
from toolkit.bootstrap.install.staging import Held
from toolkit.bootstrap.install.unpack import Unpacked, conffiles

OPTIONS = ("--force-overwrite", "--force-confold", "--skip-same-version")  # debootstrap's

_CHANGES_RULES = re.compile(rb"dpkg-(divert|statoverride)\b")
_READS_DATABASE = re.compile(
    rb"dpkg-(query|trigger)\b|\bdpkg\s+-(-(status|list|search|get-selections|verify|audit)\b|[slSLV])"
)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP)


class BaseSet:
    """The base set of the tree below `rootfd`, whose shelves `finish` removes.

    `there` are the packages that are unpacked already; `preinst` runs a package's preinst.
    """

    def __init__(
        self,
        rootfd: int,
        lock: Lock,
        there: Iterable[Unpacked],
        by_dpkg: ByDpkg,
        preinst: Callable[[Unpacked], None],
    ) -> None:
        self._rootfd = rootfd
        self._lock = lock
        self._database = Database(rootfd)
        self._held = Held(rootfd)
        self._by_dpkg = by_dpkg
        self._preinst = preinst
        self._listed: set[bytes] = set()  # all but directories
        self._sole: dict[str, int | None] = {}  # who alone lists the path, by position; None for several
        self._own: Counter[int] = Counter()  # how many paths a package alone lists
        self._moved: list[Unpacked] = []  # and not yet in dpkg's database
        self._overridden: set[bytes] = set()
        for one in there:
            self._list(one)

    def unpack(self, packages: Iterable[Unpacked]) -> None:
        """Unpack these, in this order. Raises BuildFailed, OSError."""
        waiting: list[Unpacked] = []  # for dpkg, whose start costs more than most of them
        self._held.forget()
        # dpkg reads these once, when it starts.
        overrides = self._database.read("statoverride").splitlines()
        self._overridden = {line.split(None, 3)[-1].lstrip(b"/") for line in overrides if line.strip()}
        for one in packages:
            decides = self._decides(one)
            if waiting and not decides:
                self._hand_over(waiting)
                waiting = []
                decides = self._decides(one)  # those may have diverted something
            self._list(one)
            if decides:
                waiting.append(one)
            else:
                self._move_in(one)
        self._hand_over(waiting)
        self._register()

    def finish(self) -> None:
        """Remove what the base set waited in."""
        self._held.close()

    def _decides(self, one: Unpacked) -> bool:
        """Whether dpkg might have something to decide about this package."""
        if one.odd or not self._listed.isdisjoint(one.names) or _CHANGES_RULES.search(one.control.get("preinst", b"")):
            return True
        if not self._ruled().isdisjoint(one.names):
            return True
        if self._empties(one):
            return True
        late = conffiles(one.control)
        if any(item.name in late and item.kind != entries.FILE for item in one.held):
            return True
        if one.owned and owners.differ(self._rootfd, one.owned, may_change="preinst" in one.control):
            return True
        return self._held.in_the_way(one.held, late)

    def _ruled(self) -> set[bytes]:
        """The paths that a diversion or a statoverride is about."""
        diversions = self._database.read("diversions").splitlines()
        return {path.lstrip(b"/") for path in (*diversions[::3], *diversions[1::3])} | self._overridden

    def _list(self, one: Unpacked) -> None:
        """Note what the package lists."""
        self._listed |= one.names
        sole, own = self._sole, self._own
        for path in dict.fromkeys(one.files):
            if path == "/.":
                continue
            own[one.position] += 0
            holder = sole.setdefault(path, one.position)
            if holder == one.position:
                own[holder] += 1
            elif holder is not None:
                own[holder] -= 1
                sole[path] = None

    def _empties(self, one: Unpacked) -> bool:
        """Whether with this package in the tree another one lists nothing that is its own: dpkg lets it disappear."""
        lost = Counter(holder for path in one.files if (holder := self._sole.get(path)) is not None)
        return any(self._own[position] <= count for position, count in lost.items()) or min(self._own.values()) <= 0

    def _forget_disappeared(self) -> None:
        empty = [position for position, count in self._own.items() if count <= 0]
        if empty:
            states = self._database.states()
            for position in empty:
                package = self._lock.packages[position]
                if f"{package.name}:{package.architecture}" not in states:
                    del self._own[position]

    def _move_in(self, one: Unpacked) -> None:
        preinst = one.control.get("preinst")
        if preinst is not None:
            if _READS_DATABASE.search(preinst):
                self._register()
            self._preinst(one)
            self._held.forget()
        try:
            self._held.release(one.position, one.held, self._database.diversions_for(one), conffiles(one.control))
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            self._hand_over([one])  # its preinst has put something there
            return
        self._moved.append(one)

    def _register(self) -> None:
        if self._moved:
            self._database.register(self._moved)
            self._moved = []

    def _hand_over(self, packages: list[Unpacked]) -> None:
        """Have the tree's dpkg unpack these."""
        if not packages:
            return
        self._register()
        for one in packages:
            self._held.drop(one.position)
        self._by_dpkg.unpack(packages, *OPTIONS)
        self._held.forget()
        self._forget_disappeared()
