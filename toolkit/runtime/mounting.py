"""The steps that mount: each destination is opened inside the root first, and then mounted on by its fd.

An image can contain any symlink at a mount's destination. Opened with openat2(2) in the root it leads nowhere else, and
the mount goes on exactly what was opened (security.md: S10, S20, S21; CVE-2021-30465, CVE-2025-31133).
"""

import errno
import os

from toolkit.errors import LaunchFailed
from toolkit.kernel import mounts
from toolkit.runtime import mounting_program
from toolkit.runtime.mount_options import Options
from toolkit.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import IDMapping
    from toolkit.runtime.site import Site
    from toolkit.runtime.steps import Description


class Mount(Step):
    """One entry of `mounts`, of any type except cgroup."""

    __slots__ = ("destination", "fstype", "ids", "index", "mapping", "options", "source")

    def __init__(self, index: int, source: str, destination: str, fstype: str, options: Options) -> None:
        super().__init__(f"mounts[{index}]")
        self.index = index
        self.source = source
        self.destination = destination
        self.fstype = fstype
        self.options = options
        # (fd of a user namespace, AT_RECURSIVE or 0): the id mapping that is still to be set on the source.
        self.mapping: "tuple[int, int] | None" = None
        self.ids: "Mapping[str, Sequence[IDMapping]]" = {}  # "uid" and "gid": the maps of a new user namespace

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

    def emit(self, p: "Program", site: "Site") -> None:
        mounting_program.emit(self, p, site)

    def explained(self, because: str, number: int) -> LaunchFailed:
        """The error for a mount that failed with the errno `number`, with what helps."""
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
        elif number == errno.EINVAL and (option := _unmapped(self.options.data, self.ids)):
            hint = f"{option!r} names an id that the container's user namespace does not have: leave it out, or map it"
        elif number == errno.EROFS:
            hint = f"{self.destination!r} does not exist and the root is read-only: make it in the rootfs first"
        return LaunchFailed(f"mount {self.source!r} at {self.destination!r} ({self.field})", because=because, hint=hint)

    def open_source(self) -> int:
        """A detached copy of the mount to bind. Raises SystemCall."""
        flags = mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC
        if self.options.flags & mounts.MS_REC:
            flags |= mounts.AT_RECURSIVE
        if "src-nofollow" in self.options.extensions:
            flags |= mounts.AT_SYMLINK_NOFOLLOW
        return mounts.open_tree(mounts.AT_FDCWD, self.source, flags)


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

    def emit(self, p: "Program", site: "Site") -> None:
        mounting_program.emit_read_only(self, p, site)


def _unmapped(data: "list[str]", ids: "Mapping[str, Sequence[IDMapping]]") -> str:
    """The file system option that names an id outside of the user namespace with these maps; "" if there is none."""
    for option in data:
        kind, _, number = option.partition("=")
        if kind not in ids or not (number.isascii() and number.isdigit()):
            continue
        if not any(0 <= int(number) - each["containerID"] < each["size"] for each in ids[kind]):
            return option
    return ""
