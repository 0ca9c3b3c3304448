"""Addresses that matter for trust: those of this machine, and those that only this machine's network can reach.

A server can send a client anywhere by a redirect or a token realm, even to addresses that the server itself cannot
reach. A cloud's metadata service, for example, gives credentials to whoever asks at a link-local address.
"""

import ipaddress

# Metadata services outside 169.254.0.0/16 and fe80::/10: AWS over IPv6, Alibaba, Azure's, Oracle's.
_METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})


def is_loopback(host: str) -> bool:
    """Whether the host of a URL is this machine: localhost and below, 127.0.0.0/8, ::1."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 6.3
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_of_this_network(host: str) -> bool:
    """Whether a host or an address is link-local, unspecified, or a cloud's metadata service."""
    host = host.strip("[]").rstrip(".").lower()
    if host in _METADATA_NAMES:
        return True
    address = _address(host)
    return address is not None and (address.is_link_local or address.is_unspecified or str(address) in _METADATA)


def is_address(host: str) -> bool:
    """Whether it is a number, not a name."""
    return _address(host.strip("[]")) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
