"""Rules for the `linux` part of a spec: namespaces, ids, devices, sysctls, paths, and which fields go together."""

from toolkit.oci.check_process import id_mappings, is_number_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.oci.check import Report

    Spec = dict[str, Any]

NAMESPACES = ("cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts")
PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"))
MEMORY_POLICIES = (
    "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
)  # fmt: skip
MEMORY_FLAGS = ("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES")
_IPC_SYSCTLS = frozenset(
    (
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
        "kernel.shmmni", "kernel.shm_rmid_forced",
    )
)  # fmt: skip


def _has(linux: "Spec", kind: str) -> bool:
    return any(entry.get("type") == kind for entry in linux.get("namespaces") or ())


def _path(linux: "Spec", kind: str) -> str:
    return next((entry.get("path") or "" for entry in linux.get("namespaces") or () if entry.get("type") == kind), "")


def _add(kind: str) -> str:
    return f'add {{"type": "{kind}"}} to linux.namespaces'


def namespaces(spec: "Spec", report: "Report") -> None:
    """Known types, each once, absolute paths (config-linux.md, "Namespaces")."""
    seen = set()
    for index, entry in enumerate(spec["linux"].get("namespaces") or ()):
        kind = entry.get("type") or ""
        where = f"linux.namespaces[{index}]"
        if kind not in NAMESPACES:
            report(
                where + ".type",
                f"{kind!r} is not one of {', '.join(NAMESPACES)}" if kind else "is required",
                code="E105",
            )
        elif kind in seen:
            report(where + ".type", f"{kind!r} is given twice", code="E107")
        seen.add(kind)
        path = entry.get("path")
        if path and path[0] != "/":
            report(where + ".path", f"{path!r} is not an absolute path", code="E106")


def mappings(spec: "Spec", report: "Report") -> None:
    """Id mappings: only with a new user namespace, and then they should be there."""
    linux = spec["linux"]
    given = [name for name in ("uidMappings", "gidMappings") if linux.get(name)]
    for name in given:
        id_mappings(linux[name], "linux." + name, report)
    if not _has(linux, "user"):
        for name in given:
            report("linux." + name, "needs a user namespace", hint=_add("user"), code="E112")
    elif _path(linux, "user"):
        for name in given:
            report("linux." + name, "a user namespace joined by path has its mappings already", code="E114")
    elif not given:
        report(
            "linux.uidMappings",
            "is missing for a new user namespace: root will be the caller, the other ids the caller's subordinate ones",
            hint='write "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}], and gidMappings',
            warning=True,
            code="W125",
        )


def time_offsets(spec: "Spec", report: "Report") -> None:
    """timeOffsets: only for the two clocks of time_namespaces(7), and only with a new time namespace."""
    linux = spec["linux"]
    offsets = linux.get("timeOffsets")
    if not offsets:
        return
    for clock, offset in offsets.items():
        if clock not in ("monotonic", "boottime"):
            report("linux.timeOffsets", f"{clock!r} is neither monotonic nor boottime", code="E105")
        elif offset and (offset.get("nanosecs") or 0) > 999_999_999:
            report(
                f"linux.timeOffsets[{clock!r}].nanosecs", f"{offset['nanosecs']} is more than 999999999", code="E108"
            )
    if not _has(linux, "time"):
        report("linux.timeOffsets", "needs a time namespace", hint=_add("time"), code="E112")
    elif _path(linux, "time"):
        report("linux.timeOffsets", "a time namespace joined by path has its offsets already", code="E114")


def devices(spec: "Spec", report: "Report") -> None:
    """Devices: type and absolute path (config-linux.md, "Devices")."""
    for index, device in enumerate(spec["linux"].get("devices") or ()):
        where = f"linux.devices[{index}]"
        kind = device.get("type") or ""
        if kind not in ("b", "c", "u", "p"):
            report(where + ".type", f"{kind!r} is not one of b, c, u, p" if kind else "is required", code="E105")
        path = device.get("path")
        if not path:
            report(where + ".path", "is required", code="E104")
        elif path[0] != "/":
            report(where + ".path", f"{path!r} is not an absolute path", code="E106")
        if kind != "p":
            # makedev(3): 12 bits of major and 20 of minor in the kernel's dev_t.
            for name, limit in (("major", 0xFFF), ("minor", 0xFFFFF)):
                if not 0 <= (device.get(name) or 0) <= limit:
                    report(f"{where}.{name}", f"{device[name]} is out of range (0 to {limit})", code="E108")


def sysctls(spec: "Spec", report: "Report") -> None:
    """sysctl: only names that belong to a namespace of the container's own; any other would change the host."""
    linux = spec["linux"]
    for name, value in (linux.get("sysctl") or {}).items():
        _sysctl(name, linux, f"linux.sysctl[{name!r}]", report)
        domain = spec.get("domainname")
        if domain and value != domain and sysctl_parts(name) == ["kernel", "domainname"]:
            report(
                f"linux.sysctl[{name!r}]", f"{value!r} is not what the field `domainname` says: {domain!r}", code="E115"
            )


def _sysctl(name: str, linux: "Spec", where: str, report: "Report") -> None:
    parts = sysctl_parts(name)
    if len(parts) < 2 or any(part in ("", ".", "..") or "/" in part for part in parts):
        report(where, "is not the name of a sysctl", code="E109")
        return
    needed = sysctl_namespace(parts)
    if parts == ["kernel", "hostname"]:
        report(where, "the field `hostname` sets it", code="E113")
    elif not needed:
        report(where, "is not in a separate kernel namespace: it would change the host's", code="E113")
    elif not _has(linux, needed):
        report(
            where,
            f"is not allowed without a {needed} namespace: it would change the host's",
            hint=_add(needed),
            code="E112",
        )


def sysctl_namespace(parts: "list[str]") -> str:
    """The kind of namespace that a sysctl belongs to, "" if it is host-wide. `parts` come from `sysctl_parts`."""
    dotted = ".".join(parts)
    if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
        return "ipc"
    return {"net": "network", "user": "user"}.get(parts[0]) or ("uts" if dotted == "kernel.domainname" else "")


def sysctl_parts(name: str) -> "list[str]":
    """The components of a sysctl's path below /proc/sys.

    The first separator decides (sysctl.d(5)): `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding`
    are the same.
    """
    dot, slash = name.find("."), name.find("/")
    if slash < 0 or 0 <= dot < slash:
        return [part.replace("/", ".") for part in name.split(".")]
    return name.split("/")


def mount_label(spec: "Spec", report: "Report") -> None:
    """mountLabel: the kernel gets it in quotes, among the mount's other options (config-linux.md, "Mount Label")."""
    given = spec["linux"].get("mountLabel")
    if given and set(given) & set('"\\\n\0'):
        report("linux.mountLabel", f"{given!r} is not an SELinux context", code="E109")


def paths(spec: "Spec", report: "Report") -> None:
    """maskedPaths and readonlyPaths: absolute, and in a mount namespace of the container's own."""
    linux = spec["linux"]
    for name in ("maskedPaths", "readonlyPaths"):
        given = linux.get(name) or ()
        for index, path in enumerate(given):
            if path[:1] != "/":
                report(f"linux.{name}[{index}]", f"{path!r} is not an absolute path", code="E106")
        if given and not _has(linux, "mount"):
            report(f"linux.{name}", "needs a mount namespace", hint=_add("mount"), code="E112")


def propagation(spec: "Spec", report: "Report") -> None:
    """rootfsPropagation: one of mount(2)'s types."""
    given = spec["linux"].get("rootfsPropagation")
    if given and given not in PROPAGATIONS:
        report("linux.rootfsPropagation", f"{given!r} is not one of {', '.join(sorted(PROPAGATIONS))}", code="E105")


def cgroups_path(spec: "Spec", report: "Report") -> None:
    """cgroupsPath: must not leave its parent (no `..`)."""
    given = spec["linux"].get("cgroupsPath")
    if given and ".." in given.split("/"):
        report("linux.cgroupsPath", f"{given!r} has a `..` component", code="E119")


def personality(spec: "Spec", report: "Report") -> None:
    """personality: two domains, and no flags are defined yet (config-linux.md, "Personality")."""
    given = spec["linux"].get("personality")
    if given is not None:
        if given.get("domain") not in ("LINUX", "LINUX32"):
            report("linux.personality.domain", f"{given.get('domain')!r} is neither LINUX nor LINUX32", code="E105")
        if given.get("flags"):
            report("linux.personality.flags", "no flags are defined", code="E115")


def memory_policy(spec: "Spec", report: "Report") -> None:
    """memoryPolicy: set_mempolicy(2)."""
    given = spec["linux"].get("memoryPolicy")
    if given is None:
        return
    mode = given.get("mode") or ""
    nodes = given.get("nodes") or ""
    if mode not in MEMORY_POLICIES:
        known = ", ".join(MEMORY_POLICIES)
        report(
            "linux.memoryPolicy.mode", f"invalid memory policy mode {mode!r}: it must be one of {known}", code="E105"
        )
    elif mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if nodes:
            report(
                "linux.memoryPolicy.nodes", f"{mode}: this mode requires 0 nodes but got {_count(nodes)}", code="E115"
            )
    elif not nodes and mode != "MPOL_PREFERRED":
        report("linux.memoryPolicy.nodes", f"{mode} needs nodes", code="E115")
    if nodes and not is_number_list(nodes):
        report(
            "linux.memoryPolicy.nodes", f"invalid memory policy nodes {nodes!r}", hint="write it as 0-3,7", code="E109"
        )
    flags = given.get("flags") or ()
    for index, flag in enumerate(flags):
        if flag not in MEMORY_FLAGS:
            message = f"invalid memory policy flag {flag!r}: it must be one of {', '.join(MEMORY_FLAGS)}"
            report(f"linux.memoryPolicy.flags[{index}]", message, code="E105")
    if "MPOL_F_RELATIVE_NODES" in flags and "MPOL_F_STATIC_NODES" in flags:
        report(
            "linux.memoryPolicy.flags", "MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES exclude each other", code="E115"
        )


def _count(nodes: str) -> int:
    """How many numbers such a list contains; 0 if it is not a list of numbers."""
    if not is_number_list(nodes):
        return 0
    total = 0
    for part in nodes.split(","):
        low, _, high = part.partition("-")
        total += int(high or low) - int(low) + 1
    return total


def intel_rdt(spec: "Spec", report: "Report") -> None:
    """intelRdt.closID is the name of a folder below resctrl (config-linux.md, "IntelRdt")."""
    identity = (spec["linux"].get("intelRdt") or {}).get("closID")
    if identity is not None and (identity in ("", ".", "..") or "/" in identity or "\n" in identity):
        report("linux.intelRdt.closID", f"{identity!r} is not a name", code="E109")


def deadline_and_cpus(spec: "Spec", report: "Report") -> None:
    """SCHED_DEADLINE requires that all cpus of the machine are allowed (sched_setattr(2), EPERM)."""
    scheduler = (spec.get("process") or {}).get("scheduler") or {}
    cpus = ((spec["linux"].get("resources") or {}).get("cpu") or {}).get("cpus")
    if scheduler.get("policy") == "SCHED_DEADLINE" and cpus:
        message = f"process scheduler can't be used together with AllowedCPUs ({cpus})"
        report("process.scheduler.policy", message, hint="remove linux.resources.cpu.cpus", code="E115")


def net_devices(spec: "Spec", report: "Report") -> None:
    """netDevices: names of interfaces (netdevice(7): 15 bytes), with a network namespace."""
    linux = spec["linux"]
    given = linux.get("netDevices")
    if not given:
        return
    targets: set[str] = set()
    for name, device in given.items():
        target = (device or {}).get("name") or name
        for interface in (name, target):
            if not 0 < len(interface.encode()) < 16 or interface in (".", "..") or set(interface) & set("/: \t\n"):
                report(
                    f"linux.netDevices[{name!r}]", f"{interface!r} is not the name of a network interface", code="E109"
                )
                break
        if target in targets:
            report(f"linux.netDevices[{name!r}].name", f"{target!r} is given twice", code="E107")
        targets.add(target)
    if not _has(linux, "network"):
        report("linux.netDevices", "needs a network namespace", hint=_add("network"), code="E112")


def resources(spec: "Spec", report: "Report") -> None:
    """resources, in check_resources.py."""
    given = spec["linux"].get("resources")
    if given:
        from toolkit.oci.check_resources import resources as check

        check(given, "linux.resources.", report)


def seccomp(spec: "Spec", report: "Report") -> None:
    """seccomp, in check_seccomp.py."""
    given = spec["linux"].get("seccomp")
    if given is not None:
        from toolkit.oci.check_seccomp import seccomp as check

        check(given, report)


RULES = (
    namespaces, mappings, time_offsets, devices, sysctls, mount_label, paths, propagation, cgroups_path, personality,
    memory_policy, deadline_and_cpus, intel_rdt, net_devices, resources, seccomp,
)  # fmt: skip
