"""Unpack packages into a new root, directly from their .debs, by several threads at once.

The result does not depend on the order of the threads. If two required packages ship the same path, dpkg's rule
decides: the later one by name gets it, unless only the earlier one Replaces the other. A directory gets the mode of the
first package, because dpkg never changes an existing one.

The required packages are extracted into the tree, the base set into the staging area (staging.py gives the reason).
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
from toolkit.bootstrap.install.extract_package import Owned, PackageExtractor, Placed
from toolkit.bootstrap.install.path_filter import Skips
from toolkit.bootstrap.install.staging import STAGING, StagingExtractor
from toolkit.bootstrap.install.tree import Tree, umask
from toolkit.bootstrap.install.usrmerge import is_merged
from toolkit.deb.archive import ControlFile, Deb
from toolkit.deb.version import Version
from toolkit.errors import CtkError, reason
from toolkit.events import Emit, Note, Progressed
from toolkit.text import number

_WRITES_SUMS = Version("1.16.3")  # since this version dpkg writes the md5sums of a package that has none


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An unpacked package: what dpkg's database must know about it."""

    package: Package
    position: int  # in the lock
    control: dict[str, bytes]
    modes: dict[str, tuple[int, int]]  # of the control files: permission bits, mtime in seconds
    files: tuple[str, ...]  # as dpkg lists them: "/.", "/usr", "/usr/bin/x", …; bytes that aren't UTF-8 escaped
    conffiles: dict[str, str]  # path: MD5 of the extracted file; empty for a staged package, whose files are .dpkg-new
    names: frozenset[bytes] = frozenset()  # the paths that it lists, without directories and without the first slash
    owned: tuple[Owned, ...] = ()  # the members with other owners than root, by name
    staged: tuple[Placed, ...] = ()  # its files in the staging area, links last
    odd: bool = False  # whether it writes a name as a//b or a/./b
    contested: bool = False  # whether another required package ships one of its paths


class Unpacker:
    """Unpacks the lock's packages under `rootfd`, an empty directory opened for reading (not O_PATH).

    `merged_usr` says whether /bin and the like become links into /usr; None is the suite's rule. `skips` says which
    files are not extracted (path_filter.py). `repacked` may store copies of the packages.
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
        # All that is made in a directory inherits its default ACLs and, with the setgid bit, its group.
        os.fchown(rootfd, 0, 0)
        os.fchmod(rootfd, 0o755)
        with contextlib.suppress(OSError):
            os.removexattr(rootfd, "system.posix_acl_default")
        merged = is_merged(lock) if merged_usr is None else merged_usr
        mask = umask()
        self._tree = Tree(rootfd, mask, self._choose, merged_usr=merged)
        self._final = lock.variant == "extract"  # otherwise the tree's dpkg unpacks contested packages again, and warns
        self._stagingfd = -1
        if lock.base:
            os.mkdir(STAGING, 0o700, dir_fd=rootfd)
            self._stagingfd = os.open(STAGING, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=rootfd)

    def add(self, package: Package, deb: int) -> None:
        """Unpack one package from the descriptor of its .deb, which the caller closes. Thread-safe.

        Raises Malformed for a package that violates the format or leads out of the root, CtkError for a full disk.
        """
        position = self._position[package.name, package.architecture]
        what = f"{package.name} {package.version}"
        try:
            archive = Deb(deb, what)
            control = archive.control()
            installed = package.paragraph.get("Installed-Size", "")
            copying = self._repacked.writing(package, archive) if self._repacked else contextlib.nullcontext()
            with self._extractor(position, what, control) as extractor, copying as copy:
                content = archive.data(max(number(installed), 0), copy)
                for entry in content:
                    extractor.put(entry, content)
        except OSError as error:
            raise self._failed(what, error) from error
        self._note(package, position, control, extractor)

    def finish(self) -> list[Unpacked]:
        """Set the owners, modes and times of directories, and make the links of a merged /usr.

        To be called once, when every `add` has returned. Returns the packages in the lock's order.
        """
        rootfd = self._tree.rootfd
        self._tree.finish_directories()
        if self._stagingfd >= 0:
            os.close(self._stagingfd)
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
    def _extractor(self, position: int, what: str, control: dict[str, ControlFile]) -> Iterator[PackageExtractor]:
        late, sums = conffiles(control), self._writes_sums and "md5sums" not in control
        with contextlib.ExitStack() as undo:
            if position < self._required:
                extractor = PackageExtractor(self._tree, position, what, late, self._skips, sums=sums)
            else:
                os.mkdir(str(position), 0o700, dir_fd=self._stagingfd)
                folderfd = os.open(str(position), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._stagingfd)
                undo.callback(os.close, folderfd)
                extractor = StagingExtractor(self._tree, folderfd, position, what, late, self._skips, sums=sums)
            undo.callback(extractor.close)
            yield extractor
        if sums:
            lines = b"".join(b"%s  %s\n" % (digest.encode(), name) for digest, name in extractor.sums)
            control["md5sums"] = ControlFile(lines, 0o644, int(time.time()))

    def _choose(self, claims: dict[int, bytes]) -> int:
        """Which of two packages (by position) gets a path that both ship."""
        first, last = sorted(claims)
        earlier, later = (self._packages[first], claims[first]), (self._packages[last], claims[last])
        return first if replaces.keeps(earlier, later) else last

    def _lost(self) -> dict[int, frozenset[bytes]]:
        """Position → paths that the package has lost to another one. Warns about those taken without Replaces."""
        lost: dict[int, set[bytes]] = {}
        taken: dict[tuple[int, int], list[bytes]] = {}
        for path, claims in self._tree.contested.items():
            holder = self._tree.owner(path)
            if holder is None or holder not in claims:
                continue
            for position, name in claims.items():
                # dpkg lists it for both if they use two names for it, or are one package in two architectures.
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

    def _note(
        self, package: Package, position: int, control: dict[str, ControlFile], extractor: PackageExtractor
    ) -> None:
        staged = position >= self._required
        links = [one for one in extractor.placed if one.kind == entries.SYMLINK] if staged else []
        unpacked = Unpacked(
            package,
            position,
            {name: file.data for name, file in control.items()},
            {name: (file.mode, file.mtime_s) for name, file in control.items()},
            tuple(path.decode("utf-8", "surrogateescape") for path in extractor.listed),
            {} if staged else extractor.digests,
            frozenset(extractor.names),
            tuple(extractor.owned),
            (*(one for one in extractor.placed if one.kind != entries.SYMLINK), *links) if staged else (),
            extractor.odd,
        )
        with self._mutex:
            self._unpacked[position] = unpacked
            done = len(self._unpacked)
        self._emit(Progressed("unpack", done, self._total, "packages", package.name))

    def _failed(self, what: str, error: OSError) -> CtkError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            because = f"{reason(error)} (the tree needs about {self._needed_kib >> 10} MiB)"
            return CtkError(f"unpack {what}", because=because, hint="free some space, or use another target")
        name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
        return CtkError(f"unpack {what}", because=name + reason(error))


def overwritten(one: str, other: str, paths: list[bytes]) -> Note:
    """The warning that one package has taken files of another. `paths` is not empty."""
    first = os.fsdecode(paths[0])
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    because = "neither of them Replaces the other (dpkg allows this only with --force-overwrite)"
    return Note(f"{one} has taken '/{first}'{more} from {other}: {because}", warning=True)


def conffiles(control: Mapping[str, ControlFile | bytes]) -> frozenset[bytes]:
    """The paths listed in conffiles (deb-conffiles(5)), without their first slash."""
    found = control.get("conffiles", b"")
    data = found if isinstance(found, bytes) else found.data
    return frozenset(line.split()[-1].lstrip(b"/") for line in data.split(b"\n") if line.strip())


def _without(one: Unpacked, lost: frozenset[bytes]) -> Unpacked:
    """The package without the paths that it has lost to another one."""
    if not lost:
        return one
    names = {"/" + path.decode("utf-8", "surrogateescape") for path in lost}
    return replace(one, files=tuple(path for path in one.files if path not in names), names=one.names - lost)
