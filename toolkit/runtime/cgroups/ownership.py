"""The owner of a container's v2 cgroup (runtime spec, config-linux.md, "Cgroup ownership"). Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.oci.types import Spec


def owner(spec: "Spec") -> int:
    """The uid on the host that gets the container's cgroup; -1 if it stays with the host's root.

    It is given to the container's user if the container can use this cgroup and no other: with a cgroup namespace of
    its own and cgroups mounted writable. Then a systemd in the container can make cgroups below its own.
    """
    namespaces = {entry.get("type"): entry.get("path") for entry in (spec.get("linux") or {}).get("namespaces") or ()}
    if namespaces.get("cgroup", "x"):
        return -1
    if not any(
        mount.get("type") in ("cgroup", "cgroup2") and "ro" not in (mount.get("options") or ())
        for mount in spec.get("mounts") or ()
    ):
        return -1
    uid = int(((spec.get("process") or {}).get("user") or {}).get("uid") or 0)
    if "user" not in namespaces:
        return uid
    for entry in (spec.get("linux") or {}).get("uidMappings") or ():
        if entry["containerID"] <= uid < entry["containerID"] + entry["size"]:
            return int(entry["hostID"] + uid - entry["containerID"])
    return -1
