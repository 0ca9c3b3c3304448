"""The steps for the container's own cgroup: wait for it, unshare its namespace, mount /sys/fs/cgroup."""

import errno
import os

from toolkit.errors import LaunchFailed
from toolkit.kernel import beneath, mounts, namespaces
from toolkit.kernel.program.program import Cell, Label
from toolkit.runtime import conversation, mounting_program
from toolkit.runtime.mount_options import Options
from toolkit.runtime.site import CLONE, ONTO
from toolkit.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program
    from toolkit.runtime.site import Site
    from toolkit.runtime.steps import Description

_KEPT = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC | mounts.MS_RELATIME


class JoinCgroup(Step):
    """Wait until the parent has put us into our cgroup; only then make the cgroup namespace, which is rooted there."""

    __slots__ = ("unshare",)

    def __init__(self, unshare: bool) -> None:
        super().__init__("linux.cgroupsPath")
        self.unshare = unshare

    def describe(self) -> "Description":
        return (
            "join the container's cgroup" + (" and make it the root of a cgroup namespace" if self.unshare else ""),
            "unshare(CLONE_NEWCGROUP)" if self.unshare else 'write(open("…/tasks"), "0")',
            "",  # toolkit/explain/cgroups.py, which knows this host's cgroups
        )

    def emit(self, p: "Program", site: "Site") -> None:
        from toolkit.runtime import finish

        finish.hear(p, site.pipes[0], conversation.JOINED)
        if self.unshare:
            p.call("unshare", namespaces.CLONE_NEWCGROUP)


class MountCgroup(Step):
    """A mount of type cgroup: the container's own part of each cgroup hierarchy of the host."""

    __slots__ = ("destination", "in_namespace", "options")

    def __init__(self, index: int, destination: str, options: Options, in_namespace: bool) -> None:
        super().__init__(f"mounts[{index}]")
        self.destination = destination
        self.options = options
        self.in_namespace = in_namespace

    def describe(self) -> "Description":
        return (
            f"show the container its own cgroups at {self.destination}",
            f'mount("cgroup2", "{self.destination}", "cgroup2", …) or, on v1, one mount per controller on a tmpfs',
            "",
        )

    def emit(self, p: "Program", site: "Site") -> None:
        doing = f"mount cgroups at {self.destination!r} ({self.field})"
        p.owned_by(lambda error: LaunchFailed(doing, because=str(error)))
        target = p.cell()
        site.directories.make(self.destination, target)
        p.call("fchdir", target)
        if site.cgroup.unified:
            self._emit_unified(p, site, target)
        else:
            self._emit_per_controller(p, site)
        p.call("close", target)
        p.owned_by(None)

    def _emit_unified(self, p: "Program", site: "Site", target: Cell) -> None:
        flags = self.options.flags & ~mounts.MS_BIND
        refused, done = Label(), Label()
        # Without a cgroup namespace of its own the container sees the host's tree, as with runc and crun: so the
        # paths in /proc/PID/cgroup, where programs look for their limits (the JVM does), exist below the mount.
        on = ((errno.EPERM, refused), (errno.EBUSY, refused))
        p.call("mount", "cgroup", ".", "cgroup2", flags, ",".join(self.options.data) or 0, on=on)
        p.place(done)

        def bind() -> None:
            # We may not mount it (a user namespace without its own cgroup namespace, a masked /sys): bind it.
            p.place(refused)
            for _, _, host_path in site.cgroup.mounts():
                self._emit_bind(p, host_path, target)
            p.go(done)

        p.aside(bind)

    def _emit_per_controller(self, p: "Program", site: "Site") -> None:
        flags = (self.options.flags & _KEPT) | mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        p.call("mount", "tmpfs", ".", "tmpfs", flags, "mode=755,size=64k")
        top = p.cell()
        beneath.emit_open(p, site.root, self.destination, os.O_PATH | os.O_DIRECTORY, top)
        p.call("fchdir", top)  # a new file system: no name in it is anybody else's
        shown = set()
        for name, data, host_path in site.cgroup.mounts():
            shown.add(name)
            following = Label()
            if site.cgroup.rootless:
                # One that we were not allowed to make is left out.
                p.call("newfstatat", mounts.AT_FDCWD, host_path, site.status, 0, on=((0, following),))
            p.call("mkdirat", top, name, 0o755)
            if self.in_namespace and data:
                kind = "cgroup2" if data == "cgroup2" else "cgroup"
                wanted = 0 if data == "cgroup2" else data
                p.call("mount", "cgroup", name, kind, self.options.flags & ~mounts.MS_BIND, wanted)
            else:
                inside = p.cell()
                p.call("openat", top, name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, result=inside)
                self._emit_bind(p, host_path, inside)
                p.call("close", inside)
            p.place(following)
        for link, to in site.cgroup.mount_links():
            if to in shown:
                p.call("newfstatat", top, to, site.status, 0, on=((0, none := Label()),))
                p.call("symlinkat", to, top, link)
                p.place(none)
        if self.options.flags & mounts.MS_RDONLY:
            attributes = p.words(mounts.MOUNT_ATTR_RDONLY, 0, 0, 0)
            p.call("mount_setattr", top, "", mounts.AT_EMPTY_PATH, attributes, 32)
        p.call("close", top)

    def _emit_bind(self, p: "Program", host_path: str, target: Cell) -> None:
        tree = p.cell()
        p.call("open_tree", mounts.AT_FDCWD, host_path, CLONE | mounts.AT_RECURSIVE, result=tree)
        mounting_program.set_attributes(p, tree, *self.options.attributes())
        p.call("move_mount", tree, "", target, "", ONTO)
        p.call("close", tree)
