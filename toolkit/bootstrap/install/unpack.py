"""Lay packages out in a new root, straight from their .debs, by several threads at once.

The tree doesn't depend on which thread came first. Where two required packages ship the same path, dpkg's rule decides:
the later one by name has it, unless only the earlier one says that it Replaces the other. A directory has the mode of
the first, as dpkg never touches one that is there.

The required packages go to their places, the base set onto shelves of their own (staging.py says why).
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from toolkit.archive import entries
from toolkit.bootstrap.acquire.repacked import Repacked
from toolkit.bootstrap.facts.model import Lock, Package
from toolkit.bootstrap.install import replaces
from toolkit.bootstrap.install.extract_package import Layout, Owned, Placed
from toolkit.bootstrap.install.path_filter import Skips
from toolkit.bootstrap.install.staging import HOLD, Shelf
from toolkit.bootstrap.install.tree import Tree, umask
from toolkit.bootstrap.install.usrmerge import is_merged
from toolkit.deb.archive import ControlFile, Deb
from toolkit.deb.version import Version
from toolkit.errors import CtkError, reason
from toolkit.events import Emit, Note, Progressed
from toolkit.text import number

_WRITES_SUMS = Version("1.16.3")  # from this dpkg on it writes the md5sums of a package that has none


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What dpkg's database must know about a package that has been laid out."""

    package: Package
    position: int  # in the lock
    control: dict[str, bytes]
    modes: dict[str, tuple[int, int]]  # of the control files: permission bits, mtime in seconds
    files: tuple[str, ...]  # as dpkg lists them: "/.", "/usr", "/usr/bin/x", …; bytes that aren't UTF-8 escaped
    conffiles: dict[str, str]  # path: MD5 of the file laid out; none of those that wait for `dpkg --configure`
    names: frozenset[bytes] = frozenset()  # what it lists but directories, without the first slash
    owned: tuple[Owned, ...] = ()  # what belongs to others than root, by name
    held: tuple[Placed, ...] = ()  # what waits on the package's shelf, links last
    odd: bool = False  # whether it writes a name as a//b or a/./b
    contested: bool = False  # whether another required package ships one of its paths


class Unpacker:
    """Unpacks the lock's packages under `rootfd`, an empty directory opened for reading (not O_PATH).

    `merged_usr` says whether /bin and its kin become links into /usr; None asks the suite's rules. `skips` says which
    files are not laid out (path_filter.py). `repacked` may keep copies of the packages.
    """

    def __init__(
        self,
        rootfd: int,
        lock: Lock,
        emit: Emit,
        *,
        merged_usr: bool | None = None,
        skips: Skips | None = None,
        repacked: Repacked | None = None,
    ) -> None:
        self._emit = emit
        self._repacked = repacked
        self._skips = skips
        self._total = len(lock.packages)
        sizes = (package.paragraph.get("Installed-Size", "") for package in lock.packages)
        self._needed_kib = sum(max(number(size), 0) for size in sizes)
        self._position = {(p.name, p.architecture): i for i, p in enumerate(lock.packages)}
        self._packages = lock.packages
        dpkg = next((package.version for package in lock.packages if package.name == "dpkg"), "0")
        self._writes_sums = Version(dpkg) >= _WRITES_SUMS
        self._required = len(lock.required)
        self._unpacked: dict[int, Unpacked] = {}
        self._mutex = threading.Lock()
        # The group of a directory with the setgid bit, and default ACLs, would pass on to all that is made in it.
        os.fchown(rootfd, 0, 0)
        os.fchmod(rootfd, 0o755)
        with contextlib.suppress(OSError):
            os.removexattr(rootfd, "system.posix_acl_default")
        merged = is_merged(lock) if merged_usr is None else merged_usr
        mask = umask()
        self._tree = Tree(rootfd, mask, self._choose, merged_usr=merged)
        self._final = lock.variant == "extract"  # else the tree's dpkg unpacks them once more, and tells
        self._holdfd = -1
        if lock.base:
            os.mkdir(HOLD, 0o700, dir_fd=rootfd)
            self._holdfd = os.open(HOLD, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=rootfd)

    def add(self, package: Package, deb: int) -> None:
        """Unpack one package from the descriptor of its .deb, which stays the caller's. Any thread may call.

        Raises Malformed for a package that breaks its format or would leave the root, CtkError for a full disk.
        """
        position = self._position[package.name, package.architecture]
        what = f"{package.name} {package.version}"
        try:
            archive = Deb(deb, what)
            control = archive.control()
            installed = package.paragraph.get("Installed-Size", "")
            copying = self._repacked.writing(package, archive) if self._repacked else contextlib.nullcontext()
            with self._layout(position, what, control) as layout, copying as copy:
                content = archive.data(max(number(installed), 0), copy)
                for entry in content:
                    layout.put(entry, content)
        except OSError as error:
            raise self._failed(what, error) from error
        self._note(package, position, control, layout)

    def finish(self) -> list[Unpacked]:
        """Give the directories their owners, modes and times, make the links of a merged /usr.

        Call it once, when every `add` has returned. The packages are in the lock's order.
        """
        rootfd = self._tree.rootfd
        self._tree.finish_directories()
        if self._holdfd >= 0:
            os.close(self._holdfd)
        for alias in sorted(self._tree.aliases):
            with contextlib.suppress(FileExistsError):
                os.symlink(b"usr/" + alias, alias, dir_fd=rootfd)
        lost = self._lost()
        contested = {position for claims in self._tree.contested.values() for position in claims}
        unpacked = [self._unpacked[position] for position in sorted(self._unpacked)]
        return [
            replace(_without(one, lost.get(one.position, frozenset())), contested=True)
            if one.position in contested
            else one
            for one in unpacked
        ]

    @contextlib.contextmanager
    def _layout(self, position: int, what: str, control: dict[str, ControlFile]) -> Iterator[Layout]:
        late, sums = conffiles(control), self._writes_sums and "md5sums" not in control
        with contextlib.ExitStack() as undo:
            if position < self._required:
                layout = Layout(self._tree, position, what, late, self._skips, sums=sums)
            else:
                os.mkdir(str(position), 0o700, dir_fd=self._holdfd)
                shelf = os.open(str(position), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._holdfd)
                undo.callback(os.close, shelf)
                layout = Shelf(self._tree, shelf, position, what, late, self._skips, sums=sums)
            undo.callback(layout.close)
            yield layout
        if sums:
            lines = b"".join(b"%s  %s\n" % (digest.encode(), name) for digest, name in layout.sums)
            control["md5sums"] = ControlFile(lines, 0o644, int(time.time()))

    def _choose(self, claims: dict[int, bytes]) -> int:
        """The position of the package that has a path which these two ship."""
        first, last = sorted(claims)
        earlier, later = (self._packages[first], claims[first]), (self._packages[last], claims[last])
        return first if replaces.keeps(earlier, later) else last

    def _lost(self) -> dict[int, frozenset[bytes]]:
        """By position, what each package lists and another one has; who took something unasked is told."""
        lost: dict[int, set[bytes]] = {}
        taken: dict[tuple[int, int], list[bytes]] = {}
        for path, claims in self._tree.contested.items():
            holder = self._tree.owner(path)
            if holder is None or holder not in claims:
                continue
            for position, name in claims.items():
                # Under two names, or in two architectures of one package, dpkg lists it for both.
                if position == holder or name != claims[holder]:
                    continue
                one, other = self._packages[holder], self._packages[position]
                if not replaces.share(one, other):
                    lost.setdefault(position, set()).add(name)
                if self._final and replaces.unasked(one, other):
                    taken.setdefault((holder, position), []).append(path)
        for (holder, position), paths in sorted(taken.items()):
            one, other = self._packages[holder], self._packages[position]
            self._emit(overwritten(f"{one.name} {one.version}", f"{other.name} {other.version}", sorted(paths)))
        return {position: frozenset(names) for position, names in lost.items()}

    def _note(self, package: Package, position: int, control: dict[str, ControlFile], layout: Layout) -> None:
        held = position >= self._required
        links = [one for one in layout.placed if one.kind == entries.SYMLINK] if held else []
        unpacked = Unpacked(
            package,
            position,
            {name: file.data for name, file in control.items()},
            {name: (file.mode, file.mtime_s) for name, file in control.items()},
            tuple(path.decode("utf-8", "surrogateescape") for path in layout.listed),
            {} if held else layout.digests,
            frozenset(layout.names),
            tuple(layout.owned),
            (*(one for one in layout.placed if one.kind != entries.SYMLINK), *links) if held else (),
            layout.odd,
        )
        with self._mutex:
            self._unpacked[position] = unpacked
            done = len(self._unpacked)
        self._emit(Progressed("unpack", done, self._total, "packages", package.name))

    def _failed(self, what: str, error: OSError) -> CtkError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            because = f"{reason(error)} (the tree needs about {self._needed_kib >> 10} MiB)"
            return CtkError(f"unpack {what}", because=because, hint="free some space, or another target")
        name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
        return CtkError(f"unpack {what}", because=name + reason(error))


def overwritten(one: str, other: str, paths: list[bytes]) -> Note:
    """The warning that one package has another one's files. `paths` is not empty."""
    first = os.fsdecode(paths[0])
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    because = "neither of them says that it replaces the other (dpkg takes that by --force-overwrite only)"
    return Note(f"{one} has taken '/{first}'{more} from {other}: {because}", warning=True)


def conffiles(control: Mapping[str, ControlFile | bytes]) -> frozenset[bytes]:
    """The paths that conffiles names, without their first slash (deb-conffiles(5))."""
    found = control.get("conffiles", b"")
    data = found if isinstance(found, bytes) else found.data
    return frozenset(line.split()[-1].lstrip(b"/") for line in data.split(b"\n") if line.strip())


def _without(one: Unpacked, lost: frozenset[bytes]) -> Unpacked:
    """The package without the paths that it has lost to another one."""
    if not lost:
        return one
    names = {"/" + path.decode("utf-8", "surrogateescape") for path in lost}
    return replace(one, files=tuple(path for path in one.files if path not in names), names=one.names - lost)
