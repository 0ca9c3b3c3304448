"""The steps at the two ends of a launch plan: the root becomes a mount of its own; later it becomes `/`."""

import errno
import os

from toolkit import preload
from toolkit.errors import LaunchFailed
from toolkit.kernel import mountinfo, mounts, namespaces, roots
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime.site import DIRECTORY
from toolkit.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.site import Site
    from toolkit.runtime.steps import Description

_STATX_INO = 0x100


class PrepareRoot(Step):
    """Detach the mount tree from the host's propagation, and make the root a mount point."""

    __slots__ = ("flags", "path")

    def __init__(self, path: str, flags: int, field: str) -> None:
        super().__init__(field)
        self.path = path
        self.flags = flags

    def describe(self) -> "Description":
        from toolkit.runtime import shell_words

        return (
            "keep later mounts out of the host's mount tree and make the root a mount of its own",
            f'mount(NULL, "/", NULL, {mounts.flag_names(self.flags)}, NULL); '
            f'mount("{self.path}", "{self.path}", NULL, MS_BIND|MS_REC, NULL)',
            f'mount {shell_words.propagation(self.flags)} /\nmount --rbind "$root" "$root"',
        )

    def emit(self, p: "Program", site: "Site") -> None:
        _leave_chroot(p, site, self.flags)
        p.when("if_equal", site.in_chroot, 1, done := Label())
        p.call("mount", 0, "/", 0, self.flags, 0)
        p.place(done)
        if self.flags & mounts.MS_SHARED:
            # pivot_root(2): neither the new root's parent mount nor the old root may be shared. It is the mount of the
            # nearest folder that is a mount point.
            private, folder = Label(), self.path
            while folder != "/":
                p.call("mount", 0, folder, 0, mounts.MS_PRIVATE, 0, on=((errno.EINVAL, up := Label()),))
                p.go(private)
                p.place(up)
                folder = os.path.dirname(folder)
            p.call("mount", 0, "/", 0, mounts.MS_PRIVATE, 0)
            p.place(private)
        p.owned_by(lambda error: LaunchFailed(f"use {self.path!r} as the root", because=str(error), hint=error.hint))
        p.call("mount", self.path, self.path, 0, mounts.MS_BIND | mounts.MS_REC, 0)
        p.call("openat", mounts.AT_FDCWD, self.path, DIRECTORY, 0, result=site.root)
        p.owned_by(None)
        if self.flags & mounts.MS_SHARED:
            p.call("mount", 0, self.path, 0, mounts.MS_PRIVATE, 0)


class OpenRoot(Step):
    """Open the root as it is, if nothing is mounted."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("root.path")

    def describe(self) -> "Description":
        return ("open the root", "open(root, O_PATH|O_DIRECTORY)", 'cd "$root"')

    def emit(self, p: "Program", site: "Site") -> None:
        p.call("openat", mounts.AT_FDCWD, site.path, DIRECTORY, 0, result=site.root)


def _leave_chroot(p: "Program", site: "Site", flags: int) -> None:
    """Find out whether our `/` is the root of the mount namespace (roots.py); in a chroot, set `flags` there as well.

    Afterwards we are where we were; site.in_chroot remembers.
    """
    space, root, folder, now, same = (p.cell() for _ in range(5))
    was, found = p.room(256), p.room(256)  # struct statx
    apart, there, back, searched = Label(), Label(), Label(), Label()
    p.call("openat", mounts.AT_FDCWD, "/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, 0, result=space)
    p.call("openat", mounts.AT_FDCWD, "/", DIRECTORY, 0, result=root)
    p.call("openat", mounts.AT_FDCWD, ".", DIRECTORY, 0, result=folder, on=((0, searched),))
    p.place(searched)
    # EPERM: without CAP_SYS_CHROOT nothing that we start can leave it either.
    p.call("setns", space, namespaces.CLONE_NEWNS, on=((errno.EPERM, there),))
    p.call("openat", mounts.AT_FDCWD, "/", DIRECTORY, 0, result=now)
    for fd, status in ((root, was), (now, found)):
        p.call("statx", fd, "", mounts.AT_EMPTY_PATH, mounts.STATX_MNT_ID | _STATX_INO, status)
    p.call("close", now)
    p.own("same", was + 136, found + 136, 16, result=same)  # stx_dev_major, stx_dev_minor, stx_mnt_id
    p.when("if_equal", same, 0, apart)
    p.own("same", was + 32, found + 32, 8, result=same)  # stx_ino
    p.when("if_equal", same, 0, apart)
    p.place(back)
    p.when("if_less", 1 << 32, folder, there)  # we may not search it
    p.call("fchdir", folder)
    p.call("close", folder)
    p.place(there)
    p.call("close", root)
    p.call("close", space)

    def come_back() -> None:
        p.place(apart)
        p.own("set", 1, result=site.in_chroot)
        p.call("mount", 0, "/", 0, flags, 0)
        p.call("fchdir", root)
        p.call("chroot", ".")
        # The same for the chroot's own mounts, in case something is mounted over the namespace's root. EINVAL: the
        # chroot is a folder of a mount that is already done.
        p.call("mount", 0, "/", 0, flags, 0, on=((errno.EINVAL, back),))
        p.go(back)

    p.aside(come_back)


def _leave_again(p: "Program", chroot: Label, here: Label) -> None:
    """Leave the chroot that we are in for good.

    What follows replaces `/`, which must be the root of the mount namespace: a process that enters the container by
    setns(2), or has CAP_SYS_ADMIN in it, gets there, and in a chroot that would be the host's.
    """
    space = p.cell()
    p.place(chroot)
    p.call("openat", mounts.AT_FDCWD, "/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, 0, result=space)
    p.call("setns", space, namespaces.CLONE_NEWNS)
    p.call("close", space)
    p.go(here)


class EnterRoot(Step):
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
        here, chroot = Label(), Label()
        p.when("if_equal", site.in_chroot, 1, chroot)
        p.place(here)
        p.aside(lambda: _leave_again(p, chroot, here))
        p.call("fchdir", site.root)
        if self.mode == "pivot":
            old = p.cell()
            p.call("openat", mounts.AT_FDCWD, "/", DIRECTORY, 0, result=old)
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
                _move(p, site)
            p.call("chroot", ".")
        p.call("chdir", "/")
        p.call("close", site.root)


def _move(p: "Program", site: "Site") -> None:
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

    By a child, which sees the mount namespace as the container's process will, from its root. Raises LaunchFailed.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "-it died"
        try:
            preload.leave_files()
            os.chdir(plan.root)
            for kind, path in plan.joins:
                if kind == "mount":
                    namespaces.setns(os.open(path, os.O_RDONLY | os.O_CLOEXEC), namespaces.CLONE_NEWNS)
                    os.chdir(plan.root)
            former = roots.leave_chroot()
            if former is not None:
                os.fchdir(former[1])  # the root, which has another path out here
            told = "+" + "\0".join(_host_views())
        except Exception as error:
            told = f"-{error}"
        finally:
            os.write(writing, told.encode("utf-8", "surrogateescape"))
            os._exit(0)
    os.close(writing)
    raw = b""
    while more := os.read(reading, 1 << 16):
        raw += more
    os.close(reading)
    os.waitpid(pid, 0)
    text = raw.decode("utf-8", "surrogateescape")
    if not text.startswith("+"):
        # Without them the host's procfs would stay in the container's sight.
        raise LaunchFailed("find what of the host is mounted (--no-pivot)", because=text[1:] or "its child died")
    return text[1:].split("\0") if len(text) > 1 else []


def _host_views() -> "list[str]":
    """Mount points of procfs and sysfs outside the new root: after MS_MOVE they would still be reachable."""
    here = os.getcwd()
    found = []
    for _, _, _, point, _, kind, _, _ in mountinfo.mounts(mountinfo.read()):
        if kind in ("proc", "sysfs") and not (point + "/").startswith(here + "/"):
            found.append(point)
    return sorted(found, key=len, reverse=True)


class SetRootPropagation(Step):
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


class MakeRootReadOnly(Step):
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
