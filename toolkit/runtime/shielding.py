"""The steps for linux.maskedPaths and linux.readonlyPaths."""

import errno
import os
import stat as st

from toolkit.errors import LaunchFailed, SystemCall
from toolkit.kernel import beneath, mounts
from toolkit.runtime.steps import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime.steps import Description

_ONTO = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH

_MAKE_NULL = "on the host: mknod -m 666 /dev/null c 1 3"


def open_null(root_fd: int) -> int:
    """The null device (O_PATH), verified by its device number (CVE-2025-31133). Raises LaunchFailed.

    It is the host's; if the host has none, that of the container's root, which an earlier step has made.
    """
    whose = "the host"
    try:
        fd = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        whose = "the container (the host has none)"
        try:
            fd = beneath.open_beneath(root_fd, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
        except SystemCall as error:
            raise LaunchFailed(
                "mask paths", because=f"no /dev/null on the host, nor in the container: {error}", hint=_MAKE_NULL
            ) from None
    status = os.fstat(fd)
    if not st.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        os.close(fd)
        raise LaunchFailed(
            "mask paths", because=f"'/dev/null' of {whose} is not the null device (1:3)", hint=_MAKE_NULL
        )
    return fd


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

    def apply(self, stage: Stage) -> None:
        null = open_null(stage.root_fd)
        source = beneath.fd_path(null)
        empty = -1
        try:
            for path in self.paths:
                try:
                    fd = beneath.open_beneath(stage.root_fd, path, os.O_PATH)
                except SystemCall as error:
                    # Only a path that does not exist needs no mask.
                    if error.errno in (errno.ENOENT, errno.ENOTDIR):
                        continue
                    raise
                try:
                    if not st.S_ISDIR(os.fstat(fd).st_mode):
                        mounts.mount(source, beneath.fd_path(fd), None, mounts.MS_BIND)
                    elif empty < 0:
                        mounts.mount("tmpfs", beneath.fd_path(fd), "tmpfs", mounts.MS_RDONLY, "nr_blocks=1,nr_inodes=1")
                        # All directories share one empty tmpfs: a bind mount is cheaper than another file system.
                        empty = beneath.open_beneath(stage.root_fd, path, os.O_PATH)
                    else:
                        mounts.mount(beneath.fd_path(empty), beneath.fd_path(fd), None, mounts.MS_BIND)
                except SystemCall as error:
                    raise LaunchFailed(f"mask {path!r}", because=str(error)) from None
                finally:
                    os.close(fd)
        finally:
            os.close(null)
            if empty >= 0:
                os.close(empty)


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

    def apply(self, stage: Stage) -> None:
        for path in self.paths:
            try:
                fd = beneath.open_beneath(stage.root_fd, path, os.O_PATH)
            except SystemCall as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    continue
                raise
            try:
                tree = mounts.open_tree(
                    fd,
                    "",
                    mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | mounts.AT_EMPTY_PATH | mounts.AT_RECURSIVE,
                )
                try:
                    mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
                    mounts.move_mount(tree, "", fd, "", _ONTO)
                finally:
                    os.close(tree)
            except SystemCall as error:
                raise LaunchFailed(f"make {path!r} read-only", because=str(error)) from None
            finally:
                os.close(fd)
