"""The steps that fill /dev: device nodes, the usual symbolic links, the console."""

import os
import stat as st

from toolkit.errors import SystemCall
from toolkit.kernel import mounts
from toolkit.runtime import devices_program
from toolkit.runtime.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Device, IDMapping, Linux
    from toolkit.runtime.site import Site
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

    def make_nodes(self, site: "Site", linux: "Linux") -> None:
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
        site.nodes = fd

    def emit(self, p: "Program", site: "Site") -> None:
        devices_program.emit(self, p, site, _KINDS)


def _on_host(number: int, mappings: "Sequence[IDMapping]") -> int:
    """The host's id for an id of the container; 0 for one that is not mapped."""
    for entry in mappings:
        if 0 <= number - entry["containerID"] < entry["size"]:
            return int(entry["hostID"]) + number - int(entry["containerID"])
    return _on_host(0, mappings) if number else 0


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

    def emit(self, p: "Program", site: "Site") -> None:
        devices_program.emit_links(p, site, LINKS)
