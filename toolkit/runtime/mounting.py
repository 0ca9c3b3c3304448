"""The steps that mount: each destination is opened inside the root first, and then mounted on by its fd.

An image can contain any symlink at a mount's destination. Opened with openat2(2) in the root it leads nowhere else, and
the mount goes on exactly what was opened (security.md: S10, S20, S21; CVE-2021-30465, CVE-2025-31133).
"""

import errno
import os
import stat as st

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason_and_path
from toolkit.kernel import beneath, mounts
from toolkit.runtime.mount_options import Options
from toolkit.runtime.steps import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.steps import Description

# Files of procfs that lxcfs and the like replace by their own. Any other mount on /proc could forge facts that the
# runtime or the container relies on (CVE-2019-16884, CVE-2019-19921).
_PROC_ALLOWED = frozenset(
    "/proc/" + name
    for name in (
        "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo sys/kernel/ns_last_pid sys/crypto/fips_enabled"
    ).split()
)


class Mount(Step):
    """One entry of `mounts`, of any type except cgroup."""

    __slots__ = ("destination", "fstype", "index", "mapping", "options", "source")

    def __init__(self, index: int, source: str, destination: str, fstype: str, options: Options) -> None:
        super().__init__(f"mounts[{index}]")
        self.index = index
        self.source = source
        self.destination = destination
        self.fstype = fstype
        self.options = options
        # (fd of a user namespace, AT_RECURSIVE or 0): the id mapping that is still to be set on the source.
        self.mapping: "tuple[int, int] | None" = None

    @property
    def is_bind(self) -> bool:
        """Whether it is a bind mount, by an option or, as engines write it, by its type."""
        return bool(self.options.flags & mounts.MS_BIND) or self.fstype == "bind"

    @property
    def read_only_at_the_end(self) -> bool:
        """Whether it is a read-only tmpfs, which is written to (other mount points, devices) before it becomes so."""
        return self.fstype == "tmpfs" and bool(self.options.flags & mounts.MS_RDONLY) and not self.is_bind

    def describe(self) -> "Description":
        from toolkit.runtime import mount_telling

        return mount_telling.describe(self)

    def apply(self, stage: Stage) -> None:
        try:
            if self.is_bind:
                self._bind(stage)
            else:
                self._new(stage)
        except CtkError as error:
            raise self._explained(str(error), getattr(error, "errno", 0)) from None
        except OSError as error:
            raise self._explained(reason_and_path(error), error.errno or 0) from None

    def _explained(self, because: str, number: int) -> LaunchFailed:
        hint = ""
        if self.is_bind and number == errno.ENOENT and not os.path.lexists(self.source):
            because = f"source {self.source!r}: no such file or directory"
            hint = "make it first, or correct `source`"
        elif self.mapping and "mount_setattr(" in because:
            hint = "its file system must support idmapped mounts (ext4, xfs, btrfs, tmpfs: see mount_setattr(2))"
        elif self.is_bind and number in (errno.EINVAL, errno.ENOTDIR) and os.path.exists(self.source):
            kind = "a folder" if os.path.isdir(self.source) else "a file"
            hint = f"{self.source!r} is {kind}, {self.destination!r} in the root is not: both must be of the same kind"
        elif number == errno.ENODEV:
            hint = f"this kernel has no file system {self.fstype!r} (see /proc/filesystems)"
        elif number == errno.EPERM and "locked flags" in because:
            hint = "in a user namespace a mount keeps the flags that it has on the host: leave those options out"
        elif number == errno.EPERM and self.fstype == "proc":
            hint = (
                "a user namespace can mount a procfs only if no part of the outer one is covered: in a container that "
                "masks parts of it, unmask them (podman run --security-opt unmask=ALL …), or bind it (-v /proc:/proc)"
            )
        elif number == errno.EPERM and self.fstype == "sysfs":
            hint = "a user namespace can mount sysfs only with a network namespace of its own"
        elif number == errno.EINVAL and (option := _unmapped(self.options.data)):
            hint = f"{option!r} names an id that the container's user namespace does not have: leave it out, or map it"
        elif number == errno.EROFS:
            hint = f"{self.destination!r} does not exist and the root is read-only: make it in the rootfs first"
        return LaunchFailed(f"mount {self.source!r} at {self.destination!r} ({self.field})", because=because, hint=hint)

    def _new(self, stage: Stage) -> None:
        data = ",".join(self.options.data)
        if self.fstype in ("proc", "sysfs"):
            fd = _plain_directory(stage, self.destination, self.fstype)
        else:
            there = _exists(stage, self.destination)
            fd = self._target(stage, directory=True)
            if self.fstype == "tmpfs" and "mode=" not in data and there:
                # A folder that is mounted over keeps its mode, as with runc: a /tmp stays 1777. A new one gets tmpfs's
                # default, 1777.
                mode = os.fstat(fd).st_mode & 0o7777
                data = f"{data},mode={mode:o}" if data else f"mode={mode:o}"
        try:
            if self.fstype not in ("proc", "sysfs"):
                self._refuse_proc(stage, fd, -1)
            if "tmpcopyup" in self.options.extensions:
                self._copied_up(fd, data)
            else:
                flags = self.options.flags & ~mounts.MS_RDONLY if self.read_only_at_the_end else self.options.flags
                try:
                    mounts.mount(self.source, beneath.fd_path(fd), self.fstype or None, flags, data)
                except SystemCall as error:
                    self._mount_otherwise(stage, fd, data, error)
        finally:
            os.close(fd)
        self._after(stage)

    def _mount_otherwise(self, stage: Stage, fd: int, data: str, error: SystemCall) -> None:
        """Make a mount that mount(2) refuses in another way, if there is one. Raises `error` otherwise."""
        set_, clear = self.options.attributes()
        if error.errno == errno.EBUSY:
            # Two mounts of one mqueue (or proc, sysfs) at the same place: only mount(2) refuses that.
            tree = mounts.new_filesystem(self.fstype, _settings(data))
            recursive = 0
        elif error.errno == errno.EPERM and self.fstype == "sysfs" and stage.has_user_namespace:
            # A new sysfs shows the devices of a network namespace, which the user namespace must own (kernel,
            # sysfs_init_fs_context). The host's sysfs has the same contents; crun falls back to it, too.
            recursive = mounts.AT_RECURSIVE
            tree = mounts.open_tree(
                mounts.AT_FDCWD, "/sys", mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | recursive
            )
            clear = 0  # locked flags stay (mount_namespaces(7))
        else:
            raise error
        try:
            if set_ or clear:
                mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH | recursive, set_, clear)
            mounts.move_mount(tree, "", fd, "", mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH)
            if recursive:
                # The container must not see the host's cgroups.
                shield = mounts.new_filesystem("tmpfs", {"mode": "755"}, set_ or mounts.MOUNT_ATTR_RDONLY)
                place = os.open("fs/cgroup", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=tree)
                mounts.move_mount(
                    shield, "", place, "", mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH
                )
                os.close(shield)
                os.close(place)
        finally:
            os.close(tree)

    def _copied_up(self, fd: int, data: str) -> None:
        """tmpcopyup: the new tmpfs starts with the image's files at that place."""
        from toolkit.runtime import copy_up

        tmpfs = mounts.new_filesystem("tmpfs", _settings(data))
        try:
            source = os.open(beneath.fd_path(fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                copy_up.copy_directory(source, tmpfs)
                if not {"uid", "gid"} & _settings(data).keys():
                    copy_up.copy_owner(source, tmpfs)
            finally:
                os.close(source)
            set_, clear = self.options.attributes()
            if set_ or clear:
                mounts.mount_setattr(tmpfs, "", mounts.AT_EMPTY_PATH, set_, clear)
            mounts.move_mount(tmpfs, "", fd, "", mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH)
        finally:
            os.close(tmpfs)

    def _bind(self, stage: Stage) -> None:
        if "copy-symlink" in self.options.extensions and os.path.islink(self.source):
            self._copy_symlink(stage)
            return
        tree = stage.sources.pop(self.index, -1)
        if tree < 0 and stage.opener is not None:
            tree = stage.opener.open(self.index)
        mapped = tree >= 0
        if tree < 0:
            tree = self.open_source()
        try:
            if self.mapping and not mapped:
                holder, recursive = self.mapping
                mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH | recursive, mounts.MOUNT_ATTR_IDMAP, 0, 0, holder)
            mode = os.stat(tree).st_mode
            self._set_flags(tree)
            fd = self._target(stage, directory=st.S_ISDIR(mode))
            try:
                self._refuse_proc(stage, fd, tree)
                if st.S_ISDIR(mode) != st.S_ISDIR(os.fstat(fd).st_mode):
                    # The error of mount(2); move_mount(2) fails with EINVAL. Docker adds a hint to these words.
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                mounts.move_mount(tree, "", fd, "", mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH)
            finally:
                os.close(fd)
            self._finish(tree, default=mounts.MS_PRIVATE | mounts.MS_REC)
        finally:
            os.close(tree)
        if self.destination.strip("/") in ("", "."):
            stage.reopen()

    def _set_flags(self, tree: int) -> None:
        """Set the mount's flags by its options. Raises SystemCall; PermissionError where the kernel has locked them."""
        set_, clear = self.options.of_a_bind()
        if not set_ and not clear:
            return
        try:
            mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, set_, clear)
        except SystemCall as error:
            if error.errno != errno.EPERM:
                raise
            set_, clear, refused = self.options.beside_locked(os.fstatvfs(tree).f_flag)
            if "ro" in refused and _read_only_by_its_file_system(tree):
                refused.remove("ro")
            if refused:
                words = f"cannot clear locked flags: {', '.join(refused)}: {os.strerror(errno.EPERM)}"
                raise PermissionError(errno.EPERM, words) from None
            if set_ or clear:
                mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, set_, clear)

    def open_source(self) -> int:
        """A detached copy of the mount to bind. Raises SystemCall."""
        flags = mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC
        if self.options.flags & mounts.MS_REC:
            flags |= mounts.AT_RECURSIVE
        if "src-nofollow" in self.options.extensions:
            flags |= mounts.AT_SYMLINK_NOFOLLOW
        return mounts.open_tree(mounts.AT_FDCWD, self.source, flags)

    def _copy_symlink(self, stage: Stage) -> None:
        """copy-symlink (crun's): a source that is a symbolic link is copied into the root instead of being followed."""
        target = os.readlink(self.source)
        folder, _, name = self.destination.rstrip("/").rpartition("/")
        fd = beneath.make_directories(stage.root_fd, folder or "/", 0o755)
        try:
            os.symlink(target, name, dir_fd=fd)
        except FileExistsError:
            if os.readlink(name, dir_fd=fd) != target:
                raise
        finally:
            os.close(fd)

    def _target(self, stage: Stage, *, directory: bool) -> int:
        if "dest-nofollow" in self.options.extensions:
            return beneath.openat2(
                stage.root_fd, self.destination.lstrip("/"), os.O_PATH | os.O_NOFOLLOW, 0, beneath.RESOLVE_IN_ROOT
            )
        make = beneath.make_directories if directory else beneath.make_file
        return make(stage.root_fd, self.destination, 0o755)

    def _after(self, stage: Stage) -> None:
        if self.destination.strip("/") in ("", "."):
            stage.reopen()
        wanted = self.options.propagation or self.options.recursive_set or self.options.recursive_cleared
        if not wanted:
            return
        fd = beneath.open_beneath(stage.root_fd, self.destination, os.O_PATH)
        try:
            self._finish(fd, default=0)
        finally:
            os.close(fd)

    def _finish(self, fd: int, default: int) -> None:
        """Propagation and recursive attributes, on the mount that `fd` is the root of."""
        for flags in self.options.propagation or ([default] if default else []):
            recursive = mounts.AT_RECURSIVE if flags & mounts.MS_REC else 0
            mounts.mount_setattr(fd, "", mounts.AT_EMPTY_PATH | recursive, propagation=flags & ~mounts.MS_REC)
        set_, clear = self.options.recursive_set, self.options.recursive_cleared
        if set_ & mounts.MOUNT_ATTR__ATIME or clear & mounts.MOUNT_ATTR__ATIME:
            clear |= mounts.MOUNT_ATTR__ATIME
        if set_ or clear:
            mounts.mount_setattr(fd, "", mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE, set_, clear)

    def _refuse_proc(self, stage: Stage, fd: int, tree: int) -> None:
        """Refuse a mount on /proc that is not a procfs, and one below it except on files that are known to be harmless.

        `tree` is the bind mount's source, -1 for a new file system.
        """
        inside = path_inside(stage, fd)
        if inside == "/proc":
            if tree < 0 or mounts.fstatfs_type(tree) != mounts.PROC_SUPER_MAGIC:
                raise LaunchFailed(
                    f"mount {self.source!r} at '/proc'",
                    because="it is not a procfs",
                    hint='mount one with "type": "proc"',
                )
        elif inside.startswith("/proc/") and inside not in _PROC_ALLOWED:
            raise LaunchFailed(
                f"mount {self.source!r} at {inside!r}",
                because="a mount inside /proc could forge what the kernel reports",
                hint="allowed: " + ", ".join(sorted(_PROC_ALLOWED)),
            )


class FinishReadOnly(Step):
    """Make a tmpfs read-only once everything is in it."""

    __slots__ = ("destination",)

    def __init__(self, field: str, destination: str) -> None:
        super().__init__(field)
        self.destination = destination

    def describe(self) -> "Description":
        from toolkit.runtime.shell_words import in_root

        return (
            f"make {self.destination} read-only",
            f'mount_setattr(root, "{self.destination}", 0, {{attr_set=MOUNT_ATTR_RDONLY}}, 32)',
            f"mount -o remount,bind,ro {in_root(self.destination)}",
        )

    def apply(self, stage: Stage) -> None:
        fd = beneath.open_beneath(stage.root_fd, self.destination, os.O_PATH)
        try:
            mounts.mount_setattr(fd, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
        finally:
            os.close(fd)


def _read_only_by_its_file_system(tree: int) -> bool:
    """Whether the file system is read-only and not the mount. Then `rw` may be set on the mount, without effect."""
    try:
        mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, 0, mounts.MOUNT_ATTR_RDONLY)
    except SystemCall:
        return False
    if os.fstatvfs(tree).f_flag & os.ST_RDONLY:
        return True
    mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
    return False


def path_inside(stage: Stage, fd: int) -> str:
    """The path of `fd` inside the root."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    root = os.readlink(f"/proc/self/fd/{stage.root_fd}")
    return path[len(root.rstrip("/")) :] or "/"


def _exists(stage: Stage, path: str) -> bool:
    try:
        os.close(beneath.open_beneath(stage.root_fd, path, os.O_PATH))
    except SystemCall:
        return False
    return True


def _plain_directory(stage: Stage, path: str, fstype: str) -> int:
    """Open the destination of /proc or /sys, which must be a directory of the root and not a symlink."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    for attempt in (0, 1):
        try:
            return beneath.openat2(
                stage.root_fd, path.lstrip("/"), flags, 0, beneath.RESOLVE_IN_ROOT | beneath.RESOLVE_NO_SYMLINKS
            )
        except SystemCall as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise LaunchFailed(
                    f"mount {fstype} at {path!r}", because="filesystem must be mounted on ordinary directory"
                ) from None
            if error.errno != errno.ENOENT or attempt:
                raise
        os.close(beneath.make_directories(stage.root_fd, path))
    raise AssertionError("unreachable")


def _settings(data: str) -> "dict[str, str]":
    """The options of a new file system one by one; a comma inside quotes (an SELinux context) separates nothing."""
    settings: "dict[str, str]" = {}
    key = ""
    for number, part in enumerate(data.split('"')):
        if number % 2:
            settings[key] = part
            continue
        for word in part.split(","):
            key, _, value = word.partition("=")
            if key:
                settings[key] = value
    return settings


def _unmapped(data: "list[str]") -> str:
    """The file system option that names an id outside of this process's user namespace; "" if there is none."""
    for option in data:
        kind, _, number = option.partition("=")
        if kind in ("uid", "gid") and number.isascii() and number.isdigit():
            try:
                with open(f"/proc/self/{kind}_map", "rb") as file:
                    lines = [[int(word) for word in line.split()] for line in file]
            except OSError:
                return ""
            if not any(0 <= int(number) - first < count for first, _, count in lines):
                return option
    return ""
