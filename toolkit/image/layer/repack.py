"""What a root has over the layers that it was unpacked from, as the members of one more layer.

Kinds, owners, modes, attributes and contents are compared, as `ctk image diff` does; a time alone is no change. Folders
above a change are members too: a layer that is laid out by itself would make up their owner and mode.

Source: image-spec 1.1, layer.md, "Representing Changes".
"""

import os
from collections.abc import Iterator

from toolkit.archive import walk
from toolkit.archive.entries import BLOCK, CHARACTER, DIRECTORY, FILE, Entry, of_file
from toolkit.archive.epoch import clamped
from toolkit.errors import CtkError, reason_and_path
from toolkit.image.layer.contents import Root
from toolkit.image.layer.names import WHITEOUT, join
from toolkit.image.layer.write import check_mounts, fit

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def changes(
    rootfd: int,
    base: Root,
    doing: str,
    *,
    devices: bool,
    mount_points: frozenset[bytes] = frozenset(),
    latest_s: int | None = None,
) -> Iterator[Entry]:
    """The members of a layer with what the tree `rootfd` has over `base`; none if nothing has changed.

    `devices`: device nodes were unpacked, so that a missing one was removed. `mount_points` are paths without a slash
    before them; empty ones that `base` lacks were made by the runtime, and are left out. Times later than `latest_s`
    are set to it. Nothing must change meanwhile. Raises CtkError, which begins with `doing`.
    """
    check_mounts(rootfd, doing)
    try:
        yield from _Changes(rootfd, base, doing, devices, mount_points, latest_s).members()
    except OSError as error:
        raise CtkError(doing, because=reason_and_path(error)) from None


class _Changes:
    def __init__(
        self,
        rootfd: int,
        base: Root,
        doing: str,
        devices: bool,
        mount_points: frozenset[bytes],
        latest_s: int | None,
    ) -> None:
        self._rootfd = rootfd
        self._base = base
        self._doing = doing
        self._devices = devices
        self._mount_points = mount_points
        self._latest_s = latest_s
        self._names: dict[tuple[int, int], bytes] = {}  # of changed files: only these are in the layer
        self._above: list[Entry] = []  # folders on the way to where we are that are not members yet

    def members(self) -> Iterator[Entry]:
        root = of_file(b"", os.fstat(self._rootfd))
        assert root is not None
        root.xattrs = walk.xattrs(f"/proc/self/fd/{self._rootfd}/.")
        self._above.append(root)
        yield from self._inside(self._rootfd, b"", known=True)

    def _inside(self, fd: int, path: bytes, *, known: bool) -> Iterator[Entry]:
        """What has changed in the folder `path`; `known`: it is one in the base."""
        walk.check_depth(path)
        there = sorted(map(os.fsencode, os.listdir(fd)))
        if known:
            yield from self._removed(fd, path, set(there))
        for name in there:
            entry = walk.entry_at(fd, name, join(path, name), {})
            if entry is None:
                continue
            if entry.kind == DIRECTORY:
                yield from self._folder(fd, name, entry)
            elif not self._is_mount_point(entry) and not self._base.has(entry, walk.read(self._rootfd, entry)):
                changed = walk.entry_at(fd, name, entry.name, self._names)  # maybe a hard link to another changed one
                yield from self._with_folders(changed or entry)

    def _removed(self, fd: int, path: bytes, there: set[bytes]) -> Iterator[Entry]:
        for name, kind in self._base.inside(path):
            if name in there or (kind in (CHARACTER, BLOCK) and not self._devices):
                continue
            entry = Entry(join(path, WHITEOUT + name), FILE, 0)
            entry.mode = 0o600
            entry.mtime_ns = os.fstat(fd).st_mtime_ns
            yield from self._with_folders(entry, white=True)

    def _folder(self, fd: int, name: bytes, entry: Entry) -> Iterator[Entry]:
        inner = os.open(name, _FOLDER, dir_fd=fd)
        try:
            if self._base.has(entry, ()) or self._is_mount_point(entry):
                self._above.append(entry)
            else:
                yield from self._with_folders(entry)
            yield from self._inside(inner, entry.name, known=self._base.kind_of(entry.name) == DIRECTORY)
            if self._above and self._above[-1] is entry:
                self._above.pop()
        finally:
            os.close(inner)

    def _is_mount_point(self, entry: Entry) -> bool:
        """Whether the runtime has made it to mount something on. A folder is empty if nothing in it is a member."""
        if entry.name not in self._mount_points or self._base.kind_of(entry.name):
            return False
        return entry.kind == DIRECTORY or (entry.kind == FILE and not entry.size_bytes)

    def _with_folders(self, entry: Entry, *, white: bool = False) -> Iterator[Entry]:
        """The member, and before it the folders above that are none yet."""
        folders, self._above = self._above, []
        for folder in folders:
            yield clamped(fit(folder, self._doing), self._latest_s)
        yield clamped(entry if white else fit(entry, self._doing), self._latest_s)
