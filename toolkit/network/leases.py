"""Which container has which address and which ports of the host. Pure, but for the question whether a process lives.

A lease is good as long as its container's first process lives, which is known by pid, start time and boot. Nobody has
to give it back: an address that no living process holds is free, after those that nobody ever had.
"""

from toolkit.errors import InUse, Invalid
from toolkit.kernel import process
from toolkit.network import model
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from toolkit.network.model import Network, Published


class Holder:
    """A container, and the process that holds its lease: pid, start time in clock ticks, id of the boot."""

    __slots__ = ("boot", "id", "pid", "root", "start")

    def __init__(self, root: str, container_id: str, pid: int, start: int, boot: str) -> None:
        self.root, self.id, self.pid, self.start, self.boot = root, container_id, pid, start, boot


class Lease:
    """An address of a network, who has it or had it (then its pid is 0), and the ports that lead to it."""

    __slots__ = ("address", "ethernet", "holder", "network", "ports")

    def __init__(self, network: str, address: int, holder: Holder) -> None:
        self.network, self.address, self.holder = network, address, holder
        self.ethernet = model.ethernet_address(address)
        self.ports: list[Published] = []

    def belongs_to(self, root: str, container_id: str) -> bool:
        """Whether it is that container's, or was."""
        return (self.holder.root, self.holder.id) == (root, container_id)

    def document(self) -> "dict[str, Any]":
        """It as JSON has it."""
        one = self.holder
        return {
            "network": self.network,
            "address": model.shown(self.address),
            "ethernet": self.ethernet.hex(":"),
            "root": one.root,
            "id": one.id,
            "pid": one.pid,
            "start": one.start,
            "boot": one.boot,
            "ports": self.ports,
        }

    @classmethod
    def of(cls, document: "Any", where: str) -> "Lease":
        """The lease of a document. Raises Invalid."""
        try:
            pid, start = int(document["pid"]), int(document["start"])
            holder = Holder(str(document["root"]), str(document["id"]), pid, start, str(document["boot"]))
            found = cls(str(document["network"]), model.number(document["address"]), holder)
            found.ethernet = bytes.fromhex(document["ethernet"].replace(":", ""))
            for port in document["ports"]:
                host = str(port["host"])
                if port["protocol"] not in model.PROTOCOLS or (host and not model.number(host)):
                    raise ValueError("a port is wrong")
                one: Published = {
                    "protocol": port["protocol"], "host": host, "port": int(port["port"]), "inner": int(port["inner"]),
                }  # fmt: skip
                found.ports.append(one)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Invalid("", f"is not a lease of ours: {error}", document=where) from None
        return found


def alive(lease: Lease, boot: str) -> bool:
    """Whether the process that holds the lease lives; a zombie is in no network any more (proc(5))."""
    holder = lease.holder
    if holder.pid <= 0 or (holder.boot and boot and holder.boot != boot):
        return False
    try:
        fields = process.stat_fields(holder.pid)
    except OSError:
        return False
    return fields[0] not in "ZX" and int(fields[19]) == holder.start


def take(
    leases: "list[Lease]",
    network: "Network",
    holder: Holder,
    wanted: int = 0,
    lives: "Callable[[Lease], bool] | None" = None,
) -> Lease:
    """A lease of `network` for `holder`, put at the end of `leases`; whoever had its address before is taken out.

    The address that the same container had, else one that nobody had, else the one that has been free for longest: so
    an address changes its container as late as it can. Whether a process lives is asked only for the address in
    question. `wanted`: this address. Raises InUse.
    """

    def lively(lease: Lease) -> bool:
        return lives(lease) if lives is not None else alive(lease, holder.boot)

    had = {one.address: one for one in leases if one.network == network.name}
    doing = f"get an address of network {network.name!r}"
    if wanted:
        _check_wanted(network, wanted, doing)
        before = had.get(wanted)
        if before is not None and not before.belongs_to(holder.root, holder.id) and lively(before):
            raise InUse(doing, because=f"container {before.holder.id!r} has {model.shown(wanted)}")
        return _taken(leases, network, holder, wanted, before)
    for before in had.values():
        if before.belongs_to(holder.root, holder.id) and not lively(before):
            return _taken(leases, network, holder, before.address, before)
    subnet = network.subnet
    for address in range(subnet.first + 1, subnet.last):
        if address not in had and address != network.gateway:
            return _taken(leases, network, holder, address, None)
    for before in had.values():
        if before.address in subnet and not lively(before):
            return _taken(leases, network, holder, before.address, before)
    hint = "end some of its containers, or make a larger one: ctk network create NAME --subnet SUBNET"
    raise InUse(doing, because=f"all {subnet.size - 3} addresses of {subnet} are taken", hint=hint)


def _check_wanted(network: "Network", wanted: int, doing: str) -> None:
    subnet = network.subnet
    if wanted not in subnet or wanted in (subnet.first, subnet.last):
        raise InUse(doing, because=f"{model.shown(wanted)} is not one of {subnet}")
    if wanted == network.gateway:
        raise InUse(doing, because=f"{model.shown(wanted)} is the gateway's")


def _taken(leases: "list[Lease]", network: "Network", holder: Holder, address: int, before: "Lease | None") -> Lease:
    if before is not None:
        leases.remove(before)
    found = Lease(network.name, address, holder)
    leases.append(found)
    return found


def check_port(leases: "list[Lease]", port: "Published", lives: "Callable[[Lease], bool]", mine: Lease) -> None:
    """Raise InUse if another container, which lives, has the port."""
    for lease in leases:
        if lease is not mine and any(model.clash(port, other) for other in lease.ports) and lives(lease):
            who = lease.holder.id
            raise InUse(
                f"publish port {model.told(port)}",
                because=f"container {who!r} has published it",
                hint=f"choose another port of the host, or end that container: ctk stop {quote(who)}",
            )
