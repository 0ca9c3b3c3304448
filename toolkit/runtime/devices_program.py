"""What the steps that fill /dev write into a program."""

import errno
import os
import stat as st

from toolkit.errors import LaunchFailed, SystemCall
from toolkit.kernel import beneath, mounts
from toolkit.kernel.program.program import Cell, Label
from toolkit.kernel.program.routine import Routine
from toolkit.runtime.site import CLONE, ONTO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Owner, Program
    from toolkit.oci.types import Device
    from toolkit.runtime.devices import MakeDevices
    from toolkit.runtime.site import Site

# Failures of ours, beside the errnos.
_IS_A_LINK, _OTHER_NUMBERS = 4096, 1000


def emit(step: "MakeDevices", p: "Program", site: "Site", kinds: "dict[str, int]") -> None:
    """Emit the default devices and linux.devices; `kinds`: the file type of each type of device."""
    done = Label()
    _find_whose(p, site)
    p.when("if_equal", site.hosts_dev, 1, done)
    if not step.mounted:
        _refuse_symlink(p, site)
    if site.nodes >= 0:
        # A node can be bound only from a mount of our own tree (before Linux 6.15). On top of the root the tmpfs does
        # no harm: we open everything below `root`, which is the root under it.
        p.call("move_mount", site.nodes, "", site.root, "", ONTO)
    otherwise = _Otherwise(p, site)
    folders: "dict[str, Cell]" = {}
    for index, device in enumerate(step.devices):
        folder, _, name = os.path.normpath("/" + device["path"].lstrip("/")).rpartition("/")
        if folder not in folders:
            folders[folder] = p.cell()
            p.owned_by(_owner(f"make devices in {folder or '/'!r}"))
            site.directories.make(folder or "/", folders[folder])
        p.owned_by(_owner(f"make device {device['path']!r}"))
        if site.userns:
            otherwise.bind(folders[folder], name, device, kinds[device["type"]], index)
        else:
            _make(p, folders[folder], name, device, kinds[device["type"]], otherwise)
    p.owned_by(None)
    for fd in folders.values():
        p.call("close", fd)
    if site.nodes >= 0:
        p.call("umount2", f"/proc/self/fd/{site.nodes}", mounts.MNT_DETACH)
        p.call("close", site.nodes)
    p.place(done)


def _owner(doing: str) -> "Owner":
    def failed(error: SystemCall) -> LaunchFailed:
        because = error.because
        if error.errno == _OTHER_NUMBERS:
            because = "mknod is not permitted here, and the host's node has different numbers"
        return LaunchFailed(doing, because=because)

    return failed


def _make(p: "Program", folder: Cell, name: str, device: "Device", kind: int, otherwise: "_Otherwise") -> None:
    mode = device.get("fileMode")
    mode = 0o666 if mode is None else mode & 0o7777
    number = os.makedev(device.get("major", 0), device.get("minor", 0)) if kind != st.S_IFIFO else 0
    other, made, bound, result = Label(), Label(), Label(), p.cell()
    on = ((errno.EEXIST, other), (errno.EPERM, other))
    p.call("mknodat", folder, name, kind | mode, number, result=result, on=on)
    p.place(made)
    owner = (device.get("uid") or 0, device.get("gid") or 0)
    if owner != (0, 0):
        p.call("fchownat", folder, name, *owner, mounts.AT_SYMLINK_NOFOLLOW)
    p.place(bound)

    def call() -> None:
        p.place(other)
        otherwise.call(folder, name, device["path"], kind, mode, number, result, made, bound)

    p.aside(call)


class _Otherwise:
    """What is done about a node that mknod(2) did not make: it is there already, or we may not (no CAP_MKNOD)."""

    def __init__(self, p: "Program", site: "Site") -> None:
        self.p = p
        self.site = site
        self.folder, self.result, self.bound = p.cell(), p.cell(), p.cell()
        self.routine = Routine(p, 6, self._write)

    def call(self, folder: Cell, name: str, path: str, kind: int, mode: int, number: int, result: Cell, made: Label,
             bound: Label) -> None:  # fmt: skip
        p = self.p
        p.own("set", folder, result=self.folder)
        p.own("set", result, result=self.result)
        p.set_label(bound, self.bound)
        self.routine.call(p.text(name), p.text(path), kind, mode, kind | mode, number, then=made)

    def bind(self, folder: Cell, name: str, device: "Device", kind: int, index: int) -> None:
        """In a user namespace, where mknod(2) fails: the node made by the parent, or the host's own."""
        p, site = self.p, self.site
        made, bound = Label(), Label()
        if site.nodes < 0 and kind == st.S_IFIFO:
            p.call("mknodat", folder, name, kind | 0o666, 0, on=((errno.EEXIST, made),))
            p.place(made)
            return
        number = os.makedev(device.get("major", 0), device.get("minor", 0)) if kind != st.S_IFIFO else 0
        p.own("set", folder, result=self.folder)
        p.own("set", -errno.EPERM, result=self.result)
        p.set_label(bound, self.bound)
        below, path = (site.nodes, str(index)) if site.nodes >= 0 else (mounts.AT_FDCWD, device["path"])
        self.routine.call(p.text(name), p.text(path), kind, below, 0, number, then=made)
        p.place(made)
        p.place(bound)

    def _write(self) -> None:
        p, site, folder = self.p, self.site, self.folder
        name, path, kind, mode, both, number = self.routine.arguments
        result, tree, target = self.result, p.cell(), p.cell()
        refused, replace, failed, fine = Label(), Label(), Label(), Label()
        again = ((0, failed),)
        p.when("if_equal", result, -errno.EPERM, refused)
        p.call("newfstatat", folder, name, site.status, mounts.AT_SYMLINK_NOFOLLOW, result=result, on=again)
        p.own("and", site.mode, 0o170000, result=site.kind)
        for found, wanted in ((site.kind, kind), (site.device, number)):
            p.when("if_equal", found, wanted, same := Label())
            p.go(replace)
            p.place(same)
        p.call("fchmodat", folder, name, mode, result=result, on=again)
        self.routine.back()
        # The image has another file of that name. It is the container's own file, so replace it.
        p.place(replace)
        p.call("unlinkat", folder, name, 0, result=result, on=again)
        p.call("mknodat", folder, name, both, number, result=result, on=again)
        self.routine.back()
        # No CAP_MKNOD: use the host's own node (or, in a user namespace, one that the parent has made: then `mode` is
        # the descriptor of its folder).
        p.place(refused)
        if not site.userns:
            p.when("if_equal", kind, st.S_IFIFO, failed)
        below: "int | Cell" = mode if site.userns else mounts.AT_FDCWD
        p.call("open_tree", below, path, CLONE, result=tree, on=((0, gone := Label()),))
        p.call("newfstatat", tree, "", site.status, mounts.AT_EMPTY_PATH, result=result, on=again)
        p.own("set", -_OTHER_NUMBERS, result=result)
        p.when("if_equal", site.device, number, fine)
        p.go(failed)
        p.place(gone)
        p.own("set", tree, result=result)
        p.place(failed)
        self.routine.fail(result)
        p.place(fine)
        attributes = p.words(mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC, 0, 0, 0)
        p.call("mount_setattr", tree, "", mounts.AT_EMPTY_PATH, attributes, 32, result=result, on=again)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        there = Label()
        p.call("openat", folder, name, flags, 0o644, result=target, on=((errno.EEXIST, there), (0, failed)))
        p.call("close", target)
        p.place(there)
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        p.call("openat", folder, name, flags, 0, result=target, on=again)
        p.call("move_mount", tree, "", target, "", ONTO, result=result, on=again)
        p.call("close", target)
        p.call("close", tree)
        p.go_to(self.bound)


def _find_whose(p: "Program", site: "Site") -> None:
    """Whether the root shows the host's own /dev, by a mount that config.json does not name. Then it is left alone."""
    fd, hosts, after = p.cell(), p.room(144), Label()
    p.own("set", 0, result=site.hosts_dev)
    beneath.emit_open(p, site.root, "/dev", os.O_PATH, fd, on=((0, after),))
    p.call("newfstatat", fd, "", site.status, mounts.AT_EMPTY_PATH)
    p.call("close", fd)
    p.call("newfstatat", mounts.AT_FDCWD, "/dev", hosts, 0, on=((0, after),))
    p.own("same", site.status, hosts, 16, result=site.hosts_dev)  # st_dev and st_ino
    p.place(after)


def _refuse_symlink(p: "Program", site: "Site") -> None:
    missing, link = Label(), Label()
    p.owned_by(
        lambda _: LaunchFailed(
            "make the devices in '/dev'",
            because="it is a symbolic link in the image, and nothing is mounted on it",
            hint='mount a tmpfs there: {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}',
        )
    )
    p.call("newfstatat", site.root, "dev", site.status, mounts.AT_SYMLINK_NOFOLLOW, on=((0, missing),))
    p.own("and", site.mode, 0o170000, result=site.kind)
    p.when("if_equal", site.kind, st.S_IFLNK, link)
    p.place(missing)  # it will be made

    def refuse() -> None:
        p.place(link)
        p.fail(_IS_A_LINK)

    p.aside(refuse)
    p.owned_by(None)


def emit_links(p: "Program", site: "Site", links: "tuple[tuple[str, str], ...]") -> None:
    """Emit the usual links in /dev."""
    dev, done = p.cell(), Label()
    p.when("if_equal", site.hosts_dev, 1, done)
    p.owned_by(lambda error: LaunchFailed("make the links in '/dev'", because=error.because))
    site.directories.make_if_writable("/dev", dev, done)  # on a read-only root without it there is no place for links
    for target, name in links:
        p.call("symlinkat", target, dev, name, on=((errno.EEXIST, there := Label()), (errno.EROFS, there)))
        p.place(there)
    # The image's ptmx would open terminals of the host (devpts mounted with newinstance has its own ptmx).
    gone = Label()
    p.call("unlinkat", dev, "ptmx", 0, on=((errno.ENOENT, gone), (errno.EROFS, gone), (errno.EBUSY, gone)))
    p.place(gone)
    p.call("symlinkat", "pts/ptmx", dev, "ptmx", on=((errno.EEXIST, there := Label()), (errno.EROFS, there)))
    p.place(there)
    p.call("close", dev)
    p.owned_by(None)
    p.place(done)
