"""A writable layer over the root (overlayfs): --ephemeral keeps it in memory, --overlay DIR in a folder.

With --lower the root consists of folders, such as the layers of an image; the bundle's own is only the mount point.

Everything is mounted in the container's own mount namespace, so nothing needs to be unmounted, however it ends, and the
rootfs is never written to. The layers are named by descriptors, so that no character of a path can look like an option.
"""

import errno
import os

from toolkit.errors import CtkError, HostLacks, InUse, NotFound, SystemCall, Usage, reason
from toolkit.kernel import mounts, ours
from toolkit.kernel.program.program import Cell
from toolkit.runtime.site import DIRECTORY, Words
from toolkit.runtime.steps import Step
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Spec
    from toolkit.runtime.options import Options
    from toolkit.runtime.site import Site
    from toolkit.runtime.steps import Description


def over(spec: "Spec", root: str, options: "Options") -> "LayOver":
    """The step for --ephemeral or --overlay; the latter's folders are made. Raises CtkError."""
    kinds = [entry["type"] for entry in (spec.get("linux") or {}).get("namespaces") or ()]
    option = "--overlay" if options.overlay else "--ephemeral"
    if "mount" not in kinds:
        raise Usage(
            f"put a writable layer over the root ({option})",
            because="the container has no mount namespace of its own",
            hint='add {"type": "mount"} to linux.namespaces',
        )
    folder = os.path.abspath(options.overlay) if options.overlay else ""
    lowers = tuple(os.path.abspath(one) for one in options.lower)
    for lower in lowers:
        if not os.path.isdir(lower):
            raise NotFound(f"make the root of {lower!r} (--lower)", because="there is no such folder")
    if folder:
        _make(folder, lowers[0] if lowers else root)
    return LayOver(folder, lowers, in_user_namespace="user" in kinds or _in_user_namespace())


def claim(folder: str, root: str, container_id: str) -> None:
    """Claim DIR for the container `container_id` of the records below `root`, from now until its end.

    Two overlays with the same upper layer are undefined behaviour (kernel, Documentation/filesystems/overlayfs.rst,
    "Sharing and copying layers"), but the kernel only warns. This process locks the folder as long as it lives; after
    that its link `container` names the record of its user. Raises InUse, CtkError.
    """
    import fcntl
    import time

    doing = f"keep the writable layer in {folder!r}"
    link = f"{folder}/container"
    deadline = time.monotonic() + _LEAVING_S
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # The holder of a container that has just ended may still be exiting; a new container sets the link.
                _check_free(folder, link, doing)
                if time.monotonic() > deadline:
                    raise InUse(doing, because="another container is using it", hint=_ANOTHER) from None
                time.sleep(0.02)
        _check_free(folder, link, doing)
    except OSError as error:
        raise CtkError(doing, because=reason(error)) from None
    try:
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(f"{os.path.abspath(root)}/{container_id}", link)
    except OSError as error:
        raise CtkError(doing, because=reason(error)) from None


def _check_free(folder: str, link: str, doing: str) -> None:
    """Raise InUse if the container that the link names is alive. Raises OSError."""
    from toolkit.runtime import lifecycle
    from toolkit.runtime import record as records

    if not os.path.islink(link):
        return
    try:
        owner = records.load(*os.path.split(os.readlink(link)))
    except (CtkError, OSError):
        return
    if owner.extra.get("layer") == folder and lifecycle.status(owner) != "stopped":
        raise InUse(doing, because=f"container {owner.id!r} is using it", hint=_ANOTHER)


def _in_user_namespace() -> bool:
    from toolkit.kernel.host import HostFacts

    return HostFacts().in_user_namespace


def _make(folder: str, root: str) -> None:
    """Make DIR with `upper` and `work` in it; `upper` has the root's owner and mode, because it becomes the `/`.

    Only its owner may enter DIR, because the container may make setuid files in it. And DIR must be ours: anybody else
    who can write to it could make the container write to any folder of the host, by a link. Raises NotOurs, CtkError.
    """
    like = os.stat(root)
    doing = f"keep the writable layer in {folder!r}"
    try:
        if os.path.islink(folder):
            raise ours.NotOurs(doing, because="it is a symbolic link", hint="name the folder itself")
        new = not os.path.exists(folder)
        fd = ours.open_folder(folder, doing, make=True, hint=_ANOTHER_FOLDER)
        try:
            strange = (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid())
            if new and strange:  # root of a user namespace must be able to pass
                os.chown(folder, -1, like.st_gid)
                os.chmod(folder, 0o710)
            for name in ("upper", "work"):
                try:
                    os.mkdir(name, 0o700, dir_fd=fd)
                except FileExistsError:
                    _check_folder(fd, name, like.st_uid, doing)
                    continue
                os.chmod(name, like.st_mode & 0o7777, dir_fd=fd)
                if strange:
                    os.chown(name, like.st_uid, like.st_gid, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise CtkError(doing, because=reason(error)) from None


def _check_folder(fd: int, name: str, uid: int, doing: str) -> None:
    """Raise NotOurs unless `name` is a folder of ours, of root's or of the container's root. Raises OSError."""
    there = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        status = os.fstat(there)
    finally:
        os.close(there)
    if status.st_mode & 0o170000 != 0o040000 or status.st_uid not in (0, os.geteuid(), uid):
        raise ours.NotOurs(doing, because=f"{name!r} in it is not a folder of ours", hint=_ANOTHER_FOLDER)


_LEAVING_S = 5.0
_MOST_OPTIONS = 4000  # mount(2) accepts one page of options
_ANOTHER_FOLDER = "name a folder of your own, or one that does not exist yet"
_ANOTHER = "stop that container first, or name another folder: two at once would corrupt it"


class LayOver(Step):
    """Mount an overlay on the root; `folder` keeps what is written, "" means a tmpfs that nobody else can reach.

    `lowers` are the folders below it, the topmost first; without any it is the root itself.
    """

    __slots__ = ("folder", "lowers", "user_attributes")

    def __init__(self, folder: str, lowers: "tuple[str, ...]" = (), *, in_user_namespace: bool) -> None:
        super().__init__()
        self.folder = folder
        self.lowers = lowers
        # Only the host's root may use trusted.* attributes, everybody user.* ones (overlayfs, Linux 5.11: userxattr).
        self.user_attributes = in_user_namespace

    def describe(self) -> "Description":
        folder = self.folder or "tmpfs"
        more = ",userxattr" if self.user_attributes else ""
        layers = f"lowerdir={':'.join(self.lowers) or 'root'},upperdir={folder}/upper,workdir={folder}/work{more}"
        first = "" if self.folder else "mount -t tmpfs tmpfs tmpfs && mkdir tmpfs/upper tmpfs/work && "
        return (
            f"put a writable layer over the root, kept in {self.folder or 'memory'}",
            f'mount("overlay", root, "overlay", 0, "{layers}")',
            f"{first}mount -t overlay overlay -o {quote(layers)} root",
        )

    def emit(self, p: "Program", site: "Site") -> None:
        lowers = [p.cell() for _ in self.lowers] or [p.cell()]
        layer = p.cell()
        size = 64 * (len(lowers) + 3)
        if size - 32 * (len(lowers) + 3) > _MOST_OPTIONS:
            because = f"{len(lowers)} folders are more than mount(2) can name"
            raise CtkError("make the root of its layers", because=because)
        p.owned_by(self._failed)
        for lower, fd in zip(self.lowers or (site.path,), lowers, strict=True):
            p.call("openat", mounts.AT_FDCWD, lower, DIRECTORY, 0, result=fd)
        if self.folder:
            p.call("openat", mounts.AT_FDCWD, self.folder, DIRECTORY, 0, result=layer)
        else:
            self._emit_in_memory(p, site, lowers[0], layer)
        words = Words(p, size)
        words.add("lowerdir=")
        for index, fd in enumerate(lowers):
            words.add(":" * bool(index) + "/proc/self/fd/", fd)
        words.add(",upperdir=/proc/self/fd/", layer)
        words.add("/upper,workdir=/proc/self/fd/", layer)
        words.add("/work" + ",userxattr" * self.user_attributes)
        p.call("mount", "overlay", site.path, "overlay", 0, words.address)
        for fd in (*lowers, layer):
            p.call("close", fd)
        p.owned_by(None)
        site.reopen()

    def _emit_in_memory(self, p: "Program", site: "Site", like: Cell, layer: Cell) -> None:
        p.call("mount", "tmpfs", site.path, "tmpfs", 0, "mode=700")
        p.call("openat", mounts.AT_FDCWD, site.path, DIRECTORY, 0, result=layer)
        site.stat(like)
        mode = p.cell()
        p.own("and", site.mode, 0o7777, result=mode)
        for name in ("upper", "work"):
            p.call("mkdirat", layer, name, 0o755)
            p.call("fchmodat", layer, name, mode)
            p.call("fchownat", layer, name, *site.owner, mounts.AT_SYMLINK_NOFOLLOW)

    def _failed(self, error: SystemCall) -> CtkError:
        return HostLacks("put a writable layer over the root", because=str(error), hint=_hint(error.errno, self.folder))


def _hint(number: int, folder: str) -> str:
    if number == errno.ENODEV:
        return "this kernel has no overlay file system: modprobe overlay"
    if number == errno.EPERM:
        return "overlayfs in a user namespace needs Linux 5.11"
    if number == errno.EINVAL and folder:
        return f"{folder!r} must be on a file system that can hold a writable layer (ext4, xfs, btrfs, tmpfs)"
    if number == errno.EINVAL:
        return "the rootfs may be on a file system that overlayfs does not support as its lower layer"
    return ""
