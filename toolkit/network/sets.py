"""The sets and maps of the tables: what their fixed rules are about (table.py)."""

from toolkit.network import nft
from toolkit.network.nft import ETHER, IFNAME, IPV4, PROTOCOL, SERVICE, Set

PORT_PREFIX = "ctkv"
"""With this begin the names of the bridges' ports, whose other end is a container's."""

LINKS = Set("links", IFNAME)  # our bridges
INNER = Set("inner", IFNAME)  # those of internal networks
PAIRS = Set("pairs", nft.joined(IFNAME, IFNAME))  # (bridge, itself): frames within one, which br_netfilter shows us
SUBNETS = Set("subnets", IPV4, interval=True)  # whose packets get the host's address when they leave it
SHUT = Set("shut", IFNAME)  # links that did not forward before we switched it on: still nothing new of theirs is
_DESTINATION = nft.joined(IPV4, SERVICE)
PORTS = Set("ports", nft.joined(PROTOCOL, SERVICE), _DESTINATION)
PORTS_AT = Set("ports_at", nft.joined(IPV4, PROTOCOL, SERVICE), _DESTINATION)
OWNERS = Set("owners", nft.joined(IFNAME, ETHER))  # (port, Ethernet address)
ADDRESSES = Set("addresses", nft.joined(IFNAME, IPV4))  # (port, IPv4 address)
