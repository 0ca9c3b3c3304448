"""What `run --net` and `-p` do, as acts of a launch: each message as the line of `ip` or `nft` that does the same."""

import os

from toolkit import places
from toolkit.errors import NotFound
from toolkit.explain.act import Act
from toolkit.network import attach, leases, model, table, wire
from toolkit.network.leases import Holder
from toolkit.network.store import Store
from toolkit.runtime.comfort.networks import Networking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.network.leases import Lease
    from toolkit.network.model import Network
    from toolkit.runtime.options import Options

_PID = "$PID"
_MTU = 1500


def asked(options: "Options") -> Networking | None:
    """What the options of a `run` ask for; None if that is nothing. Raises Usage, HostLacks, NotFound."""
    return Networking(options, {}) if options.net or options.publish else None


def acts(asked: Networking, container_id: str) -> list[Act]:
    """The acts that put the container on its network; none if it is on none of ctk's.

    The address is the one that it would get now, and a port that is to be any free one is shown as 0.
    """
    if asked.choice.kind != "network":
        return []
    network, lease = _preview(asked, container_id)
    lines = [(table.BRIDGE_TABLE.told("add", one), _SPEAKS) for one in attach.owned(lease)]
    lines += [(table.INET_TABLE.told("create", one), _LEADS) for one in attach.published(lease)]
    found = [Act("outside", why, "sendto({nlmsg_type=NFT_MSG_NEWSETELEM})", (line,)) for line, why in lines]
    steps = wire.outside(network, lease, bridge=0, mtu=network.mtu or _MTU, namespace=0, pid=_PID)
    for step in (*steps, *wire.inside(network, lease, _PID)):
        name = _NAMES[step.message.kind]
        found.append(Act("outside", step.why, f"sendto({{nlmsg_type={name}}})", (step.line,)))
    return found


_SPEAKS = "let only this container speak from its addresses (nftables)"
_LEADS = "let a port of the host lead to the container (nftables)"
_NAMES = {16: "RTM_NEWLINK", 20: "RTM_NEWADDR", 24: "RTM_NEWROUTE"}


def _preview(asked: Networking, container_id: str) -> "tuple[Network, Lease]":
    network, held = None, []
    if os.path.isdir(places.network_store()):  # an explanation makes nothing
        with Store() as store:
            network = store.find(asked.choice.name)
            held = store.leases()
    if network is None and asked.choice.name != model.DEFAULT:
        raise NotFound(f"find network {asked.choice.name!r}", because="there is no such network")
    if network is None:
        subnet = model.Subnet.parse("10.89.0.0/24")
        network = model.Network(model.DEFAULT, model.link_of(model.DEFAULT), subnet, subnet.first + 1)
    lease = leases.take(held, network, Holder("", container_id, 0, 0, ""), asked.choice.address)
    lease.ethernet = asked.choice.ethernet or lease.ethernet
    lease.ports = list(asked.ports)
    return network, lease
