"""Parts of nftables rules: the expressions of each, in the kernel's terms, and its text as `nft -f` takes it.

The names and numbers are those of <linux/netfilter/nf_tables.h> (nft.py).
"""

from toolkit.kernel.netlink import attribute, nested, text, u32
from toolkit.network.nft import Set, be32, name_bytes

_IPV4 = 2  # NFPROTO_IPV4
_R1, _R2, _R1_SECOND, _R1_THIRD = 1, 2, 9, 10  # registers of 16 bytes; the second and third word of the first
_IIFNAME, _OIFNAME, _NFPROTO, _L4PROTO = 6, 7, 15, 16  # NFT_META_*
_LINK, _NETWORK, _TRANSPORT = 0, 1, 2  # NFT_PAYLOAD_*_HEADER
_LOCAL = b"\2\0\0\0"  # RTN_LOCAL, in the machine's order as the fib expression gives it
_DROP, _ACCEPT, _JUMP = 0, 1, -3


class Part:
    """A part of a rule: its expressions, in the kernel's terms, and its text."""

    __slots__ = ("expressions", "text")

    def __init__(self, text: str, *expressions: bytes) -> None:
        self.text, self.expressions = text, expressions


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, text(name)), *([nested(2, *attributes)] if attributes else []))


def _numbers(name: str, *values: int) -> bytes:
    """An expression whose attributes are numbers, 1 and on."""
    return _expression(name, *[attribute(kind, be32(value)) for kind, value in enumerate(values, 1)])


def _meta(key: int, register: int = _R1) -> bytes:
    return _numbers("meta", register, key)


def _payload(base: int, offset: int, size: int, register: int = _R1) -> bytes:
    return _numbers("payload", register, base, offset, size)


def _compare(value: bytes, *, equal: bool = True) -> bytes:
    data = nested(3, attribute(1, value))
    return _expression("cmp", attribute(1, be32(_R1)), attribute(2, be32(0 if equal else 1)), data)


def _lookup(name: str, *, inside: bool = True, value: bool = False) -> bytes:
    words = [attribute(1, text(name)), attribute(2, be32(_R1))]
    if value:
        words.append(attribute(3, be32(_R1)))
    if not inside:
        words.append(attribute(5, be32(1)))  # NFT_LOOKUP_F_INV
    return _expression("lookup", *words)


def _verdict(code: int, chain: str = "") -> bytes:
    words = [attribute(1, be32(code)), *([attribute(2, text(chain))] if chain else [])]
    return _expression("immediate", attribute(1, be32(0)), nested(2, nested(2, *words)))


def _tracked(key: int, bits: int) -> "tuple[bytes, bytes, bytes]":
    """A conntrack field has one of the bits; those are in the machine's order, as the kernel has them in registers."""
    masked = [attribute(kind, be32(value)) for kind, value in ((1, _R1), (2, _R1), (3, 4))]
    masked += [nested(4, attribute(1, u32(bits))), nested(5, attribute(1, bytes(4)))]
    return _numbers("ct", _R1, key), _expression("bitwise", *masked), _compare(bytes(4), equal=False)


ACCEPT, DROP = Part("accept", _verdict(_ACCEPT)), Part("drop", _verdict(_DROP))
COUNT = Part("counter", _expression("counter"))
MASQUERADE = Part("masquerade", _expression("masq"))
ESTABLISHED = Part("ct state established,related", *_tracked(0, 2 | 4))
TRANSLATED = Part("ct status dnat", *_tracked(2, 0x20))
IS_IPV4 = Part("meta nfproto ipv4", _meta(_NFPROTO), _compare(bytes((_IPV4,))))
# struct nft_fib: the result is RTN_* of the destination address. A number of the kernel's own, so in its order.
TO_US = Part("fib daddr type local", _numbers("fib", _R1, 3, 2), _compare(_LOCAL))


def jump(chain: str) -> Part:
    """Go on in another chain."""
    return Part(f"jump {chain}", _verdict(_JUMP, chain))


def from_link(name: str, *, equal: bool = True) -> Part:
    """It came in at that link; a name that ends in `*` stands for all that begin so."""
    value = name[:-1].encode() if name.endswith("*") else name_bytes(name)
    return Part(f'iifname {"" if equal else "!= "}"{name}"', _meta(_IIFNAME), _compare(value, equal=equal))


def from_links(of: Set, *, inside: bool = True) -> Part:
    """It came in at one of the set's links, or at none of them."""
    return Part(f"iifname {'' if inside else '!= '}@{of.name}", _meta(_IIFNAME), _lookup(of.name, inside=inside))


def to_links(of: Set, *, inside: bool = True) -> Part:
    """It leaves by one of the set's links, or by none of them."""
    return Part(f"oifname {'' if inside else '!= '}@{of.name}", _meta(_OIFNAME), _lookup(of.name, inside=inside))


def between(of: Set) -> Part:
    """The two links are a pair of the set."""
    return Part(f"iifname . oifname @{of.name}", _meta(_IIFNAME), _meta(_OIFNAME, _R2), _lookup(of.name))


def source_in(of: Set) -> Part:
    """Its IPv4 source is in the set."""
    return Part(f"ip saddr @{of.name}", *IS_IPV4.expressions, _payload(_NETWORK, 12, 4), _lookup(of.name))


def loopback_source() -> Part:
    """Its IPv4 source is a loopback address."""
    return Part("ip saddr 127.0.0.0/8", *IS_IPV4.expressions, _payload(_NETWORK, 12, 1), _compare(b"\x7f"))


def loopback_destination() -> Part:
    """It goes to a loopback address of IPv4."""
    return Part("ip daddr 127.0.0.0/8", *IS_IPV4.expressions, _payload(_NETWORK, 16, 1), _compare(b"\x7f"))


def translate(of: Set, *, with_address: bool) -> Part:
    """Send it where the map says, by protocol and port, or by address, protocol and port."""
    fields, word = "meta l4proto . th dport", f"map @{of.name}"
    if with_address:
        fields = "ip daddr . " + fields
        key = (
            *IS_IPV4.expressions,
            _payload(_NETWORK, 16, 4),
            _meta(_L4PROTO, _R1_SECOND),
            _payload(_TRANSPORT, 2, 2, _R1_THIRD),
        )
    else:
        key = (_meta(_L4PROTO), _payload(_TRANSPORT, 2, 2, _R1_SECOND))
    numbers = ((1, 1), (2, _IPV4), (3, _R1), (5, _R1_SECOND))  # NFTA_NAT_*: dnat, family, address, port
    nat = _expression("nat", *[attribute(kind, be32(value)) for kind, value in numbers])
    return Part(f"dnat ip to {fields} {word}", *key, _lookup(of.name, value=True), nat)


def _of_type(ether_type: bytes) -> "tuple[bytes, bytes]":
    return _payload(_LINK, 12, 2), _compare(ether_type)


def ethernet_source_not_in(of: Set) -> Part:
    """The link that it came in at and its Ethernet source are not in the set."""
    key = (_meta(_IIFNAME), _payload(_LINK, 6, 6, _R2))
    return Part(f"iifname . ether saddr != @{of.name}", *key, _lookup(of.name, inside=False))


def arp_probe() -> Part:
    """An ARP question from nobody (RFC 5227)."""
    probe = (_payload(_NETWORK, 14, 4), _compare(bytes(4)))
    return Part("ether type arp arp saddr ip 0.0.0.0", *_of_type(b"\x08\x06"), *probe)


def arp_source_in(of: Set) -> Part:
    """An ARP message; the link that it came in at and its sender are in the set."""
    key = (_meta(_IIFNAME), _payload(_NETWORK, 14, 4, _R2), _lookup(of.name))
    return Part(f"ether type arp iifname . arp saddr ip @{of.name}", *_of_type(b"\x08\x06"), *key)


def ip_source_in(of: Set) -> Part:
    """An IPv4 packet in a frame; the link that it came in at and its source are in the set."""
    key = (_meta(_IIFNAME), _payload(_NETWORK, 12, 4, _R2), _lookup(of.name))
    return Part(f"ether type ip iifname . ip saddr @{of.name}", *_of_type(b"\x08\x00"), *key)
