"""Unpack the base set into a tree whose required packages are configured, in dpkg's order and with dpkg's result.

When dpkg unpacks it has to decide: which of two packages keeps a path that both ship, where a diverted path goes, what
stays because it is a directory or a link, who owns a file by name (docs/unpacking.md has a row for each). Few packages
raise any of these questions. The files of all others are staged (staging.py), and unpacking only moves them in. A
package that may raise one is unpacked by the tree's own dpkg, at its place in the order, as debootstrap does with all.
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
from toolkit.bootstrap.install.staging import Staging
from toolkit.bootstrap.install.unpack import Unpacked, conffiles

OPTIONS = ("--force-overwrite", "--force-confold", "--skip-same-version")  # debootstrap's

_CHANGES_RULES = re.compile(rb"dpkg-(divert|statoverride)\b")
_READS_DATABASE = re.compile(
    rb"dpkg-(query|trigger)\b|\bdpkg\s+-(-(status|list|search|get-selections|verify|audit)\b|[slSLV])"
)
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP)


class BaseSet:
    """The base set of the tree below `rootfd`. `finish` removes the staging area.

    `there` are the packages that are unpacked already. `preinst` runs the preinst script of a package.
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
        self._staging = Staging(rootfd)
        self._by_dpkg = by_dpkg
        self._preinst = preinst
        self._listed: set[bytes] = set()  # paths that packages list, without directories
        self._sole: dict[str, int | None] = {}  # path → position of the only package that lists it; None: several do
        self._own: Counter[int] = Counter()  # position → number of paths that only this package lists
        self._moved: list[Unpacked] = []  # moved in, and not yet in dpkg's database
        self._overridden: set[bytes] = set()
        for one in there:
            self._list(one)

    def unpack(self, packages: Iterable[Unpacked]) -> None:
        """Unpack these packages, in this order. Raises BuildFailed, OSError."""
        waiting: list[Unpacked] = []  # to be unpacked by one dpkg: starting it takes longer than unpacking most of them
        self._staging.forget()
        # Read once, as dpkg does at its start.
        overrides = self._database.read("statoverride").splitlines()
        self._overridden = {line.split(None, 3)[-1].lstrip(b"/") for line in overrides if line.strip()}
        for one in packages:
            decides = self._decides(one)
            if waiting and not decides:
                self._hand_over(waiting)
                waiting = []
                decides = self._decides(one)  # again: the packages just unpacked may have diverted something
            self._list(one)
            if decides:
                waiting.append(one)
            else:
                self._move_in(one)
        self._hand_over(waiting)
        self._register()

    def finish(self) -> None:
        """Remove the staging area."""
        self._staging.close()

    def _decides(self, one: Unpacked) -> bool:
        """Whether dpkg may have something to decide about this package."""
        if one.odd or not self._listed.isdisjoint(one.names) or _CHANGES_RULES.search(one.control.get("preinst", b"")):
            return True
        if not self._ruled().isdisjoint(one.names):
            return True
        if self._empties(one):
            return True
        late = conffiles(one.control)
        if any(item.name in late and item.kind != entries.FILE for item in one.staged):
            return True
        if one.owned and owners.differ(self._rootfd, one.owned, may_change="preinst" in one.control):
            return True
        return self._staging.in_the_way(one.staged, late)

    def _ruled(self) -> set[bytes]:
        """The paths that have a diversion or a statoverride."""
        diversions = self._database.read("diversions").splitlines()
        return {path.lstrip(b"/") for path in (*diversions[::3], *diversions[1::3])} | self._overridden

    def _list(self, one: Unpacked) -> None:
        """Count the paths that the package lists."""
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
        """Whether this package leaves another one without a path of its own: dpkg then makes that one disappear."""
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
            self._staging.forget()
        try:
            self._staging.release(one.position, one.staged, self._database.diversions_for(one), conffiles(one.control))
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            self._hand_over([one])  # its preinst has made something at one of its paths
            return
        self._moved.append(one)

    def _register(self) -> None:
        if self._moved:
            self._database.register(self._moved)
            self._moved = []

    def _hand_over(self, packages: list[Unpacked]) -> None:
        """Let the tree's dpkg unpack these packages."""
        if not packages:
            return
        self._register()
        for one in packages:
            self._staging.drop(one.position)
        self._by_dpkg.unpack(packages, *OPTIONS)
        self._staging.forget()
        self._forget_disappeared()
