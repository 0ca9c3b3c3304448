"""Networks by hand: made, listed, looked at, removed. A network's bridge is made when a container first needs it."""

import time

from toolkit.errors import CtkError, InUse, Usage
from toolkit.kernel import netlink, process
from toolkit.network import attach, bridge, leases, model, table
from toolkit.network.store import Store
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from toolkit.network.leases import Lease
    from toolkit.network.model import Network, Subnet

_MTUS = range(68, 65536)  # RFC 791; the bridge driver's own limit


def create(
    name: str,
    *,
    subnet: str = "",
    gateway: str = "",
    internal: bool = False,
    mtu: int = 0,
    labels: "Sequence[str]" = (),
) -> "Network":
    """A new network; without `subnet` the first free one. Raises Usage, InUse (the name, the addresses)."""
    doing = f"make network {name!r}"
    model.check_name(name)
    if mtu and mtu not in _MTUS:
        raise Usage(doing, because=f"an MTU of {mtu} bytes is not from {_MTUS[0]} to {_MTUS[-1]}")
    marks = {}
    for one in labels:
        key, equals, value = one.partition("=")
        if not key or not equals:
            raise Usage(doing, because=f"the label {one!r} is not NAME=VALUE")
        marks[key] = value
    with Store() as store, netlink.Socket() as route:
        others = store.networks()
        for other in others:
            if other.name == name:
                raise InUse(doing, because="there is one of that name", hint=f"ctk network inspect {quote(name)}")
            if other.link == model.link_of(name):
                because = f"its bridge would have the name of that of {other.name!r}, {other.link}"
                raise InUse(doing, because=because, hint="choose another name")
        found = _parsed(doing, subnet) if subnet else bridge.free_subnet(route, others)
        network = model.Network(name, model.link_of(name), found, _gateway(doing, gateway, found))
        model.check_subnet(found, network.gateway)
        _refuse_overlap(doing, found, route, others)
        network.internal, network.mtu, network.labels = internal, mtu, marks
        network.created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        store.save(network)
    return network


def _parsed(doing: str, text: str) -> "Subnet":
    try:
        return model.Subnet.parse(text)
    except ValueError as error:
        raise Usage(doing, because=str(error), hint="--subnet 10.90.0.0/24") from None


def _refuse_overlap(doing: str, subnet: "Subnet", route: "netlink.Socket", others: "Sequence[Network]") -> None:
    in_the_way = [(other.subnet, f"network {other.name!r} ({other.subnet})") for other in others]
    for one, what in (*in_the_way, *bridge.taken(route)):
        if one.overlaps(subnet):
            hint = "choose another one, or none: ctk then takes one that is free"
            raise InUse(doing, because=f"{what} is in the way of {subnet}", hint=hint)


def _gateway(doing: str, text: str, subnet: "Subnet") -> int:
    try:
        return model.number(text) if text else subnet.first + 1
    except ValueError as error:
        raise Usage(doing, because=str(error), hint=f"--gateway {model.shown(subnet.first + 1)}") from None


class Used:
    """A network, and the leases of it whose containers live."""

    def __init__(self, network: "Network", living: "list[Lease]") -> None:
        self.network, self.living = network, living

    def as_json(self) -> "dict[str, Any]":
        """For programs."""
        containers = [
            {
                "id": one.holder.id,
                "address": model.shown(one.address),
                "ethernet": one.ethernet.hex(":"),
                "link": model.port_link(one.address),
                "pid": one.holder.pid,
                "ports": one.ports,
            }
            for one in self.living
        ]
        return {**self.network.document(), "containers": containers}


def listing() -> "list[Used]":
    """All networks, by name."""
    boot = process.boot_id()
    with Store() as store:
        living = [one for one in store.leases() if leases.alive(one, boot)]
        return [Used(one, _of(one, living)) for one in store.networks()]


def one(name: str) -> Used:
    """One network. Raises NotFound."""
    boot = process.boot_id()
    with Store() as store:
        network = store.get(name)
        return Used(network, [one for one in _of(network, store.leases()) if leases.alive(one, boot)])


def _of(network: "Network", held: "list[Lease]") -> "list[Lease]":
    return [one for one in held if one.network == network.name]


def remove(name: str) -> None:
    """Remove a network: what led to it, its bridge, its leases, its file. Raises NotFound, InUse (containers on it)."""
    with Store() as store:
        network = store.get(name)
        boot = process.boot_id()
        living = [one.holder.id for one in _of(network, store.leases()) if leases.alive(one, boot)]
        if living:
            some = ", ".join(map(repr, living[:5])) + (f" and {len(living) - 5} more" if len(living) > 5 else "")
            hint = f"end them first: ctk stop {quote(living[0])}"
            raise InUse(f"remove network {name!r}", because=f"it has containers: {some}", hint=hint)
        _take_away(store, network)


def _take_away(store: Store, network: "Network") -> None:
    """Each step may have been done before, by a removal that was killed: the file goes last."""
    every = store.leases()
    attach.drop(store, every, [one for one in _of(network, every) if one.holder.pid])
    with netlink.Socket(netlink.NETFILTER) as nftables, netlink.Socket() as route:
        mine = bridge.elements(network)
        if attach.present(nftables, mine[0]):  # they are set together
            nftables.commit(table.INET_TABLE.drop(mine))
        bridge.remove_ours(route, network.link, store.folder)
    store.keep([one for one in store.leases() if one.network != network.name])
    store.forget(network.name)


def prune() -> "tuple[list[str], int]":
    """Remove the networks without living containers, but the default one, and what killed containers left in the
    tables. Returns the names, and of how many containers something was removed.
    """
    boot = process.boot_id()
    with Store() as store:
        every = store.leases()
        dead = [one for one in every if one.holder.pid and not leases.alive(one, boot)]
        attach.drop(store, every, dead)
        used = {one.network for one in every if one.holder.pid}
        idle = [one for one in store.networks() if one.name not in used and one.name != model.DEFAULT]
        for network in idle:
            _take_away(store, network)
    return [one.name for one in idle], len(dead)


def reload() -> None:
    """Make the tables again, with all that belongs in them: after a firewall flushed them. Raises CtkError."""
    attach.fill(process.boot_id())


def ports(facts: "Any") -> "list[tuple[str, str, str]]":
    """What a record keeps of its networks, as (the container's port, the host's, who reaches it). Raises CtkError."""
    found = []
    try:
        for network in facts or ():
            for one in network.get("ports") or ():
                host = str(one["host"])
                who = "this host" if host.startswith("127.") else "everybody who reaches this host"
                outer = f"{host or model.ANY}:{int(one['port'])}"
                found.append((f"{int(one['inner'])}/{one['protocol']}", outer, who))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CtkError("read the ports of a container", because="its record is damaged") from None
    return found
