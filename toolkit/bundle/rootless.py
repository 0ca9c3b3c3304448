"""The spec of somebody who is not root: `ctk spec` as an ordinary user writes one that such a user can run.

Beside runc's rootless default (no network namespace, one id) it has the user's subordinate ids, where there are any,
and a network namespace of its own, as the spec for root has. Limits that no cgroup was delegated for are left out.
"""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from toolkit.bundle.document import Spec
from toolkit.events import Note
from toolkit.kernel import delegation, subids
from toolkit.kernel.host import HostFacts

if TYPE_CHECKING:
    from toolkit.bundle.build import SpecRequest

# config-linux.md, "Control groups": which controllers each part of linux.resources needs; one of them is enough.
_NEEDS = {
    "memory": ("memory",),
    "cpu": ("cpu", "cpuset"),
    "pids": ("pids",),
    "blockIO": ("io", "blkio"),
    "hugepageLimits": ("hugetlb",),
    "network": ("net_cls", "net_prio"),
    "rdma": ("rdma",),
    "devices": ("devices",),
}


def by_itself(request: "SpecRequest") -> bool:
    """Whether the spec becomes a rootless one without being asked: not for root, nor in the words of somebody's own."""
    return os.geteuid() != 0 and not (request.rootless or request.update)


def completed(request: "SpecRequest") -> "SpecRequest":
    """`request` as an ordinary user means it; what was said about namespaces and maps is kept."""
    network = () if request.share_net else ("network",)
    own_map = bool(request.uid_map or request.gid_map)
    return replace(request, rootless=True, userns=not own_map, namespace=(*network, *request.namespace))


def without_undelegated(spec: Spec) -> tuple[Spec, list[str]]:
    """`spec` (changed in place) without the limits that could not be set, and the names of those."""
    resources = spec.get("linux", {}).get("resources")
    if not resources:
        return spec, []
    there = set(delegation.controllers())
    left_out = [name for name in resources if name in _NEEDS and not there.intersection(_NEEDS[name])]
    if "unified" in resources and not there:
        left_out.append("unified")
    for name in left_out:
        del resources[name]
    if not resources:
        del spec["linux"]["resources"]
    return spec, left_out


def notes(request: "SpecRequest", left_out: list[str]) -> list[Note]:
    """What the reader should know about a spec that became rootless by itself."""
    own = subids.of_caller()[0]
    ids = f"and {sum(count for _, _, count in own[1:])} subordinate ids" if len(own) > 1 else "and there is no other id"
    network = "the host's network" if request.share_net else "a network of its own with only lo (or --share-net)"
    told = [Note(f"you are not root, so this is a rootless container: its root is you {ids}; {network}")]
    forbidden = HostFacts().user_namespaces
    if forbidden:
        told.append(Note(f"this host will not let you run it: {forbidden}; see `ctk doctor`", warning=True))
    if left_out:
        words = ", ".join(left_out)
        told.append(Note(f"left out the limits of {words}: no cgroup for them is delegated to you", warning=True))
    return told
