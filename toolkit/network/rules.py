"""The rules of the two tables, chain by chain: table.py says what they are for.

Imported when the tables are made or shown.
"""

from toolkit.network import rule_parts as parts
from toolkit.network.nft import FORWARD, OUTPUT, POSTROUTING, PREROUTING, Chain
from toolkit.network.sets import (
    ADDRESSES,
    INNER,
    LINKS,
    OWNERS,
    PAIRS,
    PORT_PREFIX,
    PORTS,
    PORTS_AT,
    SHUT,
    SUBNETS,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = (parts.IS_IPV4, parts.TO_US, parts.jump("published"))


def inet() -> "Sequence[Chain]":
    """Those of `inet ctk`."""
    return (
        Chain(
            "published",
            (parts.translate(PORTS_AT, with_address=True),),
            (parts.translate(PORTS, with_address=False),),
        ),
        Chain(
            "loopback",
            (parts.from_link("lo", equal=False), parts.loopback_destination(), parts.COUNT, parts.DROP),
            kind="filter", hook=PREROUTING, priority=-300, place="prerouting",
        ),
        Chain("arriving", _HERE, kind="nat", hook=PREROUTING, priority=-100, place="prerouting"),
        Chain("own", _HERE, kind="nat", hook=OUTPUT, priority=-100, place="output"),
        Chain(
            "leaving",
            (parts.source_in(SUBNETS), parts.to_links(LINKS, inside=False), parts.MASQUERADE),
            # A container that asks for its own published port: the answer must come back by us (quirk 43).
            (parts.source_in(SUBNETS), parts.to_links(LINKS), parts.TRANSLATED, parts.MASQUERADE),
            (parts.loopback_source(), parts.to_links(LINKS), parts.MASQUERADE),
            kind="nat", hook=POSTROUTING, priority=100, place="postrouting",
        ),
        Chain(
            "passing",
            (parts.between(PAIRS), parts.ACCEPT),
            (parts.from_links(INNER), parts.COUNT, parts.DROP),
            (parts.ESTABLISHED, parts.ACCEPT),
            (parts.TRANSLATED, parts.ACCEPT),
            (parts.to_links(LINKS), parts.COUNT, parts.DROP),
            (parts.from_links(SHUT), parts.COUNT, parts.DROP),
            kind="filter", hook=FORWARD, priority=0, place="forward",
        ),
    )  # fmt: skip


def bridge() -> "Sequence[Chain]":
    """Those of `bridge ctk`."""
    return (
        Chain(
            "guard",
            (parts.ethernet_source_not_in(OWNERS), parts.COUNT, parts.DROP),
            (parts.arp_probe(), parts.ACCEPT),
            (parts.arp_source_in(ADDRESSES), parts.ACCEPT),
            (parts.ip_source_in(ADDRESSES), parts.ACCEPT),
            (parts.COUNT, parts.DROP),
        ),
        Chain(
            "ports",
            (parts.from_link(PORT_PREFIX + "*"), parts.jump("guard")),
            kind="filter", hook=PREROUTING, priority=-300, place="prerouting",
        ),
    )  # fmt: skip
