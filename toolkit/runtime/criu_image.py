"""External mounts of a container, which a checkpoint must list besides CRIU's own images.

CRIU restores a container's own mounts by itself (proc, sysfs, tmpfs with its files, devpts, mqueue). It needs a list of
the mounts that show part of a file system which the container does not have as a whole: bind mounts from the host,
cgroup v1 folders, a masked file. Each gets a name at the dump, and at the restore a source for that name.
"""

import os

from toolkit.errors import SystemCall
from toolkit.kernel import beneath, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.oci.types import Mount, Spec

    # (mount point as the container sees it, root within its file system, major:minor, type)
    MountLine = tuple[str, str, str, str]

# File systems that CRIU restores by itself (criu/filesystems.c).
_MADE_AGAIN = frozenset(
    (
        "proc sysfs tmpfs devpts mqueue cgroup cgroup2 binfmt_misc securityfs debugfs tracefs pstore configfs fusectl"
    ).split()
)


def read_mounts(text: str) -> "list[MountLine]":
    """The mounts of a /proc/PID/mountinfo (proc(5)), without the root."""
    return [
        (point, root, device, kind) for _, device, root, point, _, kind, _, _ in mountinfo.mounts(text) if point != "/"
    ]


def bound_points(pid: int, text: str, spec: "Spec") -> "set[str]":
    """The real mount points of the spec's bind mounts: a destination may be a link, or lead through one."""
    by_id = {number: point for number, _, _, point, *_ in mountinfo.mounts(text)}
    found = set()
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mount in spec.get("mounts") or ():
            if is_bind(mount):
                try:
                    fd = beneath.open_beneath(root, mount["destination"], os.O_PATH)
                except SystemCall:  # unmounted since, and its mount point is gone
                    continue
                found.add(by_id.get(_mount_id(f"/proc/self/fdinfo/{fd}"), point_of(mount)))
                os.close(fd)
    finally:
        os.close(root)
    return found


def _mount_id(fdinfo: str) -> str:
    with open(fdinfo) as info:
        return next(line.split()[1] for line in info if line.startswith("mnt_id:"))


def external_mounts(mounts: "list[MountLine]", bound: "set[str]") -> "list[str]":
    """The external mount points for CRIU, in mount order; `bound` are those of the spec's bind mounts."""
    found = []
    for point, root, device, fstype in mounts:
        if point in bound:
            found.append(point)
        elif root == "/":
            if fstype not in _MADE_AGAIN:
                found.append(point)
        elif not any(
            other_device == device and other_point not in bound and _within(root, other_root) and other_root != root
            for other_point, other_root, other_device, _ in mounts
        ):
            found.append(point)
    return list(dict.fromkeys(found))


def point_of(mount: "Mount") -> str:
    """The mount point of a mount of the spec, as mountinfo writes it."""
    destination: str = mount["destination"]
    return os.path.normpath("/" + destination.lstrip("/"))


def is_bind(mount: "Mount") -> bool:
    """Whether this mount of the spec is a bind mount, by its type or by an option."""
    options = mount.get("options") or ()
    return mount.get("type") == "bind" or "bind" in options or "rbind" in options


def _within(path: str, folder: str) -> bool:
    return folder == "/" or path == folder or path.startswith(folder + "/")


def sources(spec: "Spec", bundle: str, cgroup_mounts: "dict[str, str]", places: "dict[str, str]") -> "dict[str, str]":
    """The source of each external mount for a restore, by mount point: binds of the spec, cgroup folders, masks.

    `places` maps a bind's destination that is, or leads through, a link to its real mount point.
    """
    found = {}
    for mount in spec.get("mounts") or ():
        if is_bind(mount):
            point = places.get(mount["destination"]) or point_of(mount)
            found[point] = os.path.join(bundle, mount.get("source") or "")
    found |= cgroup_mounts
    for path in (spec.get("linux") or {}).get("maskedPaths") or ():
        found.setdefault(path, "/dev/null")
    for device in (spec.get("linux") or {}).get("devices") or ():
        found.setdefault(device["path"], device["path"])
    return found


NULL = -1


def streams(pid: int, text: str) -> "tuple[list[str], dict[str, int]]":
    """The standard streams ("pipe:[123]", a path, or "" if closed), and CRIU's names for those that are host files.

    A host file is open through a mount that the container does not have: {"file[1a:2b]": the stream's number, or NULL
    for /dev/null}. Raises OSError.
    """
    inside = {mount[0] for mount in mountinfo.mounts(text)}
    names = []
    files: dict[str, int] = {}
    for fd in range(3):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            os.stat(f"/proc/{pid}/fd")  # the process has closed it; if the process has ended, this raises
            path = ""
        names.append(path)
        if path.startswith("/"):
            mount = _mount_id(f"/proc/{pid}/fdinfo/{fd}")
            if mount not in inside:
                key = f"file[{int(mount):x}:{os.stat(f'/proc/{pid}/fd/{fd}').st_ino:x}]"
                files.setdefault(key, NULL if path == "/dev/null" else fd)
    return names, files
