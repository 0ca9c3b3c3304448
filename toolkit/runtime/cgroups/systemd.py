"""Cgroups made by systemd: the container is a transient scope, delegated to us. docs/decisions/0006-systemd-dbus.md.

systemd makes the cgroup and puts the process into it. Limits are set as properties of the unit, so that systemd's view
is right and a `daemon-reload` does not reset them, and are written to the files as well: some have no property.
"""

import os

from toolkit.errors import CtkError, HostLacks
from toolkit.runtime.cgroups import dbus, files, layout, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from toolkit.oci.types import DeviceRule, Resources
    from toolkit.runtime.cgroups.interface import Files
    from toolkit.runtime.cgroups.layout import Hierarchy

_NAME = "org.freedesktop.systemd1"
_OBJECT = "/org/freedesktop/systemd1"
_MANAGER = _NAME + ".Manager"
_RULE = f"type='signal',interface='{_MANAGER}',member='JobRemoved'"


class Systemd:
    """systemd's manager, of the system or of the user."""

    def __init__(self, user: bool) -> None:
        self.user = user
        self._bus: dbus.Bus | None = None
        self._version = 0

    def bus(self) -> dbus.Bus:
        """The connection, made at the first use. Raises HostLacks."""
        if self._bus is None:
            self._bus = _connect(self.user)
            if self._bus.is_bus:
                # On a bus, signals are sent only to subscribers; on systemd's own socket they are sent to all.
                path = "/org/freedesktop/DBus"
                self._bus.call("org.freedesktop.DBus", path, "org.freedesktop.DBus", "AddMatch", "s", _RULE)
                self._bus.call(_NAME, _OBJECT, _MANAGER, "Subscribe")
        return self._bus

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def call(self, member: str, signature: str = "", *values: "Any") -> "list[Any]":
        """Call a method of the manager. Raises Refused, HostLacks, CtkError."""
        return self.bus().call(_NAME, _OBJECT, _MANAGER, member, signature, *values)

    def run_job(self, member: str, signature: str, *values: "Any") -> str:
        """Call a method that queues a job, wait for the job, and return its result: 'done' means success."""
        job = self.call(member, signature, *values)[0]
        # JobRemoved: id, the job's path, unit, result.
        return str(self.bus().wait_for("JobRemoved", 1, job)[3])

    def manager_property(self, name: str) -> "Any":
        """A property of the manager itself."""
        return self.bus().call(_NAME, _OBJECT, "org.freedesktop.DBus.Properties", "Get", "ss", _MANAGER, name)[0]

    def version(self) -> int:
        """systemd's version, its first number."""
        if not self._version:
            text = str(self.manager_property("Version")).lstrip("v")
            digits = "".join(c if c.isdigit() else " " for c in text).split()
            self._version = int(digits[0]) if digits else 0
        return self._version

    def reset_failed(self, unit: str) -> None:
        """Reset the unit's failed state; no error if it has not failed."""
        try:
            self.call("ResetFailedUnit", "s", unit)
        except dbus.Refused:
            pass


def _connect(user: bool) -> dbus.Bus:
    """Connect to systemd's own socket, which needs no D-Bus daemon and saves two hops, or else to the bus."""
    if not user:
        places = [("/run/systemd/private", False), ("/run/dbus/system_bus_socket", True)]
    else:
        folder = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        places = [(folder + "/systemd/private", False)]
        for address in os.environ.get("DBUS_SESSION_BUS_ADDRESS", f"unix:path={folder}/bus").split(";"):
            for pair in address.removeprefix("unix:").split(","):
                key, _, value = pair.partition("=")
                if key in ("path", "abstract"):
                    places.append((_unescaped(value) if key == "path" else "@" + _unescaped(value), True))
    problem: CtkError | None = None
    for address, is_bus in places:
        try:
            return dbus.Bus(address, is_bus=is_bus)
        except CtkError as error:
            problem = problem or error
    raise HostLacks(
        "reach systemd" + (" of the user" if user else ""),
        because=str(problem),
        hint="as a user: install dbus-user-session, log in again, and see `systemctl --user status`" if user else "",
    )


def _unescaped(value: str) -> str:
    """The %XX of a D-Bus address."""
    head, *rest = value.split("%")
    return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)


class Manager:
    """A container's unit; `inner` is the manager of its files. The methods are documented at interface.Manager."""

    def __init__(
        self,
        inner: "Files",
        container_id: str,
        slice_name: str,
        unit: str,
        *,
        user: bool,
        extra: "Sequence[units.Property]" = (),
    ) -> None:
        self.inner = inner
        self.id = container_id
        self.slice = slice_name
        self.unit = unit
        self.unified = inner.unified
        self.rootless = inner.rootless
        self.systemd = Systemd(user)
        self._extra = list(extra)
        self._not_ours = False
        # systemd is not involved in these.
        self.folders, self.mountpoint, self.delegate = inner.folders, inner.mountpoint, inner.delegate
        self.pids, self.exists, self.stats = inner.pids, inner.exists, inner.stats
        self.oom_kills, self.oom_events = inner.oom_kills, inner.oom_events
        self.freezer_folder, self.freeze, self.thaw = inner.freezer_folder, inner.freeze, inner.thaw
        self.let_end, self.frozen = inner.let_end, inner.frozen
        self.mounts, self.mount_links = inner.mounts, inner.mount_links

    def create(self) -> None:
        """Does nothing: `join` makes the scope, with its first process."""

    def entry(self) -> "files.Entry | None":
        """None before the unit exists; for `exec`, that of its cgroups, unless systemd must move the process."""
        return None if self.systemd.user or not self.inner.exists() else self.inner.entry()

    def join(self, pid: int) -> None:
        """Start the unit with this process in it, and wait until systemd has done so. Raises HostLacks, CtkError."""
        properties = units.unit_properties(self.id, self.slice, self.unit, pid, v2=self.unified) + self._extra
        arguments: tuple[Any, ...] = (self.unit, "replace", properties, [])
        self._not_ours = True  # a unit of that name may be another's: our `kill` or `delete` must not reach it
        try:
            try:
                result = self.systemd.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)
            except dbus.Refused as error:
                if not error.name.endswith(".UnitExists"):
                    raise
                # A unit of an earlier container that failed (an OOM kill is enough) keeps its name until it is reset.
                self.systemd.reset_failed(self.unit)
                result = self.systemd.run_job("StartTransientUnit", "ssa(sv)a(sa(sv))", *arguments)
        except dbus.Refused as error:
            raise CtkError(f"start unit {self.unit!r}", because=error.because) from None
        if result != "done":
            self.systemd.reset_failed(self.unit)
            raise CtkError(f"start unit {self.unit!r}", because=f"systemd's job ended as {result!r}")
        self._not_ours = False
        self.inner.adopt()
        if not self.unified:
            self.inner.join(pid)  # the hierarchies that systemd does not use

    def _set(self, properties: "Sequence[units.Property]") -> None:
        if not properties:
            return
        try:
            self.systemd.call("SetUnitProperties", "sba(sv)", self.unit, True, list(properties))
        except dbus.Refused as error:
            raise CtkError(f"set properties of unit {self.unit!r}", because=error.because) from None

    def apply(self, resources: "Resources | None") -> None:
        """Set the limits, not the devices. Raises Invalid, HostLacks, SystemCall, CtkError."""
        if not resources:
            return
        from toolkit.runtime.cgroups.limits import idle_and_weighed

        if self.unified and idle_and_weighed(resources):
            from toolkit.runtime import log

            log.warning("unable to apply both CPUWeight and CpuIdle to systemd, ignoring CPUWeight")
        self.inner.check_memory(resources)  # else systemd would set it, and the kernel would kill
        properties, written = units.limits_as_properties(resources, v2=self.unified, version=self.systemd.version)
        self._set(properties)
        self.inner.apply(written)

    def update(self, resources: "Resources | None") -> None:
        """Set the limits, and the device rules if `devices` is there, of a container that may be running."""
        if not resources:
            return
        self.apply(self.inner.completed(resources))
        if resources.get("devices") is not None:
            self._tell_devices(resources["devices"])
            self.inner.update({"devices": resources["devices"]})

    def apply_devices(self, rules: "Sequence[DeviceRule] | None") -> None:
        """Allow what the rules and runc's defaults allow, nothing else."""
        self._tell_devices(rules or ())
        self.inner.apply_devices(rules)

    def _tell_devices(self, rules: "Sequence[DeviceRule]") -> None:
        # On v2 our own program is the filter, and systemd leaves other programs alone. On v1 it would overwrite our
        # list with its own at the next daemon-reload.
        if not self.unified:
            from toolkit.runtime.cgroups import devices

            self._set(units.device_properties(*devices.settle(rules)))

    def facts(self) -> "dict[str, Any]":
        """The facts by which `from_facts` finds the unit again."""
        return {
            "driver": "systemd",
            "id": self.id,
            "slice": self.slice,
            "unit": self.unit,
            "user": self.systemd.user,
            "inner": self.inner.facts(),
        }

    def join_sub(self, pid: int, subs: "Sequence[str]", init_pid: int = 0) -> None:
        """Put a process of `exec` into the unit; systemd moves a user's process, because the user may not."""
        if self.systemd.user and self.unified and len(subs) < 2:
            whole = self.folders().get("", "")
            path = files.below(whole, subs[0] if subs else "", pid)[len(whole) :]
            try:
                self.systemd.call("AttachProcessesToUnit", "ssau", self.unit, path or "/", [pid])
                return
            except dbus.Refused:
                pass  # systemd before 238, or the unit is inactive: try it ourselves
        self.inner.join_sub(pid, subs, init_pid)

    def kill(self) -> None:
        """SIGKILL everything in the container."""
        if not self._not_ours:
            self.inner.kill()

    def delete(self) -> None:
        """Stop the unit and remove what remains of its cgroups. Raises CtkError that names those that are left."""
        if self._not_ours:
            return
        problem: CtkError | None = None
        try:
            self.systemd.run_job("StopUnit", "ss", self.unit, "replace")
        except dbus.Refused:
            pass  # it was removed with its last process
        except CtkError as error:
            problem = error
        if problem is None:
            self.systemd.reset_failed(self.unit)
        self.inner.delete()
        self.systemd.close()
        if problem is not None:
            raise problem


def _check_running() -> None:
    if not os.path.isdir("/run/systemd/system"):  # sd_booted(3)
        raise HostLacks(
            "make cgroups through systemd",
            because="systemd not running on this host, cannot use systemd cgroups manager",
            hint="remove --systemd-cgroup",
        )


def make(
    found: "list[Hierarchy]",
    cgroups_path: "str | None",
    container_id: str,
    *,
    rootless: bool,
    annotations: "dict[str, str]",
) -> Manager:
    """The manager for a new container. Raises Invalid, HostLacks, InUse."""
    _check_running()
    if not found:
        raise layout.nothing_mounted()
    slice_name, unit = units.parse_path(cgroups_path, container_id, user=rootless)
    path = units.expand_slice(slice_name) + "/" + unit
    inner: Files
    if layout.is_v2(found):
        from toolkit.runtime.cgroups import v2

        if rootless:
            systemd = Systemd(user=True)
            path = str(systemd.manager_property("ControlGroup")).rstrip("/") + path
            systemd.close()  # the child must not take a connection into the container
        inner = v2.make(found[0][1], found[0][2], path, container_id, rootless=rootless)
    else:
        from toolkit.runtime.cgroups import v1

        if rootless:
            raise HostLacks(
                "make cgroups through systemd", because="cannot use rootless systemd cgroups manager on cgroup v1"
            )
        inner = v1.make(found, path, container_id, rootless=False)
    extra = units.annotated_properties(annotations)
    return Manager(inner, container_id, slice_name, unit, user=rootless, extra=extra)


def from_facts(facts: "dict[str, Any]", inner: "Files") -> Manager:
    """The manager of an existing container; `inner` is that of its cgroups."""
    return Manager(inner, facts["id"], facts["slice"], facts["unit"], user=facts["user"])
