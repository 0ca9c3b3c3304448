"""The steps at the end of a launch plan: the new root becomes `/`, with its propagation, and read-only."""

import errno
import os

from toolkit.kernel import mountinfo, mounts, namespaces, roots
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime.steps import EmittedStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.steps import Description, Site


class EnterRoot(EmittedStep):
    """pivot_root(2) into the new root and unmount the host's tree."""

    __slots__ = ("mode",)

    def __init__(self, mode: str) -> None:
        super().__init__("root.path")
        self.mode = mode  # "pivot", "move" (--no-pivot) or "chroot" (no mount namespace of its own)

    def describe(self) -> "Description":
        if self.mode == "pivot":
            return (
                "make the new root `/` and unmount the host's tree",
                'pivot_root(".", "."); umount2(".", MNT_DETACH)',
                'cd "$root" && pivot_root . . && umount -l .',
            )
        if self.mode == "move":
            line = 'cd "$root" && mount --move . / && chroot .'
            return ("make the new root `/`", 'mount(".", "/", NULL, MS_MOVE, NULL); chroot(".")', line)
        return ("make the new root `/`", 'fchdir(root); chroot(".")', 'chroot "$root"')

    def emit(self, p: "Program", site: "Site") -> None:
        p.call("fchdir", site.root)
        if self.mode == "pivot":
            old = p.cell()
            p.call("openat", mounts.AT_FDCWD, "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, result=old)
            # pivot_root(".", ".") stacks the old root on the new one, so it needs no directory (pivot_root(2)).
            p.call("pivot_root", ".", ".")
            # The lazy unmount must not propagate to the host through a shared mount. Use the old root's descriptor: `.`
            # is still the new root, whose own shared mounts must stay shared.
            p.call("fchdir", old)
            p.call("close", old)
            p.call("mount", 0, ".", 0, mounts.MS_SLAVE | mounts.MS_REC, 0)
            p.call("umount2", ".", mounts.MNT_DETACH)
        else:
            if self.mode == "move":
                self._move(p, site)
            p.call("chroot", ".")
        p.call("chdir", "/")

    def _move(self, p: "Program", site: "Site") -> None:
        for point in site.host_views:
            cover, done = Label(), Label()
            p.call("mount", 0, point, 0, mounts.MS_SLAVE | mounts.MS_REC, 0, on=((0, cover),))
            p.call("umount2", point, mounts.MNT_DETACH, on=((0, cover),))
            p.go(done)
            # We may not unmount it (a locked mount of the host): cover it, as pivot_root would have hidden it.
            p.place(cover)
            p.call("mount", "tmpfs", point, "tmpfs", 0, 0)
            p.place(done)
        p.call("mount", ".", "/", 0, mounts.MS_MOVE, 0)


def host_views(plan: "LaunchPlan") -> "list[str]":
    """Mount points of procfs and sysfs outside the new root: after MS_MOVE they would still be reachable.

    By a child, which sees the mount namespace as the container's process will, from its root. Raises OSError.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(plan.root)
            for kind, path in plan.joins:
                if kind == "mount":
                    namespaces.setns(os.open(path, os.O_RDONLY | os.O_CLOEXEC), namespaces.CLONE_NEWNS)
                    os.chdir(plan.root)
            roots.leave_chroot()
            here = os.getcwd()
            found = [
                point
                for _, _, _, point, _, kind, _, _ in mountinfo.mounts(mountinfo.read())
                if kind in ("proc", "sysfs") and not (point + "/").startswith(here + "/")
            ]
            os.write(writing, "\0".join(sorted(found, key=len, reverse=True)).encode("utf-8", "surrogateescape"))
        finally:
            os._exit(0)
    os.close(writing)
    text = b""
    while more := os.read(reading, 1 << 16):
        text += more
    os.close(reading)
    os.waitpid(pid, 0)
    return text.decode("utf-8", "surrogateescape").split("\0") if text else []


class SetRootPropagation(EmittedStep):
    """linux.rootfsPropagation, once the root is `/`."""

    __slots__ = ("flags",)

    def __init__(self, flags: int) -> None:
        super().__init__("linux.rootfsPropagation")
        self.flags = flags

    def describe(self) -> "Description":
        from toolkit.runtime import shell_words

        return (
            "set the mount propagation of the root",
            f'mount(NULL, "/", NULL, {mounts.flag_names(self.flags)}, NULL)',
            f"mount {shell_words.propagation(self.flags)} /",
        )

    def emit(self, p: "Program", site: "Site") -> None:
        p.call("mount", 0, "/", 0, self.flags, 0)


class MakeRootReadOnly(EmittedStep):
    """root.readonly."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("root.readonly")

    def describe(self) -> "Description":
        return (
            "make the root read-only",
            'mount_setattr(AT_FDCWD, "/", 0, {attr_set=MOUNT_ATTR_RDONLY}, 32)',
            "mount -o remount,bind,ro /",
        )

    def emit(self, p: "Program", site: "Site") -> None:
        older, done = Label(), Label()
        attributes = p.words(mounts.MOUNT_ATTR_RDONLY, 0, 0, 0)
        p.call("mount_setattr", mounts.AT_FDCWD, "/", 0, attributes, 32, on=((errno.ENOSYS, older),))
        p.go(done)
        # Before Linux 5.12 a remount of the bind mount does it, which must repeat nosuid, nodev and noexec (quirk 1).
        p.place(older)
        status, flags = p.room(128), p.cell()  # struct statfs: f_flags is its eleventh word
        p.call("statfs", "/", status)
        p.own("and", Cell(status - MEMORY + 80), 0xE, result=flags)
        p.own("add", flags, mounts.MS_BIND | mounts.MS_REMOUNT | mounts.MS_RDONLY, result=flags)
        p.call("mount", 0, "/", 0, flags, 0)
        p.place(done)
