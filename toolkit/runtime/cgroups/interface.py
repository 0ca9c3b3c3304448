"""The interface of the managers of a container's cgroups, which those for v1, v2 and systemd implement.

For the type checker only: nothing imports it at run time.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from toolkit.oci.types import DeviceRule, Resources, Spec
from toolkit.runtime.cgroups.files import Entry


class Manager(Protocol):
    """The cgroups of one container. A method does nothing if the cgroup is gone, unless it says otherwise."""

    @property
    def unified(self) -> bool:
        """Whether it is cgroup v2: one directory for all controllers."""

    @property
    def rootless(self) -> bool:
        """Whether it belongs to an ordinary user: what the kernel refuses is then left out, where that is allowed."""

    def folders(self) -> dict[str, str]:
        """Hierarchy ('cpu,cpuacct', 'name=systemd', '' for v2) -> the container's directory in it."""

    def mountpoint(self, hierarchy: str) -> str:
        """Where a hierarchy is mounted; "" for v1 if the manager was made from facts, which don't have it."""

    def create(self) -> None:
        """Make the cgroups. On failure nothing is left. Raises InUse (it has processes, it is frozen), SystemCall."""

    def entry(self) -> Entry | None:
        """For a new process that joins the cgroups by itself; None if it must be put there by its pid. SystemCall."""

    def join(self, pid: int) -> None:
        """Put the container's first process into the cgroups. Raises HostLacks, SystemCall, CtkError."""

    def delegate(self, spec: Spec) -> None:
        """Give the cgroup to the container's user, if the spec gives it one of its own. Raises SystemCall."""

    def apply(self, resources: Resources | None) -> None:
        """Set the limits, not the devices. Raises Invalid, HostLacks, SystemCall, CtkError."""

    def update(self, resources: Resources | None) -> None:
        """Set the limits, and the device rules if `devices` is there, of a container that may be running."""

    def apply_devices(self, rules: Sequence[DeviceRule] | None) -> None:
        """Allow what the rules and runc's defaults allow, nothing else. Raises Invalid, HostLacks, SystemCall."""

    def facts(self) -> dict[str, Any]:
        """The facts by which `from_facts` finds the cgroups again, for JSON."""

    def pids(self, recursive: bool = True) -> list[int]:
        """The container's processes, as the caller's pid namespace numbers them; [] if the cgroup is gone."""

    def exists(self) -> bool:
        """Whether the cgroup exists."""

    def oom_kills(self) -> int:
        """How many processes the kernel killed for the memory limit."""

    def oom_events(self) -> tuple[str, str]:
        """How to be notified of such a kill: (kind, file), ("", "") if that is impossible.

        "file": poll it for POLLPRI; "eventfd": register it in cgroup.event_control.
        """

    def stats(self) -> dict[str, Any]:
        """The `data` of `events --stats`. Raises OSError."""

    def freezer_folder(self) -> str:
        """The cgroup whose freezer freezes the container, "" if there is none."""

    def freeze(self) -> None:
        """Stop every process of the container. Raises CtkError if that fails; then all run on."""

    def thaw(self) -> None:
        """Let the processes continue. Raises HostLacks, SystemCall."""

    def let_end(self) -> None:
        """After a SIGKILL, thaw what we or the container itself have frozen, if it would not end otherwise."""

    def frozen(self) -> bool:
        """Whether the container's cgroup is frozen by itself (not only because one above it is)."""

    def kill(self) -> None:
        """SIGKILL everything in the container, even if frozen; returns when the processes are dying."""

    def delete(self) -> None:
        """Remove the cgroups, those below them first. Raises CtkError that names those left and their processes."""

    def join_sub(self, pid: int, subs: Sequence[str], init_pid: int = 0) -> None:
        """Put a process of `exec` into the cgroups, or those that `exec --cgroup` names. Invalid, NotFound, SystemCall.

        Where the container's first process, `init_pid`, has moved further down, the process may have to follow it.
        """

    def mounts(self) -> list[tuple[str, str, str]]:
        """(name below /sys/fs/cgroup, mount data, the container's own directory) for each mount that it gets."""

    def mount_links(self) -> list[tuple[str, str]]:
        """(link, to) for the controllers that are mounted together: cpu -> cpu,cpuacct."""


class Files(Manager, Protocol):
    """A manager that writes to cgroupfs itself; systemd's manager uses one for what systemd does not do."""

    def adopt(self) -> None:
        """Adopt the cgroup that systemd made with our process in it, and make those that systemd does not use."""

    def check_memory(self, resources: Resources) -> None:
        """Raise Invalid if `checkBeforeUpdate` is set and the limit is below the current use: v2 would kill."""

    def completed(self, resources: Resources) -> Resources:
        """An update's resources; values that the kernel or systemd takes as a pair are completed from the old ones."""
