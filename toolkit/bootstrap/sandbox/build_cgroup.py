"""A cgroup (v2) for one build, below the caller's own: nobody else is in it, and the build's namespace begins there.

So that a script sees no cgroup but its own, whatever it gets to mount, and the caller's limits hold for it. Where the
caller may make none (an ordinary user without delegation; a container whose cgroups are read-only) there is only the
namespace: what its root may not write here, root of a user namespace may not either. v1 has nothing to kill or freeze
by a write without the capabilities that a build has dropped.
"""

import contextlib
import os

from toolkit.kernel import delegation, mountinfo

_PREFIX = "ctk-build-"


class Cgroup:
    """Held by the descriptor of the folder above it: by the end, a build's mounts have no path that leads there."""

    def __init__(self) -> None:
        """Make one for a child of this process, where one can be made; take away what killed builds have left."""
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
        """Put this process there; where it may not be, it stays."""
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
        """Take it away, once all in it have ended."""
        if self._above >= 0:
            with contextlib.suppress(OSError):
                os.rmdir(self._name, dir_fd=self._above)


def own() -> str:
    """The caller's own cgroup as a folder; "" without cgroup v2."""
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
