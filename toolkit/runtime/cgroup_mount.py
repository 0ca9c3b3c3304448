"""The steps for the container's own cgroup: wait for it, unshare its namespace, mount /sys/fs/cgroup."""

import errno
import os

from toolkit.errors import LaunchFailed, SystemCall, reason
from toolkit.kernel import beneath, mounts, namespaces
from toolkit.runtime import conversation
from toolkit.runtime.mount_options import Options
from toolkit.runtime.steps import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.steps import Description

_ONTO = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH
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

    def apply(self, stage: Stage) -> None:
        stage.conversation.hear(conversation.JOINED)
        if self.unshare:
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)


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

    def apply(self, stage: Stage) -> None:
        try:
            target = beneath.make_directories(stage.root_fd, self.destination)
            try:
                if stage.cgroup.unified:
                    self._unified(stage, target)
                else:
                    self._per_controller(stage, target)
            finally:
                os.close(target)
        except SystemCall as error:
            raise LaunchFailed(f"mount cgroups at {self.destination!r} ({self.field})", because=str(error)) from None
        except OSError as error:
            because = reason(error)
            raise LaunchFailed(f"mount cgroups at {self.destination!r} ({self.field})", because=because) from None

    def _unified(self, stage: Stage, target: int) -> None:
        flags = self.options.flags & ~mounts.MS_BIND
        data = ",".join(self.options.data)
        try:
            # Without a cgroup namespace of its own the container sees the host's tree, as with runc and crun: so the
            # paths in /proc/PID/cgroup, where programs look for their limits (the JVM does), exist below the mount.
            mounts.mount("cgroup", beneath.fd_path(target), "cgroup2", flags, data)
            return
        except SystemCall as error:
            # We may not mount it (a user namespace without its own cgroup namespace, a masked /sys): bind it.
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
        for _, _, host_path in stage.cgroup.mounts():
            self._bind(host_path, target)

    def _per_controller(self, stage: Stage, target: int) -> None:
        flags = (self.options.flags & _KEPT) | mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        mounts.mount("tmpfs", beneath.fd_path(target), "tmpfs", flags, "mode=755,size=64k")
        base = self.destination.rstrip("/")
        top = beneath.open_beneath(stage.root_fd, self.destination, os.O_PATH | os.O_DIRECTORY)
        try:
            shown = set()
            for name, data, host_path in stage.cgroup.mounts():
                # Rootless, a cgroup that the parent was not allowed to make is left out; our older copy of the list
                # still names it.
                if stage.cgroup.rootless and not os.path.isdir(host_path):
                    continue
                shown.add(name)
                os.mkdir(name, 0o755, dir_fd=top)
                inside = beneath.open_beneath(stage.root_fd, f"{base}/{name}", os.O_PATH | os.O_DIRECTORY)
                try:
                    if self.in_namespace and data:
                        kind = "cgroup2" if data == "cgroup2" else "cgroup"
                        wanted = "" if data == "cgroup2" else data
                        mounts.mount(
                            "cgroup", beneath.fd_path(inside), kind, self.options.flags & ~mounts.MS_BIND, wanted
                        )
                    else:
                        self._bind(host_path, inside)
                finally:
                    os.close(inside)
            for link, to in stage.cgroup.mount_links():
                if to in shown:
                    os.symlink(to, link, dir_fd=top)
            if self.options.flags & mounts.MS_RDONLY:
                mounts.mount_setattr(top, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
        finally:
            os.close(top)

    def _bind(self, host_path: str, target: int) -> None:
        tree = mounts.open_tree(
            mounts.AT_FDCWD, host_path, mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | mounts.AT_RECURSIVE
        )
        try:
            set_, clear = self.options.attributes()
            if set_ or clear:
                mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, set_, clear)
            mounts.move_mount(tree, "", target, "", _ONTO)
        finally:
            os.close(tree)
