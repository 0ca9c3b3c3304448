"""cgroup v1 and the hybrid layout: one directory per hierarchy, v2's own (without controllers) among them.

The order matters for speed: the v2 directory is joined first, because a move in it waits for an RCU grace period after
moves in other hierarchies (97 µs against 672 µs, Linux 6.18, docs/performance.md).
"""

import errno
import os
import time

from toolkit.errors import CtkError, HostLacks, InUse, SystemCall
from toolkit.runtime.cgroups import files, freezer, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from toolkit.oci.types import DeviceRule, Resources, Spec
    from toolkit.runtime.cgroups.layout import Hierarchy

_SIGKILL = 9


class Manager:
    """The cgroups of one container; `paths` are its `folders`. The methods are documented at interface.Manager."""

    unified = False

    def __init__(self, paths: "dict[str, str]", *, rootless: bool = False, optional: bool = False) -> None:
        self.paths = paths
        self.rootless = rootless
        self.optional = optional  # rootless without a cgroupsPath: cgroups that we may not make are left out
        self.mountpoints: dict[str, str] = {}
        self._adopting = False

    def folders(self) -> "dict[str, str]":
        """Hierarchy -> the container's directory in it."""
        return dict(self.paths)

    def mountpoint(self, hierarchy: str) -> str:
        """Where a hierarchy is mounted; "" if the manager was made from facts."""
        return self.mountpoints.get(hierarchy, "")

    # -- making and joining

    def create(self) -> None:
        """Make the cgroups. An existing one is used if it is empty. On failure nothing is left.

        Raises InUse (it has processes, it is frozen), SystemCall.
        """
        made: list[str] = []
        try:
            for key, path in list(self.paths.items()):
                try:
                    new = files.make_directory(path, made)
                    if not new:
                        self._take_over(key, path)
                    if key == "cpuset":
                        self._fill_cpuset(path, self.mountpoints.get(key, ""), new)
                except (OSError, SystemCall) as error:
                    if self.optional and files.is_refusal(error):
                        del self.paths[key]
                        continue
                    if isinstance(error, OSError):
                        files.failed(f'mkdir("{path}", 0755)', error, hint=self._no_delegation(error))
                    raise
        except BaseException:
            files.undo(made)
            # What is there now belongs to others: our `kill` or `delete` must not reach it.
            self.paths.clear()
            raise

    def adopt(self) -> None:
        """Make the cgroups besides those that systemd made with our process in them."""
        self._adopting = True
        self.create()

    def _no_delegation(self, error: OSError) -> str:
        if not self.rootless or not files.is_refusal(error):
            return ""
        return "remove linux.cgroupsPath, or have an administrator delegate that cgroup to you"

    def _take_over(self, key: str, path: str) -> None:
        if self._adopting:
            return
        files.check_unused(path)
        if "freezer" in key.split(",") and freezer.frozen(path):
            raise InUse(f"make cgroup {path!r}", because="container's cgroup unexpectedly frozen")

    def _fill_cpuset(self, path: str, mountpoint: str, new: bool) -> None:
        """Give a new cpuset its parent's CPUs and memory nodes: an empty one takes no process (ENOSPC, cpuset(7))."""
        parent = path.rpartition("/")[0]
        for name in ("/cpuset.cpus", "/cpuset.mems"):
            if not new and files.get(path + name) not in ("", "\n"):
                continue
            value = files.get(parent + name)
            if value in ("", "\n") and parent != mountpoint and parent.startswith(mountpoint):
                self._fill_cpuset(parent, mountpoint, False)
                value = files.get(parent + name)
            files.put(path + name, value)

    def entry(self) -> "files.Entry | None":
        """For a process that joins by itself; None if it must be put there: what is missing or refused is then told."""
        if self.rootless or not self.paths:
            return None
        try:
            return files.Entry(self.paths.get("", ""), [path for key, path in self.paths.items() if key])
        except OSError:
            return None

    def join(self, pid: int) -> None:
        """Put the process into all of the container's cgroups. Raises SystemCall."""
        for key, path in list(self.paths.items()):
            try:
                files.join(path, pid)
            except SystemCall as error:
                if self.optional and files.is_refusal(error):
                    del self.paths[key]
                    continue
                raise

    def delegate(self, spec: "Spec") -> None:
        """Does nothing: v1 can't be delegated to a container safely (cgroups(7), "Cgroups delegation")."""

    # -- limits

    def _folder(self, controller: str) -> str:
        path = self.paths.get(controller, "")
        if not path:
            for key, path in self.paths.items():
                if controller in key.split(","):
                    return path
            return ""
        return path

    def apply(self, resources: "Resources | None") -> None:
        """Set the limits, not the devices. Raises Invalid, HostLacks, SystemCall."""
        if not resources or resources.keys() == {"devices"}:  # as in the default spec: saves an import
            return
        from toolkit.runtime.cgroups import limits

        block = resources.get("blockIO")
        bfq = bool(block) and not os.path.exists(self._folder("blkio") + "/blkio.weight")
        plan = limits.plan_v1(resources, bfq=bfq)
        if plan:
            files.carry_out(plan, self._folder)

    def check_memory(self, resources: "Resources") -> None:
        """Does nothing: v1 refuses a limit below the current use (EBUSY)."""

    def update(self, resources: "Resources | None") -> None:
        """Set the limits, and the device rules if `devices` is there, of a container that may be running."""
        if not resources:
            return
        self.apply(resources)
        if resources.get("devices") is not None:
            self._devices(resources["devices"], running=True)

    def completed(self, resources: "Resources") -> "Resources":
        """The resources of an update; a CPU quota without a period, or the reverse, is completed, as systemd needs."""
        from toolkit.runtime.cgroups.limits import completed_v1

        path = self._folder("cpu")
        return completed_v1(resources, lambda name: files.get(f"{path}/{name}").strip())

    def apply_devices(self, rules: "Sequence[DeviceRule] | None") -> None:
        """Allow what the rules and runc's defaults allow, nothing else. The child must have made its nodes by then.

        If we may not (in a user namespace), devices stay as they are: nodes made there do not work anyway.
        Raises Invalid, HostLacks, SystemCall.
        """
        self._devices(rules or (), running=False)

    def _devices(self, rules: "Sequence[DeviceRule]", *, running: bool) -> None:
        from toolkit.runtime.cgroups import devices

        path = self._folder("devices")
        if not path:
            if self.optional or self.rootless:
                return
            raise HostLacks(
                "restrict the container's devices",
                because="the devices controller is not mounted",
                hint="mount -t cgroup -o devices devices /sys/fs/cgroup/devices",
            )
        plan = devices.transition_v1(files.get(path + "/devices.list"), rules) if running else devices.writes_v1(rules)
        try:
            for name, values in plan:
                files.put_all(f"{path}/{name}", values)
        except SystemCall as error:
            if files.is_refusal(error) and (self.rootless or _in_user_namespace()):
                return
            if error.errno == errno.EPERM:
                raise SystemCall(
                    error.call, error.errno, error.because, hint="the parent cgroup does not allow that device itself"
                ) from None
            raise

    # -- what is in it

    def facts(self) -> "dict[str, Any]":
        """The facts by which `from_facts` finds the cgroups again."""
        return {"driver": "cgroupfs", "version": 1, "rootless": self.rootless, "paths": self.paths}

    def reference(self) -> str:
        """The hierarchy that lists the container's processes: devices, as with runc, else any."""
        return self._folder("devices") or next(iter(self.paths.values()), "")

    def pids(self, recursive: bool = True) -> "list[int]":
        """The container's processes, as the caller's pid namespace numbers them; [] if the cgroup is gone."""
        path = self.reference()
        return files.pids(path, recursive=recursive) if path else []

    def exists(self) -> bool:
        """Whether the cgroup exists."""
        path = self.reference()
        return bool(path) and os.path.isdir(path)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for the memory limit."""
        path = self._folder("memory")
        try:
            words = files.get(path + "/memory.oom_control").split() if path else []
        except OSError:
            return 0
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def oom_events(self) -> "tuple[str, str]":
        """How to be notified of such a kill: ("eventfd", the file to register), ("", "") if that is impossible."""
        path = self._folder("memory")
        return ("eventfd", path + "/memory.oom_control") if path else ("", "")

    def stats(self) -> "dict[str, Any]":
        """The `data` of `events --stats`. Raises OSError."""
        from toolkit.runtime.cgroups import stats

        return stats.of_v1(self._folder)

    # -- freezing, killing, deleting

    def _freezer(self) -> str:
        path = self._folder("freezer")
        if not path:
            raise HostLacks(
                "freeze the container",
                because="cannot toggle freezer: cgroups not configured for container",
                hint="pause needs the freezer controller",
            )
        return path

    def freezer_folder(self) -> str:
        """The cgroup whose freezer freezes the container, "" if there is none."""
        return self._folder("freezer")

    def freeze(self) -> None:
        """Stop every process of the container. Raises CtkError if that fails; then all run on."""
        freezer.freeze(self._freezer())

    def thaw(self) -> None:
        """Let the processes continue. Raises HostLacks, SystemCall."""
        freezer.thaw(self._freezer())

    def let_end(self) -> None:
        """After a SIGKILL, thaw what we or the container itself have frozen: v1 delivers it to no frozen process."""
        path = self._folder("freezer")
        if path:
            freezer.thaw_tree(path)

    def frozen(self) -> bool:
        """Whether this cgroup is frozen by itself (not only because one above it is)."""
        path = self._folder("freezer")
        return bool(path) and freezer.frozen(path)

    def kill(self) -> None:
        """SIGKILL everything in the container, even if frozen; returns when the processes are dying."""
        unified = self.paths.get("")
        if unified:
            try:
                if "populated 0" in files.get(unified + "/cgroup.events"):
                    return
                files.put(unified + "/cgroup.kill", "1")  # Linux 5.14: all at once, no fork escapes
            except (OSError, SystemCall):
                pass
        frozen_at = self._folder("freezer")
        for attempt in range(10):
            found = [pid for pid in self.pids() if not _is_zombie(pid)]
            if not found:
                return
            if not unified and frozen_at:
                try:
                    freezer.freeze(frozen_at)
                    found = self.pids()
                except CtkError:
                    pass
            for pid in found:
                try:
                    os.kill(pid, _SIGKILL)
                except ProcessLookupError:
                    pass
            if frozen_at:
                freezer.thaw_tree(frozen_at)  # v1 delivers no signal to frozen processes
            time.sleep(min(0.001 * 2**attempt, 0.05))

    def delete(self) -> None:
        """Remove the cgroups, those below them first. Raises CtkError that names those left and their processes."""
        files.remove_all(self.paths.values())

    # -- exec into a part of it

    def join_sub(self, pid: int, subs: "Sequence[str]", init_pid: int = 0) -> None:
        """Put a process of `exec` into the container's cgroups, or into those that each `exec --cgroup` names.

        A sub is 'PATH' for all hierarchies or 'CONTROLLER[,CONTROLLER]:PATH' for some; in a hierarchy that no sub names
        the process joins the container's own cgroup. Raises Invalid, NotFound, SystemCall.
        """
        wanted: dict[str, str] = {}
        everywhere = ""
        for sub in subs:
            controllers, colon, path = sub.rpartition(":")
            if not colon:
                everywhere = path
                continue
            for controller in controllers.split(","):
                key = self._key(controller)
                if key is None:
                    raise CtkError(f"error adding pid {pid} to cgroups", because=f"unknown controller {controller!r}")
                wanted[key] = path
        targets = [files.below(path, wanted.get(key, everywhere), pid) for key, path in self.paths.items()]
        freezer_key = self._key("freezer") if subs and not self.frozen() else None  # paused: exec means to wait
        if freezer_key is not None:
            path = files.below(self.paths[freezer_key], wanted.get(freezer_key, everywhere), pid)
            files.refuse_frozen(path, "freezer.state", "FR", "freezer.state THAWED", pid)  # FREEZING, FROZEN
        for target in targets:
            try:
                files.join_by_exec(target, pid)
            except CtkError as error:
                if not (self.rootless and files.is_refusal(error.__cause__)):
                    raise

    def _key(self, controller: str) -> "str | None":
        for key in self.paths:
            if controller in key.split(",") or key == "name=" + controller:
                return key
        return None

    # -- what the container sees

    def mounts(self) -> "list[tuple[str, str, str]]":
        """(name below /sys/fs/cgroup, mount data, the container's own directory) for each v1 hierarchy."""
        found = []
        for key, path in self.paths.items():
            if key:  # the hybrid's v2 part is not mounted, as with runc
                mountpoint = self.mountpoints.get(key, "")
                found.append((mountpoint.rpartition("/")[2] or key.removeprefix("name="), key, path))
        return found

    def mount_links(self) -> "list[tuple[str, str]]":
        """(link, to) for the controllers that are mounted together: cpu -> cpu,cpuacct."""
        links: list[tuple[str, str]] = []
        for name, _, _ in self.mounts():
            if "," in name:
                links.extend((controller, name) for controller in name.split(","))
        return links


def _is_zombie(pid: int) -> bool:
    try:
        return files.get(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _in_user_namespace() -> bool:
    from toolkit.kernel.host import HostFacts

    return HostFacts().in_user_namespace


def make(found: "list[Hierarchy]", cgroups_path: "str | None", container_id: str, *, rootless: bool) -> Manager:
    """The manager for a new container.

    `cgroups_path` absolute is below each mount; relative (and absent: the id) below the caller's own cgroup.
    """
    inner = layout.clean(cgroups_path or container_id)
    relative = not inner.startswith("/")
    own = layout.own() if relative else {}
    paths = {}
    mountpoints = {}
    for key, mountpoint, mounted in found:
        if relative:
            at = own.get(key)
            if at is None:
                at = own.get(key.partition(",")[0], "/")
            paths[key] = layout.visible(mountpoint, mounted, at) + "/" + inner
        else:
            paths[key] = (mountpoint + inner).rstrip("/")
        mountpoints[key] = mountpoint
    manager = Manager(paths, rootless=rootless, optional=rootless and not cgroups_path)
    manager.mountpoints = mountpoints
    # Check now, not only in `create`: once our facts are on disk, a `delete` after the caller's death may kill.
    reference = manager.reference()
    if os.path.isdir(reference):
        files.check_unused(reference)
    return manager
