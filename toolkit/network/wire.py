"""The messages that wire a container up, in order, and each as the line of `ip` that does the same. Pure.

A veth's peer is born in the container's namespace, with its name and address: nothing is moved or renamed, and no name
of the host's is in the way. The namespace is not pinned, so that the kernel takes all of it when the container ends.
"""

from toolkit.kernel import rtnetlink
from toolkit.kernel.netlink import attribute, text, u32
from toolkit.network import model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.netlink import Message
    from toolkit.network.leases import Lease
    from toolkit.network.model import Network

INSIDE = "eth0"
_INDEX = 2
"""Of the container's link: its first after `lo`, which is 1."""


class Step:
    """A message, the line that does the same, and what it is for, in words."""

    __slots__ = ("line", "message", "why")

    def __init__(self, message: "Message", line: str, why: str) -> None:
        self.message, self.line, self.why = message, line, why


def outside(
    network: "Network", lease: "Lease", *, bridge: int, mtu: int, namespace: int, pid: "int | str"
) -> "list[Step]":
    """What is sent in the host's namespace, one after the other: the second must not follow if the first fails.

    `bridge`: the index of the network's; `namespace`: a descriptor of the container's, whose process is `pid`.
    """
    port = model.port_link(lease.address)
    size = attribute(rtnetlink.IFLA_MTU, u32(mtu))
    peer = rtnetlink.veth_peer(
        attribute(rtnetlink.IFLA_IFNAME, text(INSIDE)),
        size,
        attribute(rtnetlink.IFLA_ADDRESS, lease.ethernet),
        attribute(rtnetlink.IFLA_NET_NS_FD, u32(namespace)),
        index=_INDEX,
    )
    master = attribute(rtnetlink.IFLA_MASTER, u32(bridge))
    return [
        Step(
            rtnetlink.new_link("veth", port, size, master, data=(peer,)),
            f"ip link add {port} mtu {mtu} master {network.link} up type veth "
            f"peer name {INSIDE} mtu {mtu} address {lease.ethernet.hex(':')} netns {pid}",
            f"join the bridge {network.link} and the container by a cable (veth): {port} here, {INSIDE} there",
        ),
        # A container that asks for its own published port gets the packet back by the port that it came in at.
        Step(
            rtnetlink.hairpin(port),
            f"bridge link set dev {port} hairpin on",
            "let the bridge send out at a port what came in at it: its own published port, asked for by the container",
        ),
    ]


def inside(network: "Network", lease: "Lease", pid: "int | str") -> "list[Step]":
    """What is sent in the container's namespace, in one write."""
    address, gateway = model.packed(lease.address), model.packed(network.gateway)
    subnet = network.subnet
    there = f"nsenter --net=/proc/{pid}/ns/net ip"
    steps = [
        Step(
            rtnetlink.link(rtnetlink.NEWLINK, 0, index=_INDEX, up=True),
            f"{there} link set {INSIDE} up",
            "switch the container's end on",
        ),
        Step(
            rtnetlink.address(_INDEX, address, subnet.prefix, broadcast=model.packed(subnet.last)),
            f"{there} address add {model.shown(lease.address)}/{subnet.prefix} broadcast + dev {INSIDE}",
            "give it its address",
        ),
    ]
    if not network.internal:
        way = rtnetlink.default_route(_INDEX, gateway)
        line = f"{there} route add default via {model.shown(network.gateway)}"
        steps.append(Step(way, line, "the way out: by the bridge"))
    return steps
