"""The steps that fill /dev: device nodes, the usual symbolic links, the console."""

import errno
import os
import stat as st

from toolkit.errors import LaunchFailed, SystemCall, reason
from toolkit.kernel import beneath, mounts
from toolkit.runtime.steps import Stage, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.oci.types import Device, IDMapping, Linux
    from toolkit.runtime.steps import Description

# runtime spec, config-linux.md, "Default Devices"; /dev/console and /dev/ptmx are made by the steps below.
DEFAULT = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
# runtime-linux.md, "Dev symbolic links".
LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
)
_KINDS = {"c": st.S_IFCHR, "u": st.S_IFCHR, "b": st.S_IFBLK, "p": st.S_IFIFO}
_ONTO = mounts.MOVE_MOUNT_F_EMPTY_PATH | mounts.MOVE_MOUNT_T_EMPTY_PATH


class MakeDevices(Step):
    """Make the default devices and linux.devices; in a user namespace, where mknod(2) fails, bind the host's nodes."""

    __slots__ = ("devices", "mounted")

    def __init__(self, devices: "Sequence[Device]", *, mounted: bool = True) -> None:
        super().__init__("linux.devices")
        self.mounted = mounted  # something is mounted on /dev; if not, it is the image's own folder
        listed = {device["path"] for device in devices}
        defaults: "list[Device]" = [
            {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o666, "uid": 0, "gid": 0}
            for path, major, minor in DEFAULT
            if path not in listed
        ]
        self.devices = [*defaults, *devices]

    def describe(self) -> "Description":
        from toolkit.runtime import device_telling

        return device_telling.describe(self.devices)

    def make_nodes(self, stage: Stage, linux: "Linux") -> None:
        """In the parent, for a new user namespace: make the nodes in a tmpfs that is not mounted anywhere yet.

        They have the owners and modes of the spec, which the host's nodes don't have. If we may not make them either
        (rootless), the host's own nodes are used.
        """
        fd = -1
        try:
            fd = mounts.new_filesystem("tmpfs", {"mode": "755"})
            for index, device in enumerate(self.devices):
                kind = _KINDS[device["type"]]
                number = os.makedev(device.get("major", 0), device.get("minor", 0)) if kind != st.S_IFIFO else 0
                os.mknod(str(index), kind, number, dir_fd=fd)
                uid = _on_host(device.get("uid") or 0, linux["uidMappings"])
                gid = _on_host(device.get("gid") or 0, linux["gidMappings"])
                os.chown(str(index), uid, gid, dir_fd=fd, follow_symlinks=False)
                mode = device.get("fileMode")
                os.chmod(str(index), 0o666 if mode is None else mode & 0o7777, dir_fd=fd)
        except (OSError, SystemCall):
            if fd >= 0:
                os.close(fd)
            return
        stage.device_nodes = fd

    def apply(self, stage: Stage) -> None:
        if _is_the_hosts(stage):
            return
        if not self.mounted:
            _refuse_symlink(stage)
        if stage.device_nodes >= 0:
            # A node can be bound only from a mount of our own tree (before Linux 6.15). On top of the root the tmpfs
            # does no harm: we open everything below `root_fd`, which is the root under it.
            mounts.move_mount(stage.device_nodes, "", stage.root_fd, "", _ONTO)
        try:
            self._make_all(stage)
        finally:
            if stage.device_nodes >= 0:
                mounts.umount2(beneath.fd_path(stage.device_nodes), mounts.MNT_DETACH)

    def _make_all(self, stage: Stage) -> None:
        folders: "dict[str, int]" = {}
        try:
            for device in self.devices:
                folder, _, name = os.path.normpath("/" + device["path"].lstrip("/")).rpartition("/")
                if folder not in folders:
                    folders[folder] = _open_folder(stage, folder)
                self._make(stage, folders[folder], name, device)
        finally:
            for fd in folders.values():
                os.close(fd)

    def _make(self, stage: Stage, folder: int, name: str, device: "Device") -> None:
        path = device["path"]
        number = os.makedev(device.get("major", 0), device.get("minor", 0)) if device["type"] != "p" else 0
        mode = device.get("fileMode")
        mode = 0o666 if mode is None else mode & 0o7777
        try:
            if stage.has_user_namespace:
                self._bind(stage, folder, name, device)
                return
            try:
                os.mknod(name, _KINDS[device["type"]] | mode, number, dir_fd=folder)
            except FileExistsError:
                there = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if st.S_IFMT(there.st_mode) != _KINDS[device["type"]] or there.st_rdev != number:
                    # The image has another file of that name. It is the container's own file, so replace it.
                    os.unlink(name, dir_fd=folder)
                    os.mknod(name, _KINDS[device["type"]] | mode, number, dir_fd=folder)
                else:
                    os.chmod(name, mode, dir_fd=folder)
            except PermissionError:
                # No CAP_MKNOD: use the host's own node.
                self._bind(stage, folder, name, device)
                return
            owner = (device.get("uid") or 0, device.get("gid") or 0)
            if owner != (0, 0):
                os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
        except (OSError, SystemCall) as error:
            if getattr(error, "errno", 0) == errno.EEXIST and stage.has_user_namespace:
                return
            raise LaunchFailed(f"make device {path!r}", because=getattr(error, "strerror", "") or str(error)) from None

    def _bind(self, stage: Stage, folder: int, name: str, device: "Device") -> None:
        """Bind-mount the node made by the parent, or the host's own with the same numbers."""
        clone = mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC
        if stage.device_nodes >= 0:
            tree = mounts.open_tree(stage.device_nodes, str(self.devices.index(device)), clone)
        elif device["type"] == "p":
            os.mknod(name, st.S_IFIFO | 0o666, dir_fd=folder)
            return
        else:
            tree = mounts.open_tree(mounts.AT_FDCWD, device["path"], clone)
        try:
            status = os.stat(tree)
            numbers = (os.major(status.st_rdev), os.minor(status.st_rdev))
            if device["type"] != "p" and numbers != (device["major"], device["minor"]):
                raise OSError(errno.EPERM, "mknod is not permitted here, and the host's node has different numbers")
            mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC)
            try:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=folder))
            except FileExistsError:
                pass
            target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                mounts.move_mount(tree, "", target, "", _ONTO)
            finally:
                os.close(target)
        finally:
            os.close(tree)


def _is_the_hosts(stage: Stage) -> bool:
    """Whether the root shows the host's own /dev, by a mount that config.json does not name. Then it is left alone."""
    try:
        fd = beneath.open_beneath(stage.root_fd, "/dev", os.O_PATH)
    except SystemCall:
        return False
    try:
        return os.path.samestat(os.fstat(fd), os.stat("/dev"))
    except OSError:
        return False
    finally:
        os.close(fd)


def _refuse_symlink(stage: Stage) -> None:
    try:
        link = st.S_ISLNK(os.stat("dev", dir_fd=stage.root_fd, follow_symlinks=False).st_mode)
    except OSError:
        return  # it does not exist, and will be made
    if link:
        raise LaunchFailed(
            "make the devices in '/dev'",
            because="it is a symbolic link in the image, and nothing is mounted on it",
            hint='mount a tmpfs there: {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}',
        )


def _on_host(number: int, mappings: "Sequence[IDMapping]") -> int:
    """The host's id for an id of the container; 0 for one that is not mapped."""
    for entry in mappings:
        if 0 <= number - entry["containerID"] < entry["size"]:
            return int(entry["hostID"]) + number - int(entry["containerID"])
    return _on_host(0, mappings) if number else 0


def _open_folder(stage: Stage, folder: str) -> int:
    """The directory as an O_PATH descriptor, for *at calls."""
    try:
        return beneath.make_directories(stage.root_fd, folder or "/")
    except OSError as error:
        because = reason(error)
        raise LaunchFailed(f"make devices in {folder or '/'!r}", because=because) from None


class LinkDevices(Step):
    """Make the links /dev/fd, stdin, stdout, stderr and ptmx."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("")

    def describe(self) -> "Description":
        links = (*LINKS, ("pts/ptmx", "ptmx"))
        return (
            "make the usual links in /dev",
            "; ".join(f'symlink("{target}", "/dev/{name}")' for target, name in links),
            "\n".join(f'ln -sfn {target} "$root/dev/{name}"' for target, name in links),
        )

    def apply(self, stage: Stage) -> None:
        if _is_the_hosts(stage):
            return
        try:
            dev = beneath.make_directories(stage.root_fd, "/dev")
        except (SystemCall, OSError):
            return  # a read-only root without /dev: there is no place for links
        try:
            for target, name in LINKS:
                try:
                    os.symlink(target, name, dir_fd=dev)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.EROFS):
                        raise
            try:
                # The image's ptmx would open terminals of the host (devpts mounted with newinstance has its own ptmx).
                os.unlink("ptmx", dir_fd=dev)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EROFS, errno.EBUSY):
                    raise
            try:
                os.symlink("pts/ptmx", "ptmx", dir_fd=dev)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.EROFS):
                    raise
        except OSError as error:
            raise LaunchFailed("make the links in '/dev'", because=reason(error)) from None
        finally:
            os.close(dev)
