"""The two nftables tables of a host with networks: fixed rules, and sets and maps that say what they are about.

`inet ctk` lets containers out, and in only who was let in; `bridge ctk` keeps a container from speaking as another.
A network is four elements, a container on it two, a published port one.

| attack                                                              | what stops it                        |
|---------------------------------------------------------------------|--------------------------------------|
| a neighbour routes 127.0.0.1 to us, for what is published on it      | chain `loopback`                     |
| a container routes 127.0.0.1 to us (CVE-2020-8558)                   | chain `loopback`                     |
| a neighbour routes a network's addresses to us                       | the last rule of `passing`           |
| a container answers ARP for another, or sends with another's address | chain `guard`                        |
| a container sends router advertisements (CVE-2020-10749)             | the end of `guard`: IPv4 and ARP only |
| our switching IPv4 forwarding on makes the host a router             | set `shut`                           |

Marks of other firewalls are not used, and their rules are not touched; a drop of theirs wins.
"""

from toolkit.errors import HostLacks
from toolkit.kernel import netlink
from toolkit.kernel.netlink import attribute
from toolkit.network import nft
from toolkit.network.nft import BRIDGE, INET, Element
from toolkit.network.sets import ADDRESSES, INNER, LINKS, OWNERS, PAIRS, PORTS, PORTS_AT, SHUT, SUBNETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.kernel.netlink import Message, Socket

NAME = "ctk"
COMMENT = "ctk 1"
"""The comment of both tables. Its number changes with their rules: a table with another one is made again."""


def _inet_chains() -> "Sequence[nft.Chain]":
    from toolkit.network import rules

    return rules.inet()


def _bridge_chains() -> "Sequence[nft.Chain]":
    from toolkit.network import rules

    return rules.bridge()


INET_TABLE = nft.Table(INET, NAME, COMMENT, (LINKS, INNER, PAIRS, SUBNETS, SHUT, PORTS, PORTS_AT), _inet_chains)
BRIDGE_TABLE = nft.Table(BRIDGE, NAME, COMMENT, (OWNERS, ADDRESSES), _bridge_chains)


def text() -> str:
    """Both tables, as `nft -f` takes them."""
    return INET_TABLE.text + BRIDGE_TABLE.text


def of_network(link: str, subnet: bytes, prefix: int, *, internal: bool) -> "list[Element]":
    """The elements of a network: its bridge `link`, its subnet's first address and prefix length."""
    name = nft.name_bytes(link)
    found = [
        Element(LINKS, f'"{link}"', name),
        Element(PAIRS, f'"{link}" . "{link}"', name + name),
    ]
    if internal:
        return [*found, Element(INNER, f'"{link}"', name)]
    after = int.from_bytes(subnet, "big") + (1 << 32 - prefix)
    shown = ".".join(map(str, subnet))
    return [*found, Element(SUBNETS, f"{shown}/{prefix}", subnet, last=(after & 0xFFFFFFFF).to_bytes(4, "big"))]


def of_port(link: str, ether: bytes, address: bytes) -> "list[Element]":
    """The elements of a bridge's port: which Ethernet and IPv4 addresses may speak at it. They are BRIDGE_TABLE's."""
    name = nft.name_bytes(link)
    return [
        Element(OWNERS, f'"{link}" . {ether.hex(":")}', name + nft.field(ether)),
        Element(ADDRESSES, f'"{link}" . {".".join(map(str, address))}', name + address),
    ]


def of_publication(protocol: int, host: "bytes | None", port: int, address: bytes, inner_port: int) -> Element:
    """The element of a published port. `host`: the host's address, None for all; `protocol`: 6 (tcp) or 17 (udp)."""
    name = {6: "tcp", 17: "udp"}[protocol]
    key = nft.field(bytes((protocol,))) + nft.field(port.to_bytes(2, "big"))
    value = address + nft.field(inner_port.to_bytes(2, "big"))
    shown = f"{name} . {port} : {'.'.join(map(str, address))} . {inner_port}"
    if host is None:
        return Element(PORTS, shown, key, value)
    return Element(PORTS_AT, f"{'.'.join(map(str, host))} . {shown}", host + key, value)


def of_shut(link: str) -> "list[Element]":
    """The elements that keep a link of the host from forwarding to others; what passes within it, if it is a bridge,
    is not forwarded.
    """
    name = nft.name_bytes(link)
    return [Element(SHUT, f'"{link}"', name), Element(PAIRS, f'"{link}" . "{link}"', name + name)]


def stand(socket: "Socket") -> bool:
    """Whether both tables are there as this version makes them. Raises HostLacks without nftables, SystemCall."""
    for table in (INET_TABLE, BRIDGE_TABLE):
        wanted = nft.message(nft.GETTABLE, table.family, 0, attribute(1, netlink.text(table.name)))
        try:
            body = socket.ask(wanted)
        except netlink.Refused as error:
            if error.errno in (_ENOENT, _EAFNOSUPPORT):
                return False
            if error.errno in (_EINVAL, _EOPNOTSUPP):
                raise HostLacks(
                    "look for our nftables table",
                    because="this kernel has no nftables",
                    hint="modprobe nf_tables; the kernel needs CONFIG_NF_TABLES with its inet and bridge families",
                ) from None
            raise
        if dict(netlink.attributes(body[4:])).get(nft.TABLE_USERDATA) != nft.comment(COMMENT):
            return False
    return True


_ENOENT, _EINVAL, _EOPNOTSUPP, _EAFNOSUPPORT = 2, 22, 95, 97


def made_again(inet: "Sequence[Element]", bridge: "Sequence[Element]") -> "list[Message]":
    """The transaction that puts both tables in place of what is there, with these elements."""
    messages: list[Message] = []
    for table, elements in ((INET_TABLE, inet), (BRIDGE_TABLE, bridge)):
        messages += [*table.removed(), *table.made(), *table.add(elements)]
    return messages
