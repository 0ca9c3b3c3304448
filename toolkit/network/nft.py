"""nftables: parts of rules, sets, chains and tables, each as netlink attributes and as the text that `nft -f` takes.

Only what table.py is made of. The names and numbers are those of <linux/netfilter/nf_tables.h>, where every number is
in network byte order; tests/oracle/test_nft.py loads both forms and has `nft -j list` compare them.
"""

from toolkit.kernel.netlink import APPEND, CREATE, EXCL, Message, attribute, nested, text, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INET, BRIDGE = 1, 7  # NFPROTO_*
FAMILIES = {INET: "inet", BRIDGE: "bridge"}
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4  # NF_INET_*, and PREROUTING of NF_BR_* too

NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM = (
    0xA00 + number for number in (0, 1, 2, 3, 6, 9, 12, 13, 14)
)
TABLE_USERDATA = 6

_IPV4 = 2  # NFPROTO_IPV4
_R1, _R2, _R1_SECOND, _R1_THIRD = 1, 2, 9, 10  # registers of 16 bytes; the second and third word of the first
_IIFNAME, _OIFNAME, _NFPROTO, _L4PROTO = 6, 7, 15, 16  # NFT_META_*
_LINK, _NETWORK, _TRANSPORT = 0, 1, 2  # NFT_PAYLOAD_*_HEADER
_DROP, _ACCEPT, _JUMP = 0, 1, -3
_LOCAL = b"\2\0\0\0"  # RTN_LOCAL, in the machine's order as the fib expression gives it
_LONGEST = 16  # IFNAMSIZ


def be32(number: int) -> bytes:
    """Four bytes in network order, as nftables wants them."""
    return number.to_bytes(4, "big", signed=number < 0)


class Part:
    """A part of a rule: its expressions, in the kernel's terms, and its text."""

    __slots__ = ("expressions", "text")

    def __init__(self, text: str, *expressions: bytes) -> None:
        self.text, self.expressions = text, expressions


class Type:
    """The type of a set's keys or of a map's values: nft's number for it, its size in bytes, its text.

    `order`: whose byte order a value has, for `nft` to show it: 1 the machine's, 2 the network's, 0 each field its own.
    """

    __slots__ = ("number", "order", "size", "text")

    def __init__(self, text: str, number: int, size: int, order: int = 2) -> None:
        self.text, self.number, self.size, self.order = text, number, size, order


IFNAME, IPV4, ETHER = Type("ifname", 41, _LONGEST, 1), Type("ipv4_addr", 7, 4), Type("ether_addr", 9, 6)
PROTOCOL, SERVICE = Type("inet_proto", 12, 1), Type("inet_service", 13, 2)


def joined(*types: Type) -> Type:
    """The concatenation of several types: each field is padded to four bytes."""
    number = 0
    for one in types:
        number = number << 6 | one.number
    return Type(" . ".join([one.text for one in types]), number, sum([(one.size + 3) & ~3 for one in types]), 0)


class Set:
    """A set, or a map if it has `values`; with `interval` its elements are ranges."""

    __slots__ = ("interval", "key", "name", "values")

    def __init__(self, name: str, key: Type, values: "Type | None" = None, *, interval: bool = False) -> None:
        self.name, self.key, self.values, self.interval = name, key, values, interval

    @property
    def text(self) -> str:
        """Its declaration."""
        more = f" : {self.values.text}" if self.values else ""
        flags = " flags interval;" if self.interval else ""
        return f"{'map' if self.values else 'set'} {self.name} {{ type {self.key.text}{more};{flags} }}"


class Chain:
    """A chain and its rules; with a `kind` (filter, nat) the kernel calls it at `hook`, in the order of `priority`."""

    __slots__ = ("hook", "kind", "name", "place", "priority", "rules")

    def __init__(
        self, name: str, *rules: "Sequence[Part]", kind: str = "", hook: int = 0, priority: int = 0, place: str = ""
    ) -> None:
        self.name, self.rules = name, rules
        self.kind, self.hook, self.priority, self.place = kind, hook, priority, place

    @property
    def text(self) -> "list[str]":
        """Its lines."""
        lines = [f"chain {self.name} {{"]
        if self.kind:
            lines.append(f"\ttype {self.kind} hook {self.place} priority {self.priority}; policy accept;")
        return [*lines, *("\t" + " ".join([part.text for part in rule]) for rule in self.rules), "}"]


class Element:
    """An element of a set or map: its key and value as bytes, and as text. `last`: a range ends before this key."""

    __slots__ = ("key", "last", "set", "text", "value")

    def __init__(
        self, of: Set, text: str, key: bytes, value: "bytes | None" = None, last: "bytes | None" = None
    ) -> None:
        self.set, self.text, self.key, self.value, self.last = of, text, key, value, last


def name_bytes(name: str) -> bytes:
    """A link's name as a key."""
    return name.encode().ljust(_LONGEST, b"\0")


def field(packed: bytes) -> bytes:
    """One field of a concatenation."""
    return packed + bytes(-len(packed) % 4)


# --- parts of rules


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


# --- messages


def message(kind: int, family: int, flags: int, *attributes: bytes) -> Message:
    """A message of nftables (struct nfgenmsg: family, version 0, resource 0)."""
    return Message(kind, flags, bytes((family, 0, 0, 0)) + b"".join(attributes))


def comment(words: str) -> bytes:
    """The user data of a table that `nft` shows as its comment (libnftnl, NFTNL_UDATA_TABLE_COMMENT)."""
    data = text(words)
    return bytes((0, len(data))) + data


class Table:
    """A table: family, name, comment, sets and chains in the order of their use."""

    def __init__(self, family: int, name: str, words: str, sets: "Sequence[Set]", chains: "Sequence[Chain]") -> None:
        self.family, self.name, self.words, self.sets, self.chains = family, name, words, sets, chains

    @property
    def text(self) -> str:
        """What `nft -f` takes."""
        lines = [f'comment "{self.words}"', *(one.text for one in self.sets)]
        for chain in self.chains:
            lines += chain.text
        body = "\n".join(["\t" + line for line in lines])
        return f"table {FAMILIES[self.family]} {self.name} {{\n{body}\n}}\n"

    def made(self) -> "list[Message]":
        """The messages that make it. The kernel refuses them if there is a table of that name."""
        named = attribute(1, text(self.name))
        user_data = attribute(TABLE_USERDATA, comment(self.words))
        messages = [message(NEWTABLE, self.family, CREATE | EXCL, named, user_data)]
        messages += [self._set(named, one, number) for number, one in enumerate(self.sets, 1)]
        messages += [self._chain(named, one) for one in self.chains]
        for chain in self.chains:
            of = attribute(2, text(chain.name))
            for rule in chain.rules:
                expressions = b"".join([one for part in rule for one in part.expressions])
                messages.append(message(NEWRULE, self.family, CREATE | APPEND, named, of, nested(4, expressions)))
        return messages

    def removed(self) -> "list[Message]":
        """The messages that remove it, whether it is there or not."""
        named = attribute(1, text(self.name))
        return [message(NEWTABLE, self.family, CREATE, named), message(DELTABLE, self.family, 0, named)]

    def _set(self, named: bytes, one: Set, number: int) -> Message:
        flags = (4 if one.interval else 0) | (8 if one.values else 0)  # NFT_SET_INTERVAL, NFT_SET_MAP
        numbers = [(3, flags), (4, one.key.number), (5, one.key.size)]
        if one.values:
            numbers += [(6, one.values.number), (7, one.values.size)]
        words = [attribute(kind, be32(value)) for kind, value in (*numbers, (10, number))]
        # libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER and _DATABYTEORDER: without the first `nft` shows no links' names.
        orders = [one.key.order, *([one.values.order] if one.values else [])]
        words.append(attribute(13, *[bytes((kind, 4)) + u32(order) for kind, order in enumerate(orders)]))
        return message(NEWSET, self.family, CREATE | EXCL, named, attribute(2, text(one.name)), *words)

    def _chain(self, named: bytes, one: Chain) -> Message:
        words = [named, attribute(3, text(one.name))]
        if one.kind:
            words.append(nested(4, attribute(1, be32(one.hook)), attribute(2, be32(one.priority))))
            words += [attribute(5, be32(_ACCEPT)), attribute(7, text(one.kind))]
        return message(NEWCHAIN, self.family, CREATE | EXCL, *words)

    def add(self, elements: "Iterable[Element]", *, new: bool = False) -> "list[Message]":
        """The messages that add elements. `new`: EEXIST if one is there; otherwise only if its value is another."""
        return [self._elements(NEWSETELEM, CREATE | (EXCL if new else 0), one) for one in elements]

    def drop(self, elements: "Iterable[Element]") -> "list[Message]":
        """The messages that remove the elements of these keys, whatever their values. ENOENT if one is missing."""
        return [self._elements(DELSETELEM, 0, Element(one.set, one.text, one.key, last=one.last)) for one in elements]

    def question(self, one: Element) -> Message:
        """The message that asks whether there is an element of that key: ENOENT if not."""
        return self._elements(GETSETELEM, 0, Element(one.set, one.text, one.key))

    def _elements(self, kind: int, flags: int, one: Element) -> Message:
        words = [nested(1, attribute(1, one.key))]
        if one.value is not None:
            words.append(nested(2, attribute(1, one.value)))
        listed = [nested(1, *words)]
        if one.last is not None:
            listed.append(
                nested(1, nested(1, attribute(1, one.last)), attribute(3, be32(1)))
            )  # NFT_SET_ELEM_INTERVAL_END
        named = (attribute(1, text(self.name)), attribute(2, text(one.set.name)))
        return message(kind, self.family, flags, *named, nested(3, *listed))

    def told(self, verb: str, one: Element) -> str:
        """The line of `nft` that does the same: "add", "create" or "delete"."""
        return f"nft {verb} element {FAMILIES[self.family]} {self.name} {one.set.name} {{ {one.text} }}"
