"""Control groups: one interface over v1, hybrid and v2, cgroupfs and systemd.

    parent                                       child
    m = manager(path, id, systemd=…, rootless=…)
    m.create(), m.entry(), clone3                joins by the entry
    m.join(pid)          without an entry        waits, then unshares its cgroup namespace; m.mounts()
    m.apply(resources)                           has made its device nodes
    m.apply_devices(rules)                       goes on to its program
    record m.facts()     later: from_facts(facts).pids(), freeze(), update(…), kill(), delete(), …

`apply` comes late on purpose: a memory limit that is enough for the container's program can be too low for the
interpreter that sets it up. The methods are documented at `interface.Manager`, which all managers satisfy.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.cgroups.interface import Files
    from toolkit.runtime.cgroups.interface import Manager as Manager


def manager(
    cgroups_path: "str | None",
    container_id: str,
    *,
    systemd: bool = False,
    rootless: bool = False,
    annotations: "dict[str, str] | None" = None,
) -> "Manager":
    """The manager of a container's cgroups; it does not make any yet.

    `cgroups_path` is the spec's linux.cgroupsPath: below the mount if absolute, below the caller's own cgroup (v2:
    beside it) if relative or absent (then it is the id); with `systemd` it is 'slice:prefix:name'. The annotations
    'org.systemd.property.*' are properties of the unit. Raises Invalid, InUse (it has processes), HostLacks.
    """
    from toolkit.runtime.cgroups import layout

    found = layout.hierarchies()
    if systemd:
        from toolkit.runtime.cgroups import systemd as driver

        return driver.make(found, cgroups_path, container_id, rootless=rootless, annotations=annotations or {})
    if layout.is_v2(found):
        from toolkit.runtime.cgroups import v2

        _, mountpoint, mounted = found[0]
        return v2.make(mountpoint, mounted, cgroups_path, container_id, rootless=rootless)
    from toolkit.runtime.cgroups import v1

    if not found:
        if not rootless:
            raise layout.nothing_mounted()
        return v1.Manager({}, rootless=True, optional=True)
    return v1.make(found, cgroups_path, container_id, rootless=rootless)


def none() -> "Manager":
    """A manager that has no cgroups and makes none (`--cgroup-manager disabled`)."""
    from toolkit.runtime.cgroups import v1

    return v1.Manager({}, optional=True)


def from_facts(facts: "dict[str, Any]") -> "Manager":
    """The manager of an existing container, from the result of its `facts()`. Raises Invalid for anything else."""
    try:
        return _from_facts(facts)
    except (KeyError, TypeError, ValueError, AttributeError):
        from toolkit.errors import Invalid

        raise Invalid("cgroups", "not facts about cgroups", document="state.json") from None


def _from_facts(facts: "dict[str, Any]") -> "Manager":
    if facts.get("driver") == "systemd":
        from toolkit.runtime.cgroups import systemd as driver

        return driver.from_facts(facts, _files_from_facts(facts["inner"]))
    return _files_from_facts(facts)


def _files_from_facts(facts: "dict[str, Any]") -> "Files":
    if facts.get("driver") == "systemd":
        raise ValueError("a unit inside a unit's facts")
    rootless = bool(facts.get("rootless"))
    if facts.get("version") == 2:
        from toolkit.runtime.cgroups import v2

        return v2.Manager(facts["path"], mount=facts["mount"], rootless=rootless)
    from toolkit.runtime.cgroups import v1

    paths = dict(facts.get("paths") or {})
    for path in paths.values():
        if path[:1] != "/":
            raise ValueError(path)
    return v1.Manager(paths, rootless=rootless)
