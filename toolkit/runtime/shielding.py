"""The steps for linux.maskedPaths and linux.readonlyPaths."""

import errno
import os
import stat as st

from toolkit.errors import CtkError, LaunchFailed, SystemCall
from toolkit.kernel import beneath, mounts
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime.site import CLONE, ONTO
from toolkit.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.kernel.program.program import Program
    from toolkit.runtime.site import Site
    from toolkit.runtime.steps import Description


_MAKE_NULL = "on the host: mknod -m 666 /dev/null c 1 3"


_NOT_NULL = 4096  # failures of ours, beside the errnos
_HOSTS, _CONTAINERS = "the host", "the container (the host has none)"


def _open_null(p: "Program", site: "Site", fd: Cell) -> None:
    """Open the null device (O_PATH), verified by its device number (CVE-2025-31133).

    It is the host's; if the host has none, that of the container's root, which an earlier step has made.
    """
    status = p.room(structures.STAT_SIZE)
    mode_at, _, rdev_at = structures.stat(p.machine)
    kind, elsewhere, opened = p.cell(), Label(), Label()
    whose = p.cell()
    p.own("set", _NOT_NULL, result=whose)
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    p.call("openat", mounts.AT_FDCWD, "/dev/null", flags, 0, result=fd, on=((errno.ENOENT, elsewhere),))
    p.go(opened)
    p.place(elsewhere)
    p.own("set", _NOT_NULL + 1, result=whose)
    p.owned_by(
        lambda error: LaunchFailed(
            "mask paths", because=f"no /dev/null on the host, nor in the container: {error}", hint=_MAKE_NULL
        )
    )
    beneath.emit_open(p, site.root, "/dev/null", os.O_PATH | os.O_NOFOLLOW, fd)
    p.place(opened)
    p.owned_by(
        lambda error: LaunchFailed(
            "mask paths",
            because=f"'/dev/null' of {(_HOSTS, _CONTAINERS)[error.errno - _NOT_NULL]} is not the null device (1:3)"
            if error.errno >= _NOT_NULL
            else str(error),
            hint=_MAKE_NULL,
        )
    )
    wrong, right = Label(), Label()
    p.call("newfstatat", fd, "", status, mounts.AT_EMPTY_PATH)
    p.own("and", Cell(status - MEMORY + mode_at, 4), 0o170000, result=kind)
    p.when("if_equal", kind, st.S_IFCHR, device := Label())
    p.place(wrong)
    p.own("fail", whose)
    p.place(device)
    p.when("if_equal", Cell(status - MEMORY + rdev_at), os.makedev(1, 3), right)
    p.go(wrong)
    p.place(right)
    p.owned_by(None)


def _cover(p: "Program", source: "Cell", target: "Cell", tree: Cell) -> None:
    """Bind what `source` is open on, on what `target` is open on."""
    p.call("open_tree", source, "", CLONE | mounts.AT_EMPTY_PATH,
           result=tree)  # fmt: skip
    p.call("move_mount", tree, "", target, "", ONTO)
    p.call("close", tree)


class Mask(Step):
    """linux.maskedPaths: masked files read as empty, masked directories are empty and read-only."""

    __slots__ = ("paths",)

    def __init__(self, paths: "Sequence[str]") -> None:
        super().__init__("linux.maskedPaths")
        self.paths = paths

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import each_in_root

        lines = (
            'if [ -d "$path" ]; then mount -t tmpfs -o ro,nr_blocks=1,nr_inodes=1 tmpfs "$path"',
            'elif [ -e "$path" ]; then mount --bind /dev/null "$path"; fi',
        )
        return (
            f"hide {', '.join(self.paths)}",
            'mount("/dev/null", FILE, NULL, MS_BIND, NULL); '
            'mount("tmpfs", FOLDER, "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1")',
            each_in_root(self.paths, lines),
        )

    def emit(self, p: "Program", site: "Site") -> None:
        null, empty, fd, tree, kind = (p.cell() for _ in range(5))
        status = p.room(structures.STAT_SIZE)
        mode_at, _, _ = structures.stat(p.machine)
        _open_null(p, site, null)
        p.own("set", -1, result=empty)
        for path in self.paths:

            def failed(error: SystemCall, path: str = path) -> CtkError:
                return LaunchFailed(f"mask {path!r}", because=str(error))

            following, close, folder, first = Label(), Label(), Label(), Label()
            # Only a path that does not exist needs no mask.
            missing = ((errno.ENOENT, following), (errno.ENOTDIR, following))
            p.owned_by(None)
            beneath.emit_open(p, site.root, path, os.O_PATH, fd, on=missing)
            p.owned_by(failed)
            p.call("newfstatat", fd, "", status, mounts.AT_EMPTY_PATH)
            p.own("and", Cell(status - MEMORY + mode_at, 4), 0o170000, result=kind)
            p.when("if_equal", kind, st.S_IFDIR, folder)
            _cover(p, null, fd, tree)
            p.go(close)
            p.place(folder)
            # All directories share one empty tmpfs: a bind mount is cheaper than another file system.
            p.when("if_equal", empty, -1, first)
            _cover(p, empty, fd, tree)
            p.go(close)
            p.place(first)
            p.call("fchdir", fd)
            p.call("mount", "tmpfs", ".", "tmpfs", mounts.MS_RDONLY, "nr_blocks=1,nr_inodes=1")
            beneath.emit_open(p, site.root, path, os.O_PATH, empty)
            p.place(close)
            p.call("close", fd)
            p.place(following)
        p.owned_by(None)
        p.call("close", null)
        p.call("close", empty, on=((errno.EBADF, none := Label()),))
        p.place(none)


class MakeReadOnly(Step):
    """linux.readonlyPaths."""

    __slots__ = ("paths",)

    def __init__(self, paths: "Sequence[str]") -> None:
        super().__init__("linux.readonlyPaths")
        self.paths = paths

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import each_in_root

        lines = (
            '[ -e "$path" ] || continue',
            'mount --rbind "$path" "$path"',
            'mount -o remount,bind,ro "$path"',
        )
        return (
            f"make {', '.join(self.paths)} read-only",
            'tree = open_tree(root, PATH, OPEN_TREE_CLONE|AT_RECURSIVE); mount_setattr(tree, "", AT_EMPTY_PATH, '
            '{attr_set=MOUNT_ATTR_RDONLY}, 32); move_mount(tree, "", root, PATH, …)',
            each_in_root(self.paths, lines),
        )

    def emit(self, p: "Program", site: "Site") -> None:
        fd, tree = p.cell(), p.cell()
        clone = CLONE | mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE
        attributes = p.words(mounts.MOUNT_ATTR_RDONLY, 0, 0, 0)
        for path in self.paths:

            def failed(error: SystemCall, path: str = path) -> CtkError:
                return LaunchFailed(f"make {path!r} read-only", because=str(error))

            following = Label()
            missing = ((errno.ENOENT, following), (errno.ENOTDIR, following))
            beneath.emit_open(p, site.root, path, os.O_PATH, fd, on=missing)
            p.owned_by(failed)
            p.call("open_tree", fd, "", clone, result=tree)
            p.call("mount_setattr", tree, "", mounts.AT_EMPTY_PATH, attributes, 32)
            p.call("move_mount", tree, "", fd, "", ONTO)
            p.call("close", tree)
            p.call("close", fd)
            p.owned_by(None)
            p.place(following)
