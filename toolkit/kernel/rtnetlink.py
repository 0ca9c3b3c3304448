"""rtnetlink(7): the messages about links, addresses and routes; netlink.py sends them."""

from toolkit.kernel.netlink import ACK, CREATE, EXCL, Message, attribute, text, u32

NEWLINK, DELLINK, GETLINK, NEWADDR, GETADDR, NEWROUTE = 16, 17, 18, 20, 22, 24
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
AF_UNSPEC, AF_INET = 0, 2

_INFO_KIND, _INFO_DATA, _INFO_PORT_KIND, _INFO_PORT_DATA = 1, 2, 4, 5  # IFLA_INFO_*
_VETH_PEER = 1
_PORT_HAIRPIN = 4  # IFLA_BRPORT_MODE
_RTA_OIF, _RTA_GATEWAY = 4, 5
_MAIN, _BY_BOOT, _UNIVERSE, _UNICAST = 254, 3, 0, 1  # RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST


def link(kind: int, flags: int, *attributes: bytes, index: int = 0, up: "bool | None" = None) -> Message:
    """A message about one link, by its index or its IFLA_IFNAME (struct ifinfomsg). `up`: to set it up, or down."""
    return Message(kind, flags | ACK, _ifinfomsg(index, up) + b"".join(attributes))


def _ifinfomsg(index: int, up: "bool | None") -> bytes:
    return bytes(4) + u32(index) + u32(IFF_UP if up else 0) + u32(0 if up is None else IFF_UP)


def new_link(kind: str, name: str, *attributes: bytes, data: "tuple[bytes, ...]" = ()) -> Message:
    """A link of that kind, which is up; `data` are the attributes of its kind. It must not exist: EEXIST."""
    info = attribute(
        IFLA_LINKINFO, attribute(_INFO_KIND, text(kind)), *([attribute(_INFO_DATA, *data)] if data else [])
    )
    return link(NEWLINK, CREATE | EXCL, attribute(IFLA_IFNAME, text(name)), *attributes, info, up=True)


def veth_peer(*attributes: bytes, index: int) -> bytes:
    """The other end of a veth, in its `data`. With IFLA_NET_NS_FD among its attributes it is born in that namespace.

    It can't be born up (quirk 44).
    """
    return attribute(_VETH_PEER, _ifinfomsg(index, None), *attributes)


def hairpin(port: str) -> Message:
    """Let the bridge send a frame out at the port that it came in at."""
    data = attribute(_INFO_PORT_DATA, attribute(_PORT_HAIRPIN, b"\1"))
    info = attribute(IFLA_LINKINFO, attribute(_INFO_PORT_KIND, text("bridge")), data)
    return link(NEWLINK, 0, attribute(IFLA_IFNAME, text(port)), info)


def address(index: int, packed: bytes, prefix: int, *, broadcast: bytes = b"") -> Message:
    """Give a link an IPv4 address (struct ifaddrmsg). EEXIST if it has it."""
    body = bytes((AF_INET, prefix, 0, 0)) + u32(index) + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return Message(NEWADDR, ACK | CREATE | EXCL, body + (attribute(IFA_BROADCAST, broadcast) if broadcast else b""))


def default_route(index: int, gateway: bytes) -> Message:
    """The IPv4 route to everywhere else (struct rtmsg). EEXIST if there is one."""
    head = bytes((AF_INET, 0, 0, 0, _MAIN, _BY_BOOT, _UNIVERSE, _UNICAST)) + bytes(4)
    return Message(
        NEWROUTE, ACK | CREATE | EXCL, head + attribute(_RTA_GATEWAY, gateway) + attribute(_RTA_OIF, u32(index))
    )
