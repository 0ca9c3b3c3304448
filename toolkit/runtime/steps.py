"""The steps of a launch plan other than mounts and devices: names, sysctls, the move into the new root.

Of each step, `field` is the JSON path that asked for it, `describe()` describes it in words, as system calls and as
shell lines, and `apply(stage)` does it. Only `apply` touches the machine. Steps run in the child, in order, before it
drops its privileges; those before `EnterRoot` still see the host's /proc, which the container cannot forge.
"""

import errno
import os

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason
from toolkit.kernel import beneath, mountinfo, mounts, process, roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.oci.types import Hook
    from toolkit.runtime.cgroups import Manager
    from toolkit.runtime.cgroups.files import Entry
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.opener import Opener

    Description = tuple[str, str, str]


class Stage:
    """The state that the steps work on: the root being set up, and the child's connection to its parent."""

    __slots__ = (
        "cgroup", "conversation", "device_nodes", "entry", "has_user_namespace", "in_chroot", "opener", "root",
        "root_fd", "sources",
    )  # fmt: skip

    def __init__(self, root: str, conversation: "Conversation", cgroup: "Manager", userns: bool) -> None:
        self.root = root  # host path of the root file system
        self.root_fd = -1  # O_PATH; everything below the root is reached through it
        self.conversation = conversation
        self.cgroup = cgroup
        self.entry: "Entry | None" = None  # by which the child joins its cgroups; else the parent puts it there
        self.has_user_namespace = userns
        self.in_chroot = False  # our `/` is not the root of the mount namespace
        self.device_nodes = -1  # a detached mount with the nodes that a user namespace may not make (devices.py)
        self.sources: "dict[int, int]" = {}  # index in `mounts`: a detached mount that the parent opened for us
        self.opener: "Opener | None" = None  # opens those that the container's root may not

    def reopen(self) -> None:
        """Open the root again after something was mounted over it."""
        fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.root_fd >= 0:
            os.close(self.root_fd)
        self.root_fd = fd


class Step:
    """One step; `field` is the JSON path in config.json that asked for it, "" if ctk itself did."""

    __slots__ = ("field",)

    def __init__(self, field: str = "") -> None:
        self.field = field

    def describe(self) -> "Description":
        """(a sentence, the system calls in strace's notation, shell lines that do the same; `$root` is the root)."""
        raise NotImplementedError

    def apply(self, stage: Stage) -> None:
        """Do it. Raises CtkError."""
        raise NotImplementedError


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

    def apply(self, stage: Stage) -> None:
        former = roots.leave_chroot()
        mounts.mount(None, "/", None, self.flags)
        if former is not None:
            stage.in_chroot = True
            roots.come_back(former)
            self._again_here()
        if self.flags & mounts.MS_SHARED:
            # pivot_root(2): neither the new root's parent mount nor the old root may be shared.
            mounts.mount(None, _mount_point(self.path), None, mounts.MS_PRIVATE)
        try:
            mounts.mount(self.path, self.path, None, mounts.MS_BIND | mounts.MS_REC)
            stage.reopen()
        except SystemCall as error:
            raise LaunchFailed(f"use {self.path!r} as the root", because=str(error), hint=error.hint) from None
        if self.flags & mounts.MS_SHARED:
            mounts.mount(None, self.path, None, mounts.MS_PRIVATE)

    def _again_here(self) -> None:
        """The same for the chroot's own mounts, in case something is mounted over the namespace's root."""
        try:
            mounts.mount(None, "/", None, self.flags)
        except SystemCall as error:
            if error.errno != errno.EINVAL:  # the chroot is a folder of a mount that is already done
                raise


class OpenRoot(Step):
    """Open the root as it is, if nothing is mounted."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("root.path")

    def describe(self) -> "Description":
        return ("open the root", "open(root, O_PATH|O_DIRECTORY)", 'cd "$root"')

    def apply(self, stage: Stage) -> None:
        stage.reopen()


def _mount_point(path: str) -> str:
    """The mount point that contains `path`, by mountinfo (proc(5)): the longest one that is a parent of it."""
    best = "/"
    for mount in mountinfo.mounts(mountinfo.read()):
        point = mount[3]
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) > len(best):
            best = point
    return best


class AwaitHooks(Step):
    """Let the parent run the hooks that need to see the finished root from the host."""

    __slots__ = ("container_hooks", "state")

    def __init__(self, container_hooks: "Sequence[Hook]") -> None:
        super().__init__("hooks")
        self.container_hooks = container_hooks

    def describe(self) -> "Description":
        return ("run the hooks prestart, createRuntime and createContainer", "execve(hook.path, …)", "")

    def apply(self, stage: Stage) -> None:
        from toolkit.runtime import conversation, hooks

        stage.conversation.say(conversation.MOUNTED)
        stage.conversation.hear(conversation.HOOKED)
        if self.container_hooks:
            # The host's procfs is still mounted: its `self` is our pid on the host.
            assert hooks.state_of is not None
            if hooks.start_in_root:
                os.fchdir(stage.root_fd)
            hooks.run("createContainer", self.container_hooks, hooks.state_of(int(os.readlink("/proc/self"))))


class SetNames(Step):
    """sethostname(2) and setdomainname(2)."""

    __slots__ = ("domainname", "hostname")

    def __init__(self, hostname: str, domainname: str) -> None:
        super().__init__("hostname" if hostname else "domainname")
        self.hostname = hostname
        self.domainname = domainname

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import put

        calls, lines = [], []
        for name, value in (("hostname", self.hostname), ("domainname", self.domainname)):
            if value:
                calls.append(f'set{name}("{value}", {len(value.encode())})')
                lines.append(f"{put(value)} > /proc/sys/kernel/{name}")
        return ("name the machine", "; ".join(calls), "\n".join(lines))

    def apply(self, stage: Stage) -> None:
        if self.hostname:
            process.sethostname(self.hostname)
        if self.domainname:
            process.setdomainname(self.domainname)


class SetSysctl(Step):
    """Set a kernel parameter of the container's own namespaces (sysctl(8))."""

    __slots__ = ("key", "value")

    def __init__(self, key: str, value: str) -> None:
        super().__init__(f"linux.sysctl.{key}")
        self.key = key
        self.value = value

    def path(self) -> str:
        """The file of the key; a `/` in a key is a literal dot, as in sysctl(8)."""
        if "/" in self.key and self.key.find("/") < (self.key.find(".") if "." in self.key else len(self.key)):
            return "/proc/sys/" + self.key
        return "/proc/sys/" + self.key.replace(".", "\0").replace("/", ".").replace("\0", "/")

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import put
        from toolkit.text import quote as word

        return (
            f"set {self.key}",
            f'write(open("{self.path()}", O_WRONLY), "{self.value}", {len(self.value.encode())})',
            f"{put(self.value)} > {word(self.path())}",
        )

    def apply(self, stage: Stage) -> None:
        # The host's procfs shows this process's namespaces: what counts is which process opens it, not the mount.
        try:
            if ".." in self.path().split("/"):
                raise OSError(errno.EINVAL, "invalid argument")
            fd = self._open()
            try:
                os.write(fd, self.value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise LaunchFailed(f"set sysctl {self.key!r} to {self.value!r}", because=reason(error)) from None

    def _open(self) -> int:
        try:
            return os.open(self.path(), os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # The host's procfs may not show it (systemd's ProcSubset=pid): use a procfs of our own.
            try:
                proc = mounts.new_filesystem("proc", {})
            except (OSError, SystemCall):
                raise OSError(errno.ENOENT, "no such file or directory") from None
            try:
                return os.open(self.path().removeprefix("/proc/"), os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
            finally:
                os.close(proc)


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

    def apply(self, stage: Stage) -> None:
        if stage.in_chroot:
            # Both ways below replace `/`, which must be the root of the mount namespace: a process that enters the
            # container by setns(2), or has CAP_SYS_ADMIN in it, gets there, and in a chroot that would be the host's.
            roots.leave_chroot()
        os.fchdir(stage.root_fd)
        if self.mode == "pivot":
            old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            # pivot_root(".", ".") stacks the old root on the new one, so it needs no directory (pivot_root(2)).
            mounts.pivot_root(".", ".")
            # The lazy unmount must not propagate to the host through a shared mount. Use the old root's descriptor: `.`
            # is still the new root, whose own shared mounts must stay shared.
            os.fchdir(old)
            os.close(old)
            mounts.mount(None, ".", None, mounts.MS_SLAVE | mounts.MS_REC)
            mounts.umount2(".", mounts.MNT_DETACH)
        elif self.mode == "move":
            for point in _host_views():
                try:
                    mounts.mount(None, point, None, mounts.MS_SLAVE | mounts.MS_REC)
                    mounts.umount2(point, mounts.MNT_DETACH)
                except CtkError:
                    # We may not unmount it (a locked mount of the host): cover it, as pivot_root would have hidden it.
                    mounts.mount("tmpfs", point, "tmpfs", 0)
            mounts.mount(".", "/", None, mounts.MS_MOVE)
            os.chroot(".")
        else:
            os.chroot(".")
        os.chdir("/")


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

    def apply(self, stage: Stage) -> None:
        mounts.mount(None, "/", None, self.flags)


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

    def apply(self, stage: Stage) -> None:
        fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.mount_setattr(fd, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
        except SystemCall as error:
            if error.errno != errno.ENOSYS:  # before Linux 5.12 a remount of the bind mount does it (quirk 1)
                raise
            flags = mounts.MS_BIND | mounts.MS_REMOUNT | mounts.MS_RDONLY
            mounts.mount(None, "/", None, flags | os.statvfs("/").f_flag & 0xE)
        finally:
            os.close(fd)


class MakeWorkingDirectory(Step):
    """Make process.cwd if it is missing, as root, before we become the container's user."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        super().__init__("process.cwd")
        self.path = path

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import in_root

        return ("make the working directory", f'mkdirat(root, "{self.path}", 0755)', f"mkdir -p {in_root(self.path)}")

    def apply(self, stage: Stage) -> None:
        try:
            os.close(beneath.make_directories(stage.root_fd, self.path))
        except (OSError, SystemCall) as error:
            if getattr(error, "errno", 0) == errno.EROFS:  # it may exist anyway, or be inside a mount
                return
            raise LaunchFailed(f"make the working directory {self.path!r}", because=str(error)) from None
