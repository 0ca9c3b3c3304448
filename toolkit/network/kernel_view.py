"""What the kernel has of a network, for whoever looks at it. By pyroute2, which takes 200 ms to import: nothing that
starts a container imports this module (pyproject.toml, "the runtime does not look at networks by pyroute2").
"""

from typing import Any

from pyroute2 import IPRoute


class View:
    """A bridge as the kernel has it. `ports`: of each its name, and the bytes that its container received and sent."""

    def __init__(self, up: bool, mtu: int, addresses: list[str], ports: dict[str, tuple[int, int]]) -> None:
        self.up, self.mtu, self.addresses, self.ports = up, mtu, addresses, ports


def look(link: str) -> View | None:
    """The bridge of that name; None if there is none."""
    with IPRoute() as route:
        found = route.link_lookup(ifname=link)
        if not found:
            return None
        (index,) = found
        (bridge,) = route.get_links(index)
        addresses = [
            f"{_attribute(one, 'IFA_ADDRESS')}/{one['prefixlen']}" for one in route.get_addr(index=index, family=2)
        ]
        ports = {}
        for one in route.get_links():
            if _attribute(one, "IFLA_MASTER") == index:
                counted: Any = _attribute(one, "IFLA_STATS64") or {}
                # What the bridge sends at a port is what the container receives.
                ports[str(_attribute(one, "IFLA_IFNAME"))] = (
                    int(counted.get("tx_bytes", 0)),
                    int(counted.get("rx_bytes", 0)),
                )
        return View(bool(bridge["flags"] & 1), int(_attribute(bridge, "IFLA_MTU")), addresses, ports)


def _attribute(message: Any, name: str) -> Any:
    return dict(message["attrs"]).get(name)
