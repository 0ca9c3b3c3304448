"""Put a container on a network, and take it off: leases, elements of the tables, links.

The order makes every kill harmless. The lease is written first, with its ports; then the elements are set in one
transaction, then the links are made. Killed anywhere, the container's process ends, the kernel takes its links, and the
lease is a dead one: whoever gets its address, or one of its ports, removes its elements in the same transaction.
"""

import errno
import os

from toolkit.errors import CtkError, SystemCall, Usage, reason
from toolkit.kernel import namespaces, netlink, process
from toolkit.network import bridge, host_ports, leases, model, nft, table, wire
from toolkit.network.leases import Holder, Lease
from toolkit.network.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from toolkit.kernel.netlink import Message, Socket
    from toolkit.network.bridge import Bridge
    from toolkit.network.model import Choice, Network, Published
    from toolkit.network.nft import Element


class Attached:
    """A container on a network: what is kept of it in its record."""

    def __init__(self, network: "Network", lease: Lease) -> None:
        self.network, self.lease = network, lease

    def facts(self) -> "dict[str, Any]":
        """As JSON has it."""
        return {
            "network": self.network.name,
            "bridge": self.network.link,
            "link": model.port_link(self.lease.address),
            "address": f"{model.shown(self.lease.address)}/{self.network.subnet.prefix}",
            "gateway": "" if self.network.internal else model.shown(self.network.gateway),
            "ethernet": self.lease.ethernet.hex(":"),
            "ports": self.lease.ports,
        }


def attach(
    choice: "Choice", ports: "Sequence[Published]", holder: Holder, namespace: str, passed: "Callable[[], None]"
) -> Attached:
    """Put the container of `holder` on the network that `choice` names; `namespace` is the path of its own.

    The default network is made if there is none. `passed` is called between two changes of anything (stops.py). All
    or nothing. Raises InUse (an address, a port, a subnet), NotFound, HostLacks, SystemCall, CtkError.
    """
    route, nftables = netlink.Socket(), netlink.Socket(netlink.NETFILTER)
    with route, nftables:
        with Store() as store:
            network = store.get(choice.name) if choice.name != model.DEFAULT else _default(store, route)
            if network.internal and ports:
                because = "nobody outside can reach it: it is internal"
                raise CtkError(f"publish a port of network {network.name!r}", because=because)
            passed()
            on, first = stand(store, network, route, nftables, holder.boot)
            passed()
            lease = _leased(store, network, choice, ports, holder, nftables, first, passed)
        passed()
        try:
            _wire(route, network, lease, on, namespace, passed)
        except BaseException:
            release(holder.root, holder.id)
            raise
    return Attached(network, lease)


def _default(store: Store, route: "Socket") -> "Network":
    """The default network, made if there is none."""
    found = store.find(model.DEFAULT)
    if found is None:
        subnet = bridge.free_subnet(route, store.networks())
        found = model.Network(model.DEFAULT, model.link_of(model.DEFAULT), subnet, subnet.first + 1)
        store.save(found)
    return found


def stand(
    store: Store, network: "Network", route: "Socket", nftables: "Socket", boot: str
) -> "tuple[Bridge, list[Message]]":
    """The network's bridge, up, with the tables and forwarding: whatever of it is missing is made. Raises as attach.

    The messages are the next transaction's first ones: the network's elements, which may be there.
    """
    found = bridge.stand(route, network, store.folder)
    shut = store.shut_links(boot)
    if not network.internal and not bridge.forwards():
        shut = sorted({*shut, *bridge.strangers(route)})
        store.note_shut(shut, boot)
        _fill(store, nftables, shut, boot)
        bridge.forward()
    elif not table.stand(nftables):
        _fill(store, nftables, shut, boot)
    else:
        return found, table.INET_TABLE.add(bridge.elements(network))
    return found, []


def _fill(store: Store, nftables: "Socket", shut: "list[str]", boot: str) -> None:
    """Make the tables, with the elements of all networks and of the containers that live."""
    inet = [one for network in store.networks() for one in bridge.elements(network)]
    inet += [one for link in shut for one in table.of_shut(link)]
    ports: list[Element] = []
    for lease in store.leases():
        if leases.alive(lease, boot):
            inet += published(lease)
            ports += owned(lease)
    nftables.commit(table.made_again(inet, ports))


def fill(boot: str) -> None:
    """Make the tables again with all that is in them, as after a firewall flushed them. Raises CtkError."""
    with Store() as store, netlink.Socket(netlink.NETFILTER) as nftables:
        _fill(store, nftables, store.shut_links(boot), boot)


def published(lease: Lease, but_of: "Sequence[Lease]" = ()) -> "list[Element]":
    """The elements of its ports, without those ports that one of `but_of` has by now."""
    taken = [(one["protocol"], one["host"], one["port"]) for other in but_of for one in other.ports]
    found = []
    for one in lease.ports:
        if (one["protocol"], one["host"], one["port"]) not in taken:
            host = model.packed(model.number(one["host"])) if one["host"] else None
            protocol, address = model.PROTOCOLS[one["protocol"]], model.packed(lease.address)
            found.append(table.of_publication(protocol, host, one["port"], address, one["inner"]))
    return found


def owned(lease: Lease) -> "list[Element]":
    """The elements that say which addresses it may speak from."""
    return table.of_port(model.port_link(lease.address), lease.ethernet, model.packed(lease.address))


def _leased(
    store: Store,
    network: "Network",
    choice: "Choice",
    ports: "Sequence[Published]",
    holder: Holder,
    nftables: "Socket",
    first: "list[Message]",
    passed: "Callable[[], None]",
) -> Lease:
    """A lease with its ports, written and in the tables; `first` begins the transaction."""
    every = store.leases()
    before = list(every)

    def lives(one: Lease) -> bool:
        return leases.alive(one, holder.boot)

    lease = leases.take(every, network, holder, choice.address)
    lease.ethernet = choice.ethernet or lease.ethernet
    for wanted in ports:
        leases.check_port(every, wanted, lives, lease)
        one: Published = {**wanted, "port": host_ports.check(wanted)}
        if any(model.clash(one, other) for other in lease.ports):
            raise Usage(f"publish port {model.told(one)}", because="it is asked for twice")
        lease.ports.append(one)
    stale = [one for one in before if one not in every]  # who had the address
    store.keep(every)
    passed()
    new = published(lease)
    old = [one for gone in stale for one in published(gone, but_of=[other for other in every if lives(other)])]
    # What nobody alive has may still be in the table: its container was killed, or ctk was.
    found = {one.key: one for one in (*old, *new) if present(nftables, one)}
    try:
        nftables.commit(
            [
                *first,
                *table.INET_TABLE.drop(found.values()),
                *table.BRIDGE_TABLE.drop([one for gone in stale for one in _owned_now(nftables, gone)]),
                *table.BRIDGE_TABLE.add(owned(lease)),
                *table.INET_TABLE.add(new, new=True),
            ]
        )
    except BaseException:
        _end(lease)
        store.keep(every)
        raise
    return lease


def present(nftables: "Socket", element: "Element", of: "nft.Table" = table.INET_TABLE) -> bool:
    """Whether a table has an element of that key. Raises SystemCall."""
    try:
        nftables.ask(of.question(element))
    except netlink.Refused as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def _owned_now(nftables: "Socket", lease: Lease) -> "list[Element]":
    return [one for one in owned(lease) if present(nftables, one, table.BRIDGE_TABLE)]


def _end(lease: Lease) -> None:
    lease.holder.pid, lease.ports = 0, []


def _wire(
    route: "Socket", network: "Network", lease: Lease, on: "Bridge", namespace: str, passed: "Callable[[], None]"
) -> None:
    home = there = -1
    pid = lease.holder.pid
    try:
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        steps = wire.outside(network, lease, bridge=on.index, mtu=on.mtu, namespace=there, pid=pid)
        try:
            route.tell(steps[0].message)
        except SystemCall as error:
            if error.errno != errno.EEXIST:
                raise
            # Of the container that had the address, whose namespace the kernel is taking apart.
            bridge.remove(route, model.port_link(lease.address))
            route.tell(steps[0].message)
        passed()
        route.tell(*[step.message for step in steps[1:]])
        namespaces.setns(there, namespaces.CLONE_NEWNET)
        try:
            with netlink.Socket() as inner:
                inner.tell(*[step.message for step in wire.inside(network, lease, pid)])
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNET)
    except OSError as error:
        raise CtkError(f"put the container on network {network.name!r}", because=reason(error)) from None
    finally:
        for fd in (home, there):
            if fd >= 0:
                os.close(fd)


def release(root: str, container_id: str) -> None:
    """Take a container off its networks: elements, then leases. Its links go with its namespace. Raises CtkError.

    Nothing happens if it is on none: each step may have been done before, by a deletion that was killed.
    """
    with Store() as store:
        every = store.leases()
        mine = [one for one in every if one.holder.pid and one.belongs_to(root, container_id)]
        if not mine:
            return
        drop(store, every, mine)


def drop(store: Store, every: "list[Lease]", mine: "list[Lease]") -> None:
    """Remove the elements of `mine`, some of all leases, and note that nobody holds them. Raises SystemCall."""
    boot = process.boot_id()
    others = [one for one in every if one not in mine and leases.alive(one, boot)]
    with netlink.Socket(netlink.NETFILTER) as nftables:
        leading = [one for lease in mine for one in published(lease, but_of=others)]
        messages = table.INET_TABLE.drop([one for one in leading if present(nftables, one)])
        messages += table.BRIDGE_TABLE.drop([one for lease in mine for one in _owned_now(nftables, lease)])
        nftables.commit(messages)
    for one in mine:
        _end(one)
        every.remove(one)
        every.append(one)  # its address is the last that somebody else gets
    store.keep(every)
