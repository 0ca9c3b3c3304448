"""Edits of `linux.namespaces` and of the user namespace's mappings."""

from collections.abc import Sequence

from toolkit.bundle.document import Edit, Spec
from toolkit.errors import Usage

# config-linux.md, "Namespaces". The short names are those in /proc/PID/ns and in the options of engines.
TYPES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
_SHORT = {"net": "network", "mnt": "mount"}


def without(kind: str) -> Edit:
    """Remove `kind`: the container then shares that namespace with its creator."""

    def edit(spec: Spec) -> Spec:
        linux = spec.setdefault("linux", {})
        linux["namespaces"] = [ns for ns in linux.get("namespaces", []) if ns.get("type") != kind]
        return spec

    return edit


def with_namespace(kind: str, path: str = "") -> Edit:
    """A new namespace of `kind`, or the one at `path`."""
    entry = {"type": kind, "path": path} if path else {"type": kind}

    def edit(spec: Spec) -> Spec:
        known = spec.setdefault("linux", {}).setdefault("namespaces", [])
        at = next((index for index, ns in enumerate(known) if ns.get("type") == kind), len(known))
        known[at : at + 1] = [entry]
        return spec

    return edit


def parse_namespace(text: str) -> Edit:
    """--namespace TYPE (a new one), TYPE=host (the host's), TYPE=/path (the one at that path)."""
    kind, _, path = text.partition("=")
    kind = _SHORT.get(kind, kind)
    if kind not in TYPES or (path and path != "host" and not path.startswith("/")):
        hint = "for example net=/run/netns/blue, ipc=host or cgroup; types: " + " ".join(TYPES)
        raise Usage(f"read --namespace {text!r}", because="not TYPE, TYPE=host or TYPE=/path", hint=hint)
    return without(kind) if path == "host" else with_namespace(kind, path)


def mappings(field: str, texts: Sequence[str]) -> Edit:
    """`linux.uidMappings` or `linux.gidMappings` from CONTAINER:HOST:SIZE texts. Adds the user namespace."""
    entries = []
    for text in texts:
        parts = text.split(":")
        if len(parts) != 3 or not all(part.isdigit() for part in parts):
            option = "--uid-map" if field == "uidMappings" else "--gid-map"
            raise Usage(f"read {option} {text!r}", because="not CONTAINER:HOST:SIZE", hint="for example 0:100000:65536")
        container, host, size = (int(part) for part in parts)
        entries.append({"containerID": container, "hostID": host, "size": size})

    def edit(spec: Spec) -> Spec:
        spec.setdefault("linux", {})[field] = entries
        _without_unmapped(spec, field[:3], entries)
        return with_namespace("user")(spec)

    return edit


def _without_unmapped(spec: Spec, kind: str, entries: Sequence[dict[str, int]]) -> None:
    """Remove `gid=5` from devpts if the namespace has no such id: the mount would fail with EINVAL (kernel, devpts
    parse_mount_options). Terminals then get the group of the process that opens them, as in a user's default spec.
    """
    for mount in spec.get("mounts") or ():
        if mount.get("type") == "devpts":
            mount["options"] = [o for o in mount.get("options") or () if not _outside(o, kind, entries)]


def _outside(option: str, kind: str, entries: Sequence[dict[str, int]]) -> bool:
    name, _, number = option.partition("=")
    if name != kind or not (number.isascii() and number.isdigit()):
        return False
    return not any(0 <= int(number) - entry["containerID"] < entry["size"] for entry in entries)
