"""What networks are made of: addresses, networks, published ports, and what `--net` and `-p` say of them. Pure.

IPv4 addresses are numbers here: the `ipaddress` module costs more than wiring a container up.
"""

from toolkit.errors import Invalid, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Published(TypedDict):
        """A published port, as it is kept: `host` is the host's address, "" for all."""

        protocol: str
        host: str
        port: int
        inner: int


DEFAULT = "bridge"
"""The network that `--net bridge` means; it is made when it is first used."""
PROTOCOLS = {"tcp": 6, "udp": 17}
LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"
MOST_PORTS = 1024
"""In one range: each is an element of its own."""
_MODES = ("none", "host")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")


def number(address: str) -> int:
    """An IPv4 address as a number. Raises ValueError for all but four decimal numbers, without leading zeros."""
    words = address.split(".")
    if len(words) != 4 or not all(word and _DIGITS.issuperset(word) and len(word) <= 3 for word in words):
        raise ValueError(f"{address!r} is not an IPv4 address")
    values = [int(word) for word in words]
    if max(values) > 255 or any(len(word) > 1 and word[0] == "0" for word in words):
        raise ValueError(f"{address!r} is not an IPv4 address")
    return int.from_bytes(bytes(values), "big")


def shown(address: int) -> str:
    """The address as text."""
    return ".".join(map(str, packed(address)))


def packed(address: int) -> bytes:
    """The address as four bytes."""
    return address.to_bytes(4, "big")


class Subnet:
    """A range of IPv4 addresses: the first, and how many bits of it all of them share."""

    __slots__ = ("first", "prefix")

    def __init__(self, first: int, prefix: int) -> None:
        self.first, self.prefix = first, prefix

    @classmethod
    def parse(cls, text: str) -> "Subnet":
        """Of "10.89.0.0/24". Raises ValueError, also if bits after the prefix are set."""
        address, slash, bits = text.partition("/")
        if not slash or not bits or not _DIGITS.issuperset(bits) or int(bits) > 32:
            raise ValueError(f"{text!r} is no subnet such as 10.89.0.0/24")
        found = cls(number(address), int(bits))
        if found.first & (found.size - 1):
            raise ValueError(
                f"{text!r} has bits set after its prefix: {shown(found.first & -found.size)}/{bits} has not"
            )
        return found

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return 1 << 32 - self.prefix

    @property
    def last(self) -> int:
        """Its last address: that of all, the broadcast address."""
        return self.first + self.size - 1

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last

    def overlaps(self, other: "Subnet") -> bool:
        """Whether they have an address in common."""
        return self.first <= other.last and other.first <= self.last

    def __str__(self) -> str:
        return f"{shown(self.first)}/{self.prefix}"


class Network:
    """A network of containers: one bridge of the host, one subnet."""

    def __init__(self, name: str, link: str, subnet: Subnet, gateway: int) -> None:
        self.name, self.link, self.subnet, self.gateway = name, link, subnet, gateway
        self.mtu = 0  # 0: that of the host's way out
        self.internal = False  # no way out of it, and none in but for its own containers and the host
        self.labels: dict[str, str] = {}
        self.created = ""

    def document(self) -> "dict[str, Any]":
        """It as JSON has it."""
        return {
            "name": self.name,
            "link": self.link,
            "subnet": str(self.subnet),
            "gateway": shown(self.gateway),
            "mtu": self.mtu,
            "internal": self.internal,
            "labels": self.labels,
            "created": self.created,
        }

    @classmethod
    def of(cls, document: "Any", where: str) -> "Network":
        """The network of a document. Raises Invalid."""
        try:
            found = cls(
                check_name(document["name"]),
                check_link(document["link"]),
                Subnet.parse(document["subnet"]),
                number(document["gateway"]),
            )
            found.mtu, found.internal = int(document["mtu"]), bool(document["internal"])
            found.labels = {str(key): str(value) for key, value in document["labels"].items()}
            found.created = str(document["created"])
            check_subnet(found.subnet, found.gateway)
        except (KeyError, TypeError, ValueError, AttributeError, Usage) as error:
            raise Invalid("", f"is not a network of ours: {error}", document=where) from None
        return found


def check_name(name: str) -> str:
    """The name, if it is one: letters, digits, `_.-`, not a dot or dash first, at most 64. Raises Usage."""
    if not name or len(name) > 64 or name[0] in ".-" or not _NAME.issuperset(name):
        hint = "use up to 64 letters, digits, '_', '-' and '.', not beginning with '.' or '-'"
        raise Usage("name a network", because=f"{name[:80]!r} is no name for one", hint=hint)
    if name in (*_MODES, "container", "ns", "pasta"):
        raise Usage("name a network", because=f"--net {name} means something else already", hint="choose another")
    return name


def check_link(link: str) -> str:
    """The link's name, if the kernel takes it and text can hold it (dev_valid_name). Raises Usage."""
    if not link or len(link) > 15 or link[0] in ".-" or not _NAME.issuperset(link):
        raise Usage("name a link", because=f"{link[:80]!r} is no name for one", hint="up to 15 letters and digits")
    return link


def check_subnet(subnet: Subnet, gateway: int) -> None:
    """Raise Usage unless containers and the gateway have room in it, and it can be somebody's."""
    doing = f"make a network of {subnet}"
    if not 8 <= subnet.prefix <= 29:
        raise Usage(doing, because="its prefix must be from 8 to 29", hint="/24 has room for 253 containers")
    if gateway not in subnet or gateway in (subnet.first, subnet.last):
        raise Usage(doing, because=f"the gateway {shown(gateway)} is not one of its addresses")
    reserved = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")  # RFC 6890
    if any(subnet.overlaps(Subnet.parse(one)) for one in reserved):
        raise Usage(
            doing, because="these addresses have a meaning of their own", hint="one of 10.0.0.0/8 is free to use"
        )


def link_of(name: str) -> str:
    """The name of a network's bridge: ctk0 for the default one, ctk-NAME, or with a number for a long NAME."""
    if name == DEFAULT:
        return "ctk0"
    if len(name) <= 11:
        return f"ctk-{name}"
    import zlib

    return f"ctk-{zlib.crc32(name.encode()):08x}"


def port_link(address: int) -> str:
    """The name of the bridge's port of the container that has this address."""
    from toolkit.network.sets import PORT_PREFIX

    return PORT_PREFIX + packed(address).hex()


def ethernet_address(address: int) -> bytes:
    """The Ethernet address that a container with this IPv4 address has: a local one (02), then "c".

    So it changes no neighbour's ARP entry when a container is replaced by another one.
    """
    return b"\x02\x63" + packed(address)


class Choice:
    """What `--net` says. `kind`: none, host, network, container, ns; `name`: the network, the container or the path."""

    __slots__ = ("address", "ethernet", "kind", "name")

    def __init__(self, kind: str, name: str = "") -> None:
        self.kind, self.name = kind, name
        self.address = 0  # 0: any
        self.ethernet = b""  # b"": by its address


def parse_choice(text: str) -> Choice:
    """Of none, host, NAME[:ip=ADDRESS,mac=ADDRESS], container:ID or ns:PATH. Raises Usage."""
    kind, colon, rest = text.partition(":")
    if kind in _MODES and not colon:
        return Choice(kind)
    if kind in ("container", "ns"):
        if not rest:
            raise Usage(_doing("--net", text), because=f"{kind}: needs {'an id' if kind == 'container' else 'a path'}")
        return Choice(kind, rest)
    choice = Choice("network", check_name(kind))
    for word in rest.split(",") if colon else ():
        name, _, value = word.partition("=")
        try:
            if name == "ip":
                choice.address = number(value)
            elif name == "mac":
                choice.ethernet = _ethernet(value)
            else:
                raise ValueError(f"{word!r} is none of ip=ADDRESS and mac=ADDRESS")
        except ValueError as error:
            raise Usage(_doing("--net", text), because=str(error)) from None
    return choice


def _ethernet(text: str) -> bytes:
    words = text.split(":")
    if len(words) != 6 or not all(len(word) == 2 and _HEX.issuperset(word) for word in words):
        raise ValueError(f"{text!r} is not an Ethernet address such as 02:63:0a:59:00:02")
    found = bytes.fromhex("".join(words))
    if found[0] & 1 or not any(found):
        raise ValueError(f"{text!r} is not the address of one station")
    return found


def parse_publication(text: str) -> "list[Published]":
    """Of [[ADDRESS:][PORT]:]PORT[/udp], each PORT one number or FIRST-LAST; port 0 stands for a free one. Raises Usage.

    Without an address only the host itself reaches it, by 127.0.0.1.
    """
    doing = _doing("-p", text)
    words, _, protocol = text.partition("/")
    if words.startswith("["):
        raise Usage(doing, because="ports are published on IPv4 addresses", hint="-p 127.0.0.1:8080:80")
    protocol = protocol or "tcp"
    if protocol not in PROTOCOLS:
        raise Usage(doing, because=f"{protocol!r} is neither tcp nor udp")
    parts = words.split(":")
    if len(parts) > 3:
        raise Usage(doing, because="it has more than ADDRESS:PORT:PORT", hint="-p 127.0.0.1:8080:80")
    host = parts[0] if len(parts) == 3 else LOOPBACK
    try:
        number(host)
        inner = _ports(parts[-1])
        outer = _ports(parts[-2]) if len(parts) > 1 and parts[-2] else range(0)
    except ValueError as error:
        raise Usage(doing, because=str(error), hint="-p 8080:80, -p 0.0.0.0:8080:80, -p 5353:53/udp") from None
    if outer and len(outer) != len(inner):
        raise Usage(doing, because=f"{len(outer)} ports of the host are not {len(inner)} of the container")
    return [
        {
            "protocol": protocol,
            "host": "" if host == ANY else host,
            "port": outer[at] if outer else 0,
            "inner": port,
        }
        for at, port in enumerate(inner)
    ]


def _ports(text: str) -> range:
    first, dash, last = text.partition("-")
    for word in (first, last) if dash else (first,):
        if not word or not _DIGITS.issuperset(word) or len(word) > 5 or not 1 <= int(word) <= 65535:
            raise ValueError(f"{word!r} is not a port from 1 to 65535")
    found = range(int(first), int(last if dash else first) + 1)
    if not 1 <= len(found) <= MOST_PORTS:
        raise ValueError(f"{text!r} is not a range of 1 to {MOST_PORTS} ports")
    return found


def told(one: "Published") -> str:
    """A published port as people write it: 127.0.0.1:8080->80/tcp."""
    return f"{one['host'] or ANY}:{one['port']}->{one['inner']}/{one['protocol']}"


def clash(one: "Published", other: "Published") -> bool:
    """Whether both would get the same packets."""
    same = one["protocol"] == other["protocol"] and one["port"] == other["port"]
    return same and (one["host"] == other["host"] or not one["host"] or not other["host"])


def _doing(option: str, text: str) -> str:
    return f"read {option} {text!r}"
