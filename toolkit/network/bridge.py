"""The host's side of a network: its bridge, what the kernel must allow for it, and free subnets.

Nothing is undone here that another program may rely on by then: forwarding that we switched on stays on, and the table
keeps it for our own packets (table.py, `shut`).
"""

import errno
import os

from toolkit.errors import HostLacks, InUse, reason
from toolkit.kernel import netlink, rtnetlink
from toolkit.kernel.netlink import attribute, text, u32
from toolkit.network import model, sets, table
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolkit.kernel.netlink import Message, Socket
    from toolkit.network.model import Network, Subnet
    from toolkit.network.nft import Element

_GETROUTE = 26
_IFLA_IFALIAS = 20
_RTA_DST, _RTA_OIF = 1, 4
_BROADCAST, _MULTICAST = 3, 5  # RTN_*
_SETTINGS = "/proc/sys/net"
_OURS = "networks of ctk"
_FORWARD = "ipv4/ip_forward"


class Bridge:
    """A bridge as the kernel has it: its index, its MTU in bytes, whose it is ("" if nobody said so)."""

    __slots__ = ("index", "mtu", "whose")

    def __init__(self, body: bytes) -> None:
        self.index = int.from_bytes(body[4:8], netlink.BYTE_ORDER)
        found = dict(netlink.attributes(body[16:]))
        self.mtu = int.from_bytes(found.get(rtnetlink.IFLA_MTU, b""), netlink.BYTE_ORDER)
        self.whose = found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode("utf-8", "replace")


def find(socket: "Socket", link: str) -> "Bridge | None":
    """The link of that name; None if there is none. Raises SystemCall."""
    try:
        body = socket.ask(rtnetlink.link(rtnetlink.GETLINK, 0, attribute(rtnetlink.IFLA_IFNAME, text(link))))
    except netlink.Refused as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return Bridge(body)


def whose(folder: str) -> str:
    """The alias of a bridge of the networks that are kept in `folder`: no other store may put containers on it."""
    return f"{_OURS}: {folder}"[:200]


def stand(socket: "Socket", network: "Network", folder: str) -> Bridge:
    """The network's bridge, made if it is not there, as after a reboot.

    Raises InUse if the link is not ours, or the subnet somebody else's; HostLacks if the kernel forbids a setting.
    """
    found = find(socket, network.link)
    if found is not None and found.whose == whose(folder):
        return found
    doing = f"make the bridge of network {network.name!r}"
    if found is not None and found.whose != _unfinished(folder):
        because = f"there is a link {network.link!r} already, which is not ours"
        raise InUse(doing, because=because, hint=f"see it: ip -details link show {network.link}; then remove either")
    remove(socket, network.link)
    for subnet, what in taken(socket):
        if subnet.overlaps(network.subnet):
            hint = f"make it again with another one: ctk network rm {quote(network.name)}, then create it"
            raise InUse(doing, because=f"{what} is in the way of {network.subnet}", hint=hint)
    _make(socket, network, folder)
    found = find(socket, network.link)
    if found is None:
        raise InUse(doing, because="somebody has removed it at once")
    return found


def _unfinished(folder: str) -> str:
    return f"{_OURS}, not finished: {folder}"[:200]


def _make(socket: "Socket", network: "Network", folder: str) -> None:
    """Make it. Its alias is its last setting, so that one that a killed ctk has left half-made is known."""
    mtu = network.mtu or way_out_mtu(socket)
    sizes = [attribute(rtnetlink.IFLA_MTU, u32(mtu))] if mtu else []
    # The kernel takes no alias with a new link (quirk 44); both are one write, within which nobody can be killed.
    socket.tell(
        rtnetlink.new_link("bridge", network.link, *sizes, attribute(rtnetlink.IFLA_ADDRESS, _ethernet(network))),
        _called(network.link, _unfinished(folder)),
    )
    try:
        _allow(network.link)
        made = find(socket, network.link)
        index = made.index if made is not None else 0
        mine = network.subnet
        socket.tell(
            rtnetlink.address(index, model.packed(network.gateway), mine.prefix, broadcast=model.packed(mine.last))
        )
        socket.tell(_called(network.link, whose(folder)))
    except BaseException:
        remove(socket, network.link)
        raise


def _called(link: str, alias: str) -> "Message":
    name = attribute(rtnetlink.IFLA_IFNAME, text(link))
    return rtnetlink.link(rtnetlink.NEWLINK, 0, name, attribute(_IFLA_IFALIAS, alias.encode()))


def _ethernet(network: "Network") -> bytes:
    """The bridge's own: otherwise it changes with its ports, and what containers know of the gateway with it."""
    return model.ethernet_address(network.gateway)


def remove(socket: "Socket", link: str) -> None:
    """Remove a link, if it is there. Raises SystemCall."""
    try:
        socket.tell(rtnetlink.link(rtnetlink.DELLINK, 0, attribute(rtnetlink.IFLA_IFNAME, text(link))))
    except netlink.Refused as error:
        if error.errno != errno.ENODEV:
            raise


def remove_ours(socket: "Socket", link: str, folder: str) -> None:
    """Remove a bridge of the networks in `folder`; a link of that name that is somebody else's stays."""
    found = find(socket, link)
    if found is not None and found.whose in (whose(folder), _unfinished(folder)):
        remove(socket, link)


def _allow(link: str) -> None:
    # What the host sends from 127.0.0.1 to a published port leaves by the bridge, and the answer comes back by it.
    # Chain `loopback` of the table keeps out what others send to 127.0.0.1.
    _set(f"ipv4/conf/{link}/route_localnet", "1")
    if os.path.exists(f"{_SETTINGS}/ipv6/conf/{link}"):
        # Networks are IPv4 yet: so no container reaches the host by a link-local address, and no advertisement counts.
        _set(f"ipv6/conf/{link}/disable_ipv6", "1")


def _set(name: str, value: str) -> None:
    try:
        with open(f"{_SETTINGS}/{name}", "w") as file:
            file.write(value)
    except OSError as error:
        raise HostLacks(
            f"set net.{name.replace('/', '.')} to {value}",
            because=reason(error),
            hint="a network takes root of the host's network namespace, and /proc/sys that can be written to",
        ) from None


def forwards() -> bool:
    """Whether the host forwards IPv4."""
    with open(f"{_SETTINGS}/{_FORWARD}") as file:
        return file.read().strip() == "1"


def forward() -> None:
    """Have the host forward IPv4. Raises HostLacks."""
    _set(_FORWARD, "1")


def strangers(socket: "Socket") -> "list[str]":
    """The names of all links but `lo` and those that are ours: bridges by their alias, ports by their names."""
    found = []
    for body in socket.dump(netlink.Message(rtnetlink.GETLINK, 0, bytes(16))):
        words = dict(netlink.attributes(body[16:]))
        name = words[rtnetlink.IFLA_IFNAME].rstrip(b"\0").decode("utf-8", "surrogateescape")
        ours = name.startswith(sets.PORT_PREFIX) or words.get(_IFLA_IFALIAS, b"").startswith(_OURS.encode())
        if name != "lo" and not ours:
            found.append(name)
    return found


class _Route:
    """A route of IPv4, as the kernel dumps it (struct rtmsg)."""

    __slots__ = ("kind", "link", "subnet")

    def __init__(self, body: bytes) -> None:
        words = dict(netlink.attributes(body[12:]))
        self.subnet = model.Subnet(int.from_bytes(words.get(_RTA_DST, bytes(4)), "big"), body[1])
        self.kind = body[7]
        self.link = int.from_bytes(words.get(_RTA_OIF, b""), netlink.BYTE_ORDER)


def _routes(socket: "Socket") -> "list[_Route]":
    family = bytes((rtnetlink.AF_INET,)) + bytes(11)
    return [_Route(body) for body in socket.dump(netlink.Message(_GETROUTE, 0, family))]


def taken(socket: "Socket") -> "list[tuple[Subnet, str]]":
    """The subnets that the host knows a way to, and the servers of its resolv.conf; each with what it is."""
    found = []
    for route in _routes(socket):
        if route.subnet.prefix and route.kind not in (_BROADCAST, _MULTICAST):
            found.append((route.subnet, f"the host's route to {route.subnet}"))
    try:
        with open("/etc/resolv.conf", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver":
                    try:
                        server = model.number(words[1])
                    except ValueError:
                        continue  # of IPv6
                    found.append((model.Subnet(server, 32), f"the name server {words[1]} of /etc/resolv.conf"))
    except OSError:
        pass  # there is none
    return found


def free_subnet(socket: "Socket", others: "Iterable[Network]") -> "Subnet":
    """The first /24 of 10.89.0.0/16 and on that nothing is in the way of. Raises InUse if there is none."""
    used = [subnet for subnet, _ in taken(socket)] + [one.subnet for one in others]
    for first in range(model.number("10.89.0.0"), model.number("10.255.255.0"), 256):
        found = model.Subnet(first, 24)
        if not any(found.overlaps(one) for one in used):
            return found
    raise InUse("find a free subnet", because="all of 10.89.0.0 to 10.255.255.0 is in use", hint="give one: --subnet")


def way_out_mtu(socket: "Socket") -> int:
    """The smallest MTU of the links of default routes: what is larger gets lost behind a VPN. 0 if there is none."""
    found = []
    for number in {route.link for route in _routes(socket) if not route.subnet.prefix and route.link}:
        try:
            found.append(Bridge(socket.ask(rtnetlink.link(rtnetlink.GETLINK, 0, index=number))).mtu)
        except netlink.Refused:
            continue  # removed meanwhile
    return min(found, default=0)


def elements(network: "Network") -> "list[Element]":
    """The network's elements of the inet table."""
    first = model.packed(network.subnet.first)
    return table.of_network(network.link, first, network.subnet.prefix, internal=network.internal)
