"""A cgroup (v2) for one build, below the caller's own. It holds nothing else and is the root of the cgroup namespace.

A script therefore sees no cgroup but its own, whatever it manages to mount, and the caller's limits apply to it. If the
caller may not make a cgroup (an ordinary user without delegation; a container whose cgroups are read-only), there is
only the namespace: what the caller may not write there, root of a user namespace may not write either. In v1 nothing
can be killed or frozen by a write without capabilities that a build has dropped.
"""

import contextlib
import os

from toolkit.kernel import delegation, mountinfo

_PREFIX = "ctk-build-"


class Cgroup:
    """The build's cgroup. It keeps its parent folder open, because at the end of a build no path leads there."""

    def __init__(self) -> None:
        """Make a cgroup for a child of this process, if that is allowed. Removes those that killed builds left."""
        self._above = -1
        try:
            if folder := own():
                above = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                _sweep(above)
                self._name = f"{_PREFIX}{os.getpid()}-{os.urandom(4).hex()}"
                os.mkdir(self._name, 0o755, dir_fd=above)
                self._above = above
        except OSError:
            pass

    def join(self) -> None:
        """Move this process into it. Does nothing if there is none or the move is not allowed."""
        if self._above < 0:
            return
        with contextlib.suppress(OSError):
            fd = os.open(self._name + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._above)
            try:
                os.write(fd, b"0")
            finally:
                os.close(fd)
        os.close(self._above)

    def remove(self) -> None:
        """Remove it. All its processes must have ended."""
        if self._above >= 0:
            with contextlib.suppress(OSError):
                os.rmdir(self._name, dir_fd=self._above)


def own() -> str:
    """The path of the caller's own cgroup; "" without cgroup v2."""
    lines = mountinfo.read("/proc/self/cgroup").split("\n")
    own = next((line[3:] for line in lines if line.startswith("0::")), "")
    for _, _, root, point, _, kind, _, _ in mountinfo.mounts(mountinfo.read()):
        if own and kind == "cgroup2":
            return delegation.visible(point, root, own)
    return ""


def _sweep(above: int) -> None:
    for name in os.listdir(above):
        if name.startswith(_PREFIX) and not os.path.exists("/proc/" + name.removeprefix(_PREFIX).partition("-")[0]):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=above)  # the kernel keeps one with a process in it
