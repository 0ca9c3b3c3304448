"""The acts about the container's cgroups: where they are on this host, what is written there, and for which field."""

import os
from typing import Any

from toolkit.errors import CtkError
from toolkit.explain.act import Act
from toolkit.kernel import mounts
from toolkit.runtime import cgroups, shell_words
from toolkit.runtime.cgroup_mount import JoinCgroup, MountCgroup
from toolkit.runtime.cgroups import devices, limits
from toolkit.text import quote

Spec = dict[str, Any]

_FIELDS = {
    "memory.max": "memory.limit", "memory.limit_in_bytes": "memory.limit", "memory.low": "memory.reservation",
    "memory.soft_limit_in_bytes": "memory.reservation", "memory.swap.max": "memory.swap",
    "memory.memsw.limit_in_bytes": "memory.swap", "memory.kmem.tcp.limit_in_bytes": "memory.kernelTCP",
    "memory.oom_control": "memory.disableOOMKiller", "memory.swappiness": "memory.swappiness",
    "cpu.shares": "cpu.shares", "cpu.weight": "cpu.shares", "cpu.cfs_period_us": "cpu.period",
    "cpu.cfs_burst_us": "cpu.burst", "cpu.max.burst": "cpu.burst", "cpu.cfs_quota_us": "cpu.quota",
    "cpu.max": "cpu.quota", "cpu.idle": "cpu.idle", "cpu.rt_period_us": "cpu.realtimePeriod",
    "cpu.rt_runtime_us": "cpu.realtimeRuntime", "cpuset.cpus": "cpu.cpus", "cpuset.mems": "cpu.mems",
    "pids.max": "pids.limit", "net_cls.classid": "network.classID", "net_prio.ifpriomap": "network.priorities",
    "rdma.max": "rdma",
}  # fmt: skip


class Cgroups:
    """The cgroups that a container with this spec and id would get. Makes nothing. Raises CtkError."""

    def __init__(self, spec: Spec, container_id: str, *, systemd: bool = False) -> None:
        linux = spec.get("linux") or {}
        self.systemd = systemd
        self.resources: Spec = linux.get("resources") or {}
        path = linux.get("cgroupsPath")
        # A container with that id may be running, and then its name would be refused; this one is always free.
        free = "" if systemd else ".told"
        wanted = path.rstrip("/") + free if path else None
        rootless = os.geteuid() != 0
        self._manager = cgroups.manager(wanted, container_id + free, systemd=systemd, rootless=rootless)
        self._free = free
        self.unified = self._manager.unified
        # Hierarchy ('cpu,cpuacct', 'name=systemd', '' for v2) -> folder.
        self.paths = {key: path.removesuffix(free) for key, path in self._manager.folders().items()}

    def folder(self, controller: str) -> str:
        """The folder of a controller's files for the container; "" if this host doesn't have the controller."""
        if self.unified:
            return self.paths.get("", "")
        return next((path for key, path in self.paths.items() if controller in key.split(",")), "")

    def made(self) -> Act:
        """The act that makes the folders."""
        words = [quote(path) for path in self.paths.values()]
        above = [quote(os.path.dirname(path)) for path in self.paths.values()]
        # No -p for the last: if it exists, it is another container's.
        lines = [f"mkdir -p {' '.join(dict.fromkeys(above))}", f"mkdir {' '.join(words)}"] if words else []
        if self.unified:
            lines += self._controllers()
        elif cpuset := self.folder("cpuset"):
            lines += _filled(cpuset, self._manager.mountpoint("cpuset"))
        calls = "; ".join(f'mkdir("{path}", 0755)' for path in self.paths.values())
        note = "ctk asks systemd for a scope, and systemd makes the cgroups" if self.systemd else ""
        return Act("outside", "make the container's cgroup", calls, tuple(lines), "linux.cgroupsPath", note=note)

    def _controllers(self) -> list[str]:
        """v2: lines that enable the controllers in each ancestor's cgroup.subtree_control."""
        path = self.paths.get("", "")
        top = self._manager.mountpoint("")
        wanted = " ".join(sorted({write[0] for write in self._plan()} - {"cgroup"}))
        if not wanted:
            return []
        lines, folder = [], top
        for part in path[len(top) :].strip("/").split("/"):
            names = " ".join("+" + name for name in wanted.split())
            lines.append(f"echo {quote(names)} > {quote(folder + '/cgroup.subtree_control')}")
            folder += "/" + part
        return lines

    def _plan(self) -> "list[limits.Write]":
        plan = limits.plan_v2 if self.unified else limits.plan_v1
        bfq = bool(self.resources.get("blockIO")) and not os.path.exists(
            os.path.dirname(self.folder("blkio")) + "/blkio.weight"
        )
        return plan(self.resources, bfq=bfq and not self.unified)

    def limited(self) -> list[Act]:
        """The writes that set the limits."""
        acts = []
        for controller, name, value, otherwise in self._plan():
            file = f"{self.folder(controller) or '/sys/fs/cgroup/' + controller}/{name}"
            line = f"{shell_words.put(value)} > {quote(file)}"
            if otherwise == "skip":
                line = f"[ ! -e {quote(file)} ] || {line}"
            call = f'write(open("{file}", O_WRONLY), "{value}", {len(value)})'
            acts.append(Act("outside", f"set {name} to {value}", call, (line,), _field(name)))
        return acts

    def devices_limited(self) -> list[Act]:
        """The device rules. They come last, because the child has to make its device nodes first."""
        rules = self.resources.get("devices") or []
        field = "linux.resources.devices"
        if self.unified:
            default, exceptions = devices.settle(list(rules))
            what = f"{'allow' if default else 'deny'} all devices but {len(exceptions)} kinds"
            program = "bpf(BPF_PROG_LOAD, {prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, …}); bpf(BPF_PROG_ATTACH, …)"
            return [Act("outside", what, program, field=field, note="v2 needs an eBPF program: no shell line does it")]
        folder = self.folder("devices")
        if not folder:
            return []
        calls: list[str] = []
        lines: list[str] = []
        for name, values in devices.writes_v1(list(rules)):
            for value in values:
                calls.append(f'write(open("{folder}/{name}", O_WRONLY), "{value}", {len(value)})')
                lines.append(f"{shell_words.put(value)} > {quote(f'{folder}/{name}')}")
        return [Act("outside", "say which devices may be used", "; ".join(calls), tuple(lines), field)]

    def joined(self, step: JoinCgroup, place: int) -> Act:
        """The step that waits for the cgroup. In a shell, a process joins it by writing 0 to cgroup.procs."""
        sentence, _, _ = step.describe()
        by_pid = self.systemd or (self._manager.rootless and not self.unified)
        file, what = ("cgroup.procs", "PID") if by_pid else ("tasks", '"0"')
        calls = [f'write(open("{path}/{file}", O_WRONLY), {what})' for key, path in self.paths.items() if key or by_pid]
        if "" in self.paths and not by_pid:
            calls.insert(0, f'clone3({{flags=CLONE_INTO_CGROUP|…, cgroup=open("{self.paths[""]}")}})')
        lines = [f"echo 0 > {quote(path + '/cgroup.procs')}" for path in self.paths.values()]
        if step.unshare:
            calls.append("unshare(CLONE_NEWCGROUP)")
            lines.append("exec unshare --cgroup sh …")
        return Act("inside", sentence, "; ".join(calls), tuple(lines), step.field, step=place)

    def mounted(self, step: MountCgroup, place: int) -> Act:
        """The step that mounts the container's cgroups in it."""
        sentence, _, _ = step.describe()
        target = shell_words.in_root(step.destination)
        words = shell_words.options(step.options)
        flags = mounts.flag_names(step.options.flags)
        options = shell_words.dash_o(words)
        if self.unified:
            call = f'mount("cgroup", "{step.destination}", "cgroup2", {flags}, NULL)'
            lines = [f"mkdir -p {target}", f"mount -t cgroup2 {options}cgroup {target}"]
            return Act("inside", sentence, call, tuple(lines), step.field, step=place)
        kept = ",".join(word for word in ("nosuid", "nodev", "noexec", "relatime") if word in words.split(","))
        top = ",".join(filter(None, dict.fromkeys([*kept.split(","), "nosuid", "nodev", "noexec", "mode=755"])))
        lines = [f"mkdir -p {target}", f"mount -t tmpfs -o {top},size=64k tmpfs {target}"]
        calls = [f'mount("tmpfs", "{step.destination}", "tmpfs", MS_NOSUID|MS_NODEV|MS_NOEXEC, "mode=755,size=64k")']
        attributes = shell_words.attributes(step.options)
        for name, data, host_path in self._manager.mounts():
            inside = shell_words.in_root(f"{step.destination}/{name}")
            lines.append(f"mkdir {inside}")
            if step.in_namespace and data:
                kind, extra = ("cgroup2", "") if data == "cgroup2" else ("cgroup", data)
                words = ",".join(filter(None, (shell_words.options(step.options), extra)))
                lines.append(f"mount -t {kind} {shell_words.dash_o(words)}cgroup {inside}")
                calls.append(f'mount("cgroup", "{step.destination}/{name}", "{kind}", {flags}, "{extra}")')
                continue
            host_path = host_path.removesuffix(self._free)
            lines.append(f"mount --rbind {quote(host_path)} {inside}")
            if attributes:
                lines.append(f"mount -o remount,bind,{attributes} {inside}")
            calls.append(f'move_mount(open_tree("{host_path}", OPEN_TREE_CLONE), "{step.destination}/{name}")')
        lines += [
            f"ln -s {quote(to)} {shell_words.in_root(f'{step.destination}/{link}')}"
            for link, to in self._manager.mount_links()
        ]
        if step.options.flags & mounts.MS_RDONLY:
            lines.append(f"mount -o remount,bind,ro {target}")
            calls.append(f'mount_setattr(root, "{step.destination}", 0, {{attr_set=MOUNT_ATTR_RDONLY}}, 32)')
        return Act("inside", sentence, "; ".join(calls), tuple(lines), step.field, step=place)

    def removed(self) -> list[str]:
        """Shell lines that remove the folders."""
        return [f"rmdir {quote(path)}" for path in self.paths.values()]


def known(spec: Spec, container_id: str, *, systemd: bool = False) -> "Cgroups | None":
    """The cgroups, or None if this host has none that we may use."""
    try:
        return Cgroups(spec, container_id, systemd=systemd)
    except CtkError:
        return None


def _field(name: str) -> str:
    if name in _FIELDS:
        return "linux.resources." + _FIELDS[name]
    family = name.partition(".")[0]
    field = {"blkio": "blockIO", "io": "blockIO", "hugetlb": "hugepageLimits"}.get(family)
    return "linux.resources." + field if field else f"linux.resources.unified[{name!r}]"


def _filled(path: str, mountpoint: str) -> list[str]:
    """A v1 cpuset accepts no process until it has CPUs and memory nodes: each new folder gets its parent's."""
    lines = []
    folder = mountpoint
    for part in path[len(mountpoint) :].strip("/").split("/"):
        for name in ("cpuset.cpus", "cpuset.mems"):
            file = quote(f"{folder}/{part}/{name}")
            above = quote(f"{folder}/{name}")
            lines.append(f'[ -n "$(cat {file})" ] || cat {above} > {file}')
        folder += "/" + part
    return lines
