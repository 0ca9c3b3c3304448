"""The cgroup controllers that an ordinary user can set limits with: those of the cgroups delegated to the user.

runtime/cgroups decides where a container of ours goes: beside the caller's own cgroup on v2, below it on v1. So that
is where the user must be able to write (cgroups(7), "Cgroup delegation").
"""

import os

from toolkit.kernel import mountinfo
from toolkit.kernel.host import read


def controllers() -> "tuple[str, ...]":
    """The controllers that the caller can limit a new container with, sorted; all of the host's for root."""
    return tuple(sorted(found(mountinfo.read(), mountinfo.read("/proc/self/cgroup"))))


def found(table: str, own: str) -> "set[str]":
    """The same from the texts of mountinfo and cgroup (proc(5)); asks the kernel only which folders are writable."""
    paths = {}
    for line in own.rstrip("\n").split("\n"):
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        paths[names] = path
    usable: set[str] = set()
    for _, _, shown, mountpoint, _, kind, _, rest in mountinfo.mounts(table):
        if kind not in ("cgroup", "cgroup2"):
            continue
        if kind == "cgroup2":
            folder = visible(mountpoint, shown, paths.get("", "/"))
            beside = os.path.dirname(folder) if folder != mountpoint else folder
            if _writable(beside):
                usable.update(read(beside + "/cgroup.controllers").split())
            continue
        options = rest.split(",")
        for names, path in paths.items():
            if names and set(names.split(",")) <= set(options) and _writable(visible(mountpoint, shown, path)):
                usable.update(names.split(","))
    return {name for name in usable if not name.startswith("name=")}


def _writable(folder: str) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder + "/cgroup.procs", os.W_OK)


def visible(mountpoint: str, shown: str, path: str) -> str:
    """The path of the cgroup `path` below a mount whose root is the cgroup `shown`."""
    inside = path if shown == "/" else path[len(shown) :] if path.startswith(shown + "/") else ""
    if ".." in inside.split("/"):
        inside = ""
    return (mountpoint + inside).rstrip("/")
