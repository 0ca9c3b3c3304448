"""Lay packages out in a new root, straight from their .debs, by several threads at once.

The tree doesn't depend on which thread came first: where two packages ship the same path, the one that dpkg would
have unpacked last (required before base, by name) wins, as with `dpkg --force-overwrite`; a directory has the mode of
the first, as dpkg never touches one that is there.

The required packages go to their places, the base set into a folder of its own (held.py says why).
"""

import contextlib
import errno
import os
import threading
from dataclasses import dataclass, replace

from toolkit.bootstrap.held import HOLD
from toolkit.bootstrap.layout import Layout
from toolkit.bootstrap.model import Lock, Package
from toolkit.bootstrap.path_filter import Skips
from toolkit.bootstrap.repacked import Repacked
from toolkit.bootstrap.tree import Tree, umask
from toolkit.bootstrap.usrmerge import is_merged
from toolkit.deb.archive import ControlFile, Deb
from toolkit.errors import CtkError
from toolkit.events import Emit, Progressed


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What dpkg's database must know about a package that has been laid out."""

    package: Package
    position: int  # in the lock
    control: dict[str, bytes]
    modes: dict[str, tuple[int, int]]  # of the control files: permission bits, mtime in seconds
    files: tuple[str, ...]  # as dpkg lists them: "/.", "/usr", "/usr/bin/x", …; bytes that aren't UTF-8 escaped
    conffiles: dict[str, str]  # path: MD5 of the file laid out
    held: tuple[bytes, ...] = ()  # the paths that wait in HOLD, directories with a slash at their end
    replaces: tuple[tuple[bytes, int], ...] = ()  # of them those that a required package ships, and its position


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
        self._needed_kib = sum(int(size) for size in sizes if size.isdigit())
        self._position = {(p.name, p.architecture): i for i, p in enumerate(lock.packages)}
        self._names = [package.name for package in lock.packages]
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
        self._tree = self._held = Tree(rootfd, mask, merged_usr=merged)
        if lock.base:
            os.mkdir(HOLD, 0o755, dir_fd=rootfd)
            hold = os.open(HOLD, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=rootfd)
            self._held = Tree(hold, mask, merged_usr=merged)

    def add(self, package: Package, deb: int) -> None:
        """Unpack one package from the descriptor of its .deb, which stays the caller's. Any thread may call.

        Raises Malformed for a package that breaks its format or would leave the root, CtkError for a full disk.
        """
        position = self._position[package.name, package.architecture]
        what = f"{package.name} {package.version}"
        tree = self._tree if position < self._required else self._held
        try:
            archive = Deb(deb, what)
            control = archive.control()
            installed = package.paragraph.get("Installed-Size", "")
            layout = Layout(tree, position, what, _conffiles(control), self._skips)
            copying = self._repacked.writing(package, archive) if self._repacked else contextlib.nullcontext()
            with contextlib.closing(layout), copying as copy:
                content = archive.data(int(installed) if installed.isdigit() else 0, copy)
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
        if self._held is not self._tree:
            self._held.finish_directories()
            os.close(self._held.rootfd)
        for alias in sorted(self._tree.aliases | self._held.aliases):
            with contextlib.suppress(FileExistsError):
                os.symlink(b"usr/" + alias, alias, dir_fd=rootfd)
        return [self._settled(self._unpacked[position]) for position in sorted(self._unpacked)]

    def _note(self, package: Package, position: int, control: dict[str, ControlFile], layout: Layout) -> None:
        unpacked = Unpacked(
            package,
            position,
            {name: file.data for name, file in control.items()},
            {name: (file.mode, file.mtime_s) for name, file in control.items()},
            tuple(path.decode("utf-8", "surrogateescape") for path in layout.listed),
            layout.digests,
            tuple(layout.placed) if position >= self._required else (),
        )
        with self._mutex:
            self._unpacked[position] = unpacked
            done = len(self._unpacked)
        self._emit(Progressed("unpack", done, self._total, "packages", package.name))

    def _settled(self, unpacked: Unpacked) -> Unpacked:
        """The package without the paths that it has lost to another one."""
        position = unpacked.position
        tree = self._tree if position < self._required else self._held
        lost = tree.lost.get(position)
        if lost:
            # dpkg(1), Multi-Arch: same: the architectures of one package share files, and each lists them.
            forgotten = {path for path in lost if self._names[tree.owner(path) or 0] != unpacked.package.name}
            names = {"/" + path.decode("utf-8", "surrogateescape") for path in forgotten}
            unpacked = replace(
                unpacked,
                files=tuple(path for path in unpacked.files if path not in names),
                held=tuple(path for path in unpacked.held if path not in lost),
            )
        if unpacked.held:
            replaced = ((path, self._tree.owner(path)) for path in unpacked.held)
            return replace(unpacked, replaces=tuple((path, owner) for path, owner in replaced if owner is not None))
        return unpacked

    def _failed(self, what: str, error: OSError) -> CtkError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            because = f"{os.strerror(error.errno).lower()} (the tree needs about {self._needed_kib >> 10} MiB)"
            return CtkError(f"unpack {what}", because=because, hint="free some space, or another target")
        name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
        return CtkError(f"unpack {what}", because=name + (error.strerror or str(error)).lower())


def _conffiles(control: dict[str, ControlFile]) -> frozenset[bytes]:
    """The paths that conffiles names, without their first slash (deb-conffiles(5))."""
    lines = control["conffiles"].data.split(b"\n") if "conffiles" in control else []
    return frozenset(line.split()[-1].lstrip(b"/") for line in lines if line.strip())
