"""linux.netDevices (runtime spec 1.3): move a host's network device into the container's network namespace.

Two netlink messages by hand (rtnetlink(7)): pyroute2 may not be loaded on the hot path, and this is all that is needed.
"""

import os

from toolkit.errors import LaunchFailed
from toolkit.kernel import libc

_RTM_NEWLINK = 16
_IFLA_IFNAME, _IFLA_NET_NS_PID = 3, 19


def move(name: str, new_name: str, pid: int) -> None:
    """Move device `name` of our namespace to the one of `pid`, as `new_name`. Raises LaunchFailed."""
    try:
        fd = os.open(f"/sys/class/net/{name}/ifindex", os.O_RDONLY | os.O_CLOEXEC)
        try:
            index = int(os.read(fd, 32))
        finally:
            os.close(fd)
        attributes = _attribute(_IFLA_NET_NS_PID, pid.to_bytes(4, "little"))
        if new_name != name:
            attributes += _attribute(_IFLA_IFNAME, new_name.encode() + b"\0")
        # struct ifinfomsg: family, padding, type, index, flags, change.
        body = bytes(4) + index.to_bytes(4, "little") + bytes(8) + attributes
        header = (16 + len(body)).to_bytes(4, "little") + _RTM_NEWLINK.to_bytes(2, "little")
        header += (0x1 | 0x4).to_bytes(2, "little") + (1).to_bytes(4, "little") + bytes(4)  # REQUEST, ACK
        end = libc.syscall(libc.number("socket"), 16, 3 | os.O_CLOEXEC, 0)  # AF_NETLINK, SOCK_RAW, NETLINK_ROUTE
        try:
            os.write(end, header + body)
            answer = os.read(end, 4096)
        finally:
            os.close(end)
        number = int.from_bytes(answer[16:20], "little", signed=True)
        if number:
            raise OSError(-number, os.strerror(-number))
    except OSError as error:
        raise LaunchFailed(
            f"move network device {name!r} into the container (linux.netDevices)",
            because=os.strerror(error.errno or 0).lower(),
            hint="`ip link` shows the devices of the host",
        ) from None


def _attribute(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return size.to_bytes(2, "little") + kind.to_bytes(2, "little") + data + bytes(-size % 4)
