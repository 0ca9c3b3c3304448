"""cgroup v2: one directory. Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroups(7)."""

import errno
import os
import time

from toolkit.errors import CtkError, HostLacks, InUse, Invalid, SystemCall
from toolkit.runtime.cgroups import files, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from toolkit.oci.types import DeviceRule, Resources, Spec

_SIGKILL = 9
_FREEZE_TIMEOUT_S = 10.0


class Manager:
    """The cgroup of one container at `path`, below `mount`. The methods are documented at interface.Manager."""

    unified = True

    def __init__(self, path: str, *, mount: str = "", rootless: bool = False, optional: bool = False) -> None:
        self.path = path  # '' if there is none: rootless without a cgroup that we may change
        self.mount = mount
        self.rootless = rootless
        self.optional = optional
        self._made: list[str] = []

    def folders(self) -> "dict[str, str]":
        """{"": the container's directory}; {} if there is none."""
        return {"": self.path} if self.path else {}

    def mountpoint(self, hierarchy: str) -> str:
        """Where cgroup v2 is mounted."""
        return self.mount

    # -- making and joining

    def create(self) -> None:
        """Make the cgroup, with every controller that the host provides. On failure nothing is left.

        Called again, it does nothing. Raises InUse (it has processes, it is frozen), SystemCall.
        """
        if not self.path or self._made:
            return
        made: list[str] = []
        try:
            try:
                if not files.make_directory(self.path, made):
                    files.check_unused(self.path)
                    if self.frozen():
                        raise InUse(f"make cgroup {self.path!r}", because="container's cgroup unexpectedly frozen")
            except OSError as error:
                if self.optional and files.is_refusal(error):
                    files.undo(made)
                    self.path = ""
                    return
                files.failed(f'mkdir("{self.path}", 0755)', error, hint=self._hint(error))
            self._enable_controllers()
            if files.get(self.path + "/cgroup.type").strip() == "domain invalid":
                # Below a threaded cgroup only a threaded one accepts processes; limits that it lacks fail in `apply`.
                files.put(self.path + "/cgroup.type", "threaded")
        except BaseException:
            files.undo(made)
            self.path = ""  # what is there belongs to others: our `kill` must not reach it
            raise
        self._made = made or [self.path]

    def adopt(self) -> None:
        """Adopt the cgroup that systemd made with our process in it."""
        self._made = [self.path]
        self._enable_controllers()

    def _hint(self, error: OSError) -> str:
        if not self.rootless or not files.is_refusal(error):
            return ""
        return "start ctk in a session of your own: systemd-run --user --scope -p Delegate=yes ctk …"

    def _enable_controllers(self) -> None:
        """Have each parent cgroup enable the root's controllers for its children; `apply` reports missing ones."""
        wanted = files.get(self.mount + "/cgroup.controllers").split()
        if not set(wanted).difference(files.get(self.path + "/cgroup.controllers").split()):
            return
        folder = self.mount
        for word in self.path[len(self.mount) :].strip("/").split("/"):
            missing = set(wanted).difference(files.get(folder + "/cgroup.subtree_control").split())
            if missing:
                values = ["+" + name for name in wanted if name in missing]
                try:
                    files.put(folder + "/cgroup.subtree_control", " ".join(values))
                except SystemCall:
                    for value in values:  # one that is impossible (threaded, not delegated) makes the write fail
                        try:
                            files.put(folder + "/cgroup.subtree_control", value)
                        except SystemCall:
                            pass
            folder += "/" + word

    def entry(self) -> "files.Entry | None":
        """For a process whose clone puts it there; None if it must be put there by its pid. Raises SystemCall."""
        if not self.path or (self.rootless and not self._may_move()):
            return None
        try:
            if not self._made and files.get(self.path + "/cgroup.subtree_control").strip():
                return None  # its processes are below it by now (systemd in a container): `join_sub` knows where
            return files.Entry(self.path, ())
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV) and not self._made:
                return None
            files.failed(f'open("{self.path}", O_DIRECTORY)', error)

    def _may_move(self) -> bool:
        """Whether we may move our processes here: we need write access to the nearest common ancestor (delegation)."""
        here = layout.own().get("", "/").strip("/").split("/")
        there = self.path[len(self.mount) :].strip("/").split("/")
        common = self.mount
        for ours, theirs in zip(here, there, strict=False):
            if ours != theirs or not ours:
                break
            common += "/" + ours
        return os.access(common + "/cgroup.procs", os.W_OK)

    def join(self, pid: int) -> None:
        """Put the process into the cgroup. Raises SystemCall."""
        if not self.path:
            return
        try:
            files.join(self.path, pid)
        except SystemCall as error:
            if not (self.optional and files.is_refusal(error)):
                raise
            files.undo(self._made)
            self.path = ""

    def delegate(self, spec: "Spec") -> None:
        """Give the cgroup to the container's user, if the spec gives it one of its own. Raises SystemCall."""
        from toolkit.runtime.cgroups.ownership import owner

        uid = owner(spec)
        if not self.path or uid in (-1, os.geteuid()):
            return
        try:
            names = files.get("/sys/kernel/cgroup/delegate").split()
        except OSError:
            names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]  # before Linux 4.15
        for path in (self.path, *(f"{self.path}/{name}" for name in names)):
            try:
                os.chown(path, uid, -1)
            except FileNotFoundError:
                pass  # a controller that the cgroup does not have
            except OSError as error:
                if self.rootless and files.is_refusal(error):
                    return  # a user can't give files away, not even to the user's own subordinate ids
                files.failed(f'chown("{path}", {uid}, -1)', error)

    # -- limits

    def _folder(self, controller: str) -> str:
        return self.path

    def apply(self, resources: "Resources | None") -> None:
        """Set the limits, not the devices. Raises Invalid, HostLacks, SystemCall."""
        if not resources:
            return
        from toolkit.runtime.cgroups import limits

        bfq = bool(resources.get("blockIO")) and os.path.exists(self.path + "/io.bfq.weight")
        plan = limits.plan_v2(resources, bfq=bfq)
        if not plan:
            return
        if not self.path:
            raise HostLacks(
                "limit the container",
                because="rootless needs no limits + no cgrouppath when no permission is granted for cgroups",
                hint="start ctk in a session of your own: systemd-run --user --scope -p Delegate=yes ctk …",
            )
        self.check_memory(resources)
        files.carry_out(plan, self._folder)

    def check_memory(self, resources: "Resources") -> None:
        """Raise Invalid if `checkBeforeUpdate` is set and the limit is below the current use: v2 would kill."""
        memory = resources.get("memory") or {}
        if not memory.get("checkBeforeUpdate"):
            return
        try:
            usage = int(files.get(self.path + "/memory.current"))
        except (OSError, ValueError):
            return
        for key, what, value in (
            ("swap", "memory+swap", memory.get("swap") or 0),
            ("limit", "memory", memory.get("limit") or 0),
        ):
            if 0 < value <= usage:
                raise Invalid(f"linux.resources.memory.{key}", f"rejecting {what} limit {value} <= usage {usage}")

    def update(self, resources: "Resources | None") -> None:
        """Set the limits, and the device rules if `devices` is there, of a container that may be running."""
        if not resources:
            return
        self.apply(self.completed(resources))
        if resources.get("devices") is not None:
            self.apply_devices(resources["devices"])

    def completed(self, resources: "Resources") -> "Resources":
        """The resources of an update; values that v2 takes as a pair are completed from the old ones."""
        from toolkit.runtime.cgroups.limits import completed_v2

        return completed_v2(resources, self._text)

    def _text(self, name: str) -> str:
        try:
            return files.get(f"{self.path}/{name}").strip()
        except OSError:
            return ""

    def apply_devices(self, rules: "Sequence[DeviceRule] | None") -> None:
        """Allow what the rules and runc's defaults allow, nothing else; an existing filter is replaced atomically.

        Raises Invalid, SystemCall.
        """
        from toolkit.kernel import bpf
        from toolkit.runtime.cgroups import devices

        default, exceptions = devices.settle(rules or ())
        if not self.path:
            return
        code = bpf.device_program(default, exceptions.items())
        try:
            program = bpf.load(code)
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    bpf.attach(fd, program)
                finally:
                    os.close(fd)
            finally:
                os.close(program)
        except SystemCall as error:
            if self._may_go_without(rules or (), error):
                return
            raise
        except OSError as error:
            files.failed(f'open("{self.path}", O_DIRECTORY)', error)

    def _may_go_without(self, rules: "Sequence[DeviceRule]", error: SystemCall) -> bool:
        """Whether to go on without a filter: in a user namespace, where mknod(2) and bpf(2) do not work."""
        if not files.is_refusal(error):
            return False
        from toolkit.kernel.host import HostFacts

        if self.rootless or HostFacts().in_user_namespace:
            return True
        return all(rule.get("allow") and set("rwm") <= set(rule.get("access") or "") for rule in rules)

    # -- what is in it

    def facts(self) -> "dict[str, Any]":
        """The facts by which `from_facts` finds the cgroup again."""
        return {"driver": "cgroupfs", "version": 2, "rootless": self.rootless, "path": self.path, "mount": self.mount}

    def pids(self, recursive: bool = True) -> "list[int]":
        """The container's processes, as the caller's pid namespace numbers them; [] if the cgroup is gone."""
        return files.pids(self.path, recursive=recursive) if self.path else []

    def exists(self) -> bool:
        """Whether the cgroup exists."""
        return bool(self.path) and os.path.isdir(self.path)

    def oom_kills(self) -> int:
        """How many processes the kernel killed for the memory limit."""
        try:
            words = files.get(self.path + "/memory.events").split() if self.path else []
        except OSError:
            return 0
        return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0

    def oom_events(self) -> "tuple[str, str]":
        """How to be notified of such a kill: ("file", the file to poll for POLLPRI), ("", "") if that is impossible."""
        return ("file", self.path + "/memory.events") if self.path else ("", "")

    def stats(self) -> "dict[str, Any]":
        """The `data` of `events --stats`."""
        from toolkit.runtime.cgroups import stats

        return stats.of_v2(self.path)

    def _event(self, name: str) -> str:
        """The value of 'populated' or 'frozen'; '' if the cgroup is gone."""
        try:
            words = files.get(self.path + "/cgroup.events").split()
        except OSError:
            return ""
        return words[words.index(name) + 1] if name in words else ""

    # -- freezing, killing, deleting

    def freezer_folder(self) -> str:
        """The cgroup that freezes the container, "" if there is none."""
        return self.path

    def freeze(self) -> None:
        """Stop every process of the container. Raises CtkError if that fails; then all run on."""
        if not self.path:
            raise HostLacks(
                "freeze the container", because="cannot toggle freezer: cgroups not configured for container"
            )
        files.put(self.path + "/cgroup.freeze", "1")
        if not files.wait_until(lambda: self._event("frozen") == "1", _FREEZE_TIMEOUT_S):
            self.thaw()
            raise CtkError("freeze the container", because=f"unable to freeze within {_FREEZE_TIMEOUT_S:.0f} s")

    def thaw(self) -> None:
        """Let the processes continue. Raises SystemCall."""
        if self.path:
            files.put(self.path + "/cgroup.freeze", "0")

    def let_end(self) -> None:
        """After a SIGKILL: nothing to do, because frozen processes receive it (cgroup-v2.rst, cgroup.freeze)."""

    def frozen(self) -> bool:
        """Whether this cgroup is frozen by itself (not only because one above it is)."""
        try:
            return bool(self.path) and files.get(self.path + "/cgroup.freeze").strip() == "1"
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL everything in the container, even if frozen; returns when the processes are dying."""
        if not self.path or self._event("populated") != "1":
            return
        try:
            files.put(self.path + "/cgroup.kill", "1")  # Linux 5.14: all at once, no fork escapes
            return
        except SystemCall as error:
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM):
                raise
        for attempt in range(10):
            try:
                files.put(self.path + "/cgroup.freeze", "1")
            except SystemCall:
                pass
            found = self.pids()
            for pid in found:
                try:
                    os.kill(pid, _SIGKILL)
                except ProcessLookupError:
                    pass
            self.thaw()
            if not found or self._event("populated") != "1":
                return
            time.sleep(min(0.001 * 2**attempt, 0.05))

    def delete(self) -> None:
        """Remove the cgroup, those below it first. Raises CtkError that names those left and their processes."""
        if self.path:
            files.remove_all((self.path,))

    # -- exec into a part of it

    def join_sub(self, pid: int, subs: "Sequence[str]", init_pid: int = 0) -> None:
        """Put a process of `exec` into the cgroup, or the one below it that `exec --cgroup` names.

        If the container's processes have moved further down (its own systemd enabled controllers: EBUSY) or the cgroup
        is gone, the process joins the container's first one. Raises Invalid, NotFound, SystemCall.
        """
        if not self.path:
            return
        for sub in subs:
            if ":" in sub:
                raise CtkError(
                    f"error adding pid {pid} to cgroups",
                    because=f"bad sub cgroup path: {sub!r} names a controller, and cgroup v2 has one cgroup for all",
                )
        target = files.below(self.path, subs[-1] if subs else "", pid)
        if subs:
            self._refuse_frozen(target, pid)
        try:
            files.join_by_exec(target, pid)
            return
        except CtkError as error:
            if self.rootless and files.is_refusal(error.__cause__):
                return
            number = getattr(error.__cause__, "errno", 0)
            if subs or not init_pid or number not in (errno.EBUSY, errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise
        where = layout.own(files.get(f"/proc/{init_pid}/cgroup")).get("", "")
        self._refuse_frozen(self.mount + where, pid)
        files.join_by_exec(self.mount + where, pid)

    def _refuse_frozen(self, path: str, pid: int) -> None:
        if not self.frozen():  # else it was paused, and `exec --ignore-paused` means to wait
            files.refuse_frozen(path, "cgroup.events", "frozen 1", "cgroup.freeze 0", pid)

    # -- what the container sees

    def mounts(self) -> "list[tuple[str, str, str]]":
        """('', 'cgroup2', the container's own directory), for a bind mount instead of a new mount."""
        return [("", "cgroup2", self.path or self.mount)]

    def mount_links(self) -> "list[tuple[str, str]]":
        """None: v2 has no controllers that are mounted together."""
        return []


def make(mountpoint: str, mounted: str, cgroups_path: "str | None", container_id: str, *, rootless: bool) -> Manager:
    """The manager for a new container.

    `cgroups_path` absolute is below the mount; relative (and absent: the id) beside the caller's own cgroup, which has
    the caller in it and so can't enable controllers for children (cgroups(7), the "no internal processes" rule).
    """
    inner = layout.clean(cgroups_path or container_id)
    if inner.startswith("/"):
        path = mountpoint + inner
    else:
        own = layout.own().get("", "/").rpartition("/")[0] or "/"
        path = layout.visible(mountpoint, mounted, own) + "/" + inner
    manager = Manager(path.rstrip("/"), mount=mountpoint, rootless=rootless, optional=rootless and not cgroups_path)
    if os.path.isdir(manager.path):
        files.check_unused(manager.path)
    return manager
