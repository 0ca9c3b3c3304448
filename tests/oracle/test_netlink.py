"""Our netlink messages beside those of pyroute2's encoder: the same bytes."""

from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from toolkit.kernel import netlink, rtnetlink
from toolkit.kernel.netlink import attribute, text, u32

REQUEST_ACK, NEW = 0x5, 0x605  # NLM_F_REQUEST|ACK, and with NLM_F_CREATE|EXCL


def theirs(cls: Any, kind: int, flags: int, fields: dict[str, int], *attributes: tuple[str, Any]) -> bytes:
    message = cls()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attributes)
    message["header"] = {"type": kind, "flags": flags, "sequence_number": 7, "pid": 0}
    message.encode()
    return bytes(message.data)


def link(flags: int, fields: dict[str, int], *attributes: tuple[str, Any]) -> bytes:
    return theirs(ifinfmsg, 16, flags, fields, *attributes)


def test_a_veth_whose_peer_is_born_in_another_namespace() -> None:
    peer = rtnetlink.veth_peer(
        attribute(rtnetlink.IFLA_IFNAME, text("eth0")),
        attribute(rtnetlink.IFLA_ADDRESS, b"\x02\x63\x0a\x59\0\2"),
        attribute(rtnetlink.IFLA_NET_NS_FD, u32(5)),
        index=2,
    )
    ours = rtnetlink.new_link("veth", "ctkv0a590002", attribute(rtnetlink.IFLA_MASTER, u32(9)), data=(peer,))
    inside = [("IFLA_IFNAME", "eth0"), ("IFLA_ADDRESS", "02:63:0a:59:00:02"), ("IFLA_NET_NS_FD", 5)]
    kind = [
        ("IFLA_INFO_KIND", "veth"),
        ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"index": 2, "attrs": inside})]}),
    ]
    assert ours.encoded(7) == link(
        NEW,
        {"flags": 1, "change": 1},
        ("IFLA_IFNAME", "ctkv0a590002"),
        ("IFLA_MASTER", 9),
        ("IFLA_LINKINFO", {"attrs": kind}),
    )


def test_a_bridge_and_its_ports() -> None:
    bridge = rtnetlink.new_link("bridge", "ctk0", attribute(rtnetlink.IFLA_MTU, u32(1400)))
    kind = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
    assert bridge.encoded(7) == link(
        NEW, {"flags": 1, "change": 1}, ("IFLA_IFNAME", "ctk0"), ("IFLA_MTU", 1400), ("IFLA_LINKINFO", kind)
    )
    port = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]})]
    assert rtnetlink.hairpin("p0").encoded(7) == link(
        REQUEST_ACK, {}, ("IFLA_IFNAME", "p0"), ("IFLA_LINKINFO", {"attrs": port})
    )


def test_links_up_down_moved_and_removed() -> None:
    for up in (True, False):
        ours = rtnetlink.link(rtnetlink.NEWLINK, 0, index=2, up=up)
        assert ours.encoded(7) == link(REQUEST_ACK, {"index": 2, "flags": int(up), "change": 1})
    moved = [attribute(rtnetlink.IFLA_NET_NS_FD, u32(8)), attribute(rtnetlink.IFLA_IFNAME, text("in0"))]
    assert rtnetlink.link(rtnetlink.NEWLINK, 0, *moved, index=3).encoded(7) == link(
        REQUEST_ACK, {"index": 3}, ("IFLA_NET_NS_FD", 8), ("IFLA_IFNAME", "in0")
    )
    gone = rtnetlink.link(rtnetlink.DELLINK, 0, attribute(rtnetlink.IFLA_IFNAME, text("ctk0")))
    assert gone.encoded(7) == theirs(ifinfmsg, 17, REQUEST_ACK, {}, ("IFLA_IFNAME", "ctk0"))


def test_addresses_and_routes() -> None:
    ours = rtnetlink.address(2, bytes((10, 89, 0, 2)), 24, broadcast=bytes((10, 89, 0, 255)))
    assert ours.encoded(7) == theirs(
        ifaddrmsg, 20, NEW, {"family": 2, "prefixlen": 24, "index": 2},
        ("IFA_LOCAL", "10.89.0.2"), ("IFA_ADDRESS", "10.89.0.2"), ("IFA_BROADCAST", "10.89.0.255"),
    )  # fmt: skip
    route = rtnetlink.default_route(2, bytes((10, 89, 0, 1)))
    assert route.encoded(7) == theirs(
        rtmsg, 24, NEW, {"family": 2, "table": 254, "proto": 3, "scope": 0, "type": 1},
        ("RTA_GATEWAY", "10.89.0.1"), ("RTA_OIF", 2),
    )  # fmt: skip


def test_attributes_are_read_as_they_were_written() -> None:
    written = attribute(3, text("eth0")) + netlink.nested(18, attribute(1, b"veth"), attribute(2, b""))
    kinds = dict(netlink.attributes(written))
    assert kinds[3] == b"eth0\0" and dict(netlink.attributes(kinds[18])) == {1: b"veth", 2: b""}
    for length in range(len(written)):
        list(netlink.attributes(written[:length]))  # cut off anywhere: what is whole, and no error
