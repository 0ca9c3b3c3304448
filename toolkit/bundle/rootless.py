"""The rootless spec: run by an ordinary user, `ctk spec` writes a spec that this user can run.

In contrast to runc's rootless default (no network namespace, one id) it maps the user's subordinate ids, if there are
any, and has a network namespace of its own, like the spec for root. Limits without a delegated cgroup are left out.
"""

import os
from typing import TYPE_CHECKING

from toolkit.bundle.document import Spec
from toolkit.events import Note
from toolkit.kernel import delegation, subids
from toolkit.kernel.host import HostFacts

if TYPE_CHECKING:
    from toolkit.bundle.build import SpecRequest

# config-linux.md, "Control groups": the controllers for each part of linux.resources, any of which is enough.
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
    """Whether the spec becomes rootless by default: not for root, nor with --rootless or --update."""
    return os.geteuid() != 0 and not (request.rootless or request.update)


def completed(request: "SpecRequest") -> "SpecRequest":
    """`request` with the defaults for an ordinary user. Requested namespaces and mappings are kept."""
    network = () if request.share_net else ("network",)
    own_map = bool(request.uid_map or request.gid_map)
    return request._replace(rootless=True, userns=not own_map, namespace=(*network, *request.namespace))


def without_undelegated(spec: Spec) -> tuple[Spec, list[str]]:
    """`spec` (changed in place) without the limits that can't be set, and the names of these."""
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
    """Notes for the user about a spec that is rootless by default."""
    own = subids.of_caller()[0]
    ids = f"and {sum(count for _, _, count in own[1:])} subordinate ids" if len(own) > 1 else "and there is no other id"
    network = "the host's network" if request.share_net else "a network of its own with only lo (or --share-net)"
    found = [Note(f"you are not root, so this is a rootless container: its root is you {ids}; {network}")]
    forbidden = HostFacts().user_namespaces
    if forbidden:
        found.append(Note(f"this host will not let you run it: {forbidden}; see `ctk doctor`", warning=True))
    if left_out:
        words = ", ".join(left_out)
        found.append(Note(f"left out the limits of {words}: no cgroup for them is delegated to you", warning=True))
    return found
