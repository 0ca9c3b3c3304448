"""nftables: sets, elements, chains and tables, each as netlink attributes and as the text that `nft -f` takes.

Only what table.py is made of; parts of rules are in rule_parts.py, which a container does without. The names and
numbers are those of <linux/netfilter/nf_tables.h>, where every number is in network byte order. `nft -j list` compares
both forms in tests/oracle/test_nft.py.
"""

from toolkit.kernel.netlink import APPEND, CREATE, EXCL, Message, attribute, nested, text, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from toolkit.network.rule_parts import Part

INET, BRIDGE = 1, 7  # NFPROTO_*
FAMILIES = {INET: "inet", BRIDGE: "bridge"}
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4  # NF_INET_*, and PREROUTING of NF_BR_* too

NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM = (
    0xA00 + number for number in (0, 1, 2, 3, 6, 9, 12, 13, 14)
)
TABLE_USERDATA = 6

_ACCEPT = 1
_LONGEST = 16  # IFNAMSIZ


def be32(number: int) -> bytes:
    """Four bytes in network order, as nftables wants them."""
    return number.to_bytes(4, "big", signed=number < 0)


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


def message(kind: int, family: int, flags: int, *attributes: bytes) -> Message:
    """A message of nftables (struct nfgenmsg: family, version 0, resource 0)."""
    return Message(kind, flags, bytes((family, 0, 0, 0)) + b"".join(attributes))


def comment(words: str) -> bytes:
    """The user data of a table that `nft` shows as its comment (libnftnl, NFTNL_UDATA_TABLE_COMMENT)."""
    data = text(words)
    return bytes((0, len(data))) + data


class Table:
    """A table: family, name, comment, sets, and what makes its chains in the order of their use.

    The chains are made when they are asked for: a container needs the sets only.
    """

    def __init__(
        self, family: int, name: str, words: str, sets: "Sequence[Set]", chains: "Callable[[], Sequence[Chain]]"
    ) -> None:
        self.family, self.name, self.words, self.sets, self._chains = family, name, words, sets, chains

    @property
    def chains(self) -> "Sequence[Chain]":
        """Its chains."""
        return self._chains()

    @property
    def text(self) -> str:
        """What `nft -f` takes."""
        lines = [f'comment "{self.words}"', *(one.text for one in self.sets)]
        for chain in self._chains():
            lines += chain.text
        body = "\n".join(["\t" + line for line in lines])
        return f"table {FAMILIES[self.family]} {self.name} {{\n{body}\n}}\n"

    def made(self) -> "list[Message]":
        """The messages that make it. The kernel refuses them if there is a table of that name."""
        named = attribute(1, text(self.name))
        user_data = attribute(TABLE_USERDATA, comment(self.words))
        messages = [message(NEWTABLE, self.family, CREATE | EXCL, named, user_data)]
        messages += [self._set(named, one, number) for number, one in enumerate(self.sets, 1)]
        chains = self._chains()
        messages += [self._chain(named, one) for one in chains]
        for chain in chains:
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
        # libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER and _DATABYTEORDER (quirk 45).
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
