"""linux.netDevices (runtime spec 1.3): move a host's network device into the container's network namespace.

The few netlink messages (rtnetlink(7)) are built here, because pyroute2 is too slow to import on the hot path.
"""

import errno
import os

from toolkit.errors import LaunchFailed, SystemCall, reason
from toolkit.kernel import libc, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_RTM_NEWLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 20, 22
_REQUEST, _ACK, _DUMP, _CREATE = 0x1, 0x4, 0x300, 0x400
_IFLA_IFNAME, _IFLA_NET_NS_FD = 3, 28
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_PERMANENT = 0x80  # IFA_F_PERMANENT: configured, not from DHCP or a router
_ERROR, _DONE = 2, 3


def move(name: str, new_name: str, namespace: str) -> None:
    """Move device `name` of our network namespace to the one at the path `namespace`, as `new_name`.

    The kernel drops its addresses at the move; the permanent ones of global scope are added again (config-linux.md,
    "Network Devices"). Raises LaunchFailed.
    """
    home = target = -1
    try:
        target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        index = _index(name)
        # struct ifinfomsg: family, padding, type, index, flags, change: only IFF_UP changes, to 0.
        link = bytes(4) + index.to_bytes(4, "little") + bytes(4) + (1).to_bytes(4, "little")
        # Before it goes down, because then the IPv6 addresses are dropped (runc loses them).
        kept = [body for body in _ask(_RTM_GETADDR, _DUMP, bytes(8)) if _goes_along(body, index)]
        _ask(_RTM_NEWLINK, _ACK, link)
        attributes = _attribute(_IFLA_NET_NS_FD, target.to_bytes(4, "little"))
        attributes += _attribute(_IFLA_IFNAME, new_name.encode() + b"\0")
        _ask(_RTM_NEWLINK, _ACK, bytes(4) + index.to_bytes(4, "little") + bytes(8) + attributes)
        if kept:
            home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            namespaces.setns(target, namespaces.CLONE_NEWNET)
            try:
                _restore(kept, new_name)
            finally:
                namespaces.setns(home, namespaces.CLONE_NEWNET)
    except (OSError, SystemCall) as error:
        raise LaunchFailed(
            f"move network device {name!r} into the container (linux.netDevices)",
            because=error.because if isinstance(error, SystemCall) else reason(error),
            hint="`ip link` shows the devices of the host",
        ) from None
    finally:
        for fd in (home, target):
            if fd >= 0:
                os.close(fd)


def _index(name: str) -> int:
    """The device's number in our network namespace. Raises OSError (ENODEV)."""
    import _socket

    try:
        return _socket.if_nametoindex(name)
    except OSError:
        raise OSError(errno.ENODEV, "no such device") from None


def _goes_along(body: bytes, index: int) -> bool:
    """struct ifaddrmsg: family, prefix length, flags, scope (0: global), index."""
    return int.from_bytes(body[4:8], "little") == index and body[3] == 0 and bool(body[2] & _PERMANENT)


def _restore(kept: "list[bytes]", name: str) -> None:
    index = _index(name).to_bytes(4, "little")
    for body in kept:
        attributes, rest = b"", body[8:]
        while len(rest) >= 4:
            size, kind = int.from_bytes(rest[:2], "little"), int.from_bytes(rest[2:4], "little")
            if kind in (_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST):
                attributes += _attribute(kind, rest[4:size])
            rest = rest[(size + 3) & ~3 or 4 :]
        _ask(_RTM_NEWADDR, _ACK | _CREATE, body[:2] + bytes(2) + index + attributes)


def _ask(kind: int, flags: int, body: bytes) -> "list[bytes]":
    """Send one message; returns the bodies of the response. Raises OSError with the kernel's errno."""
    header = (16 + len(body)).to_bytes(4, "little") + kind.to_bytes(2, "little")
    header += (_REQUEST | flags).to_bytes(2, "little") + (1).to_bytes(4, "little") + bytes(4)
    end = libc.syscall(libc.number("socket"), 16, 3 | os.O_CLOEXEC, 0)  # AF_NETLINK, SOCK_RAW, NETLINK_ROUTE
    bodies: "list[bytes]" = []
    try:
        os.write(end, header + body)
        while True:
            for answer, content in _messages(os.read(end, 1 << 16)):
                if answer == _ERROR:
                    number = -int.from_bytes(content[:4], "little", signed=True)
                    if number:
                        raise OSError(number, os.strerror(number))
                if answer in (_ERROR, _DONE):
                    return bodies
                bodies.append(content)
    finally:
        os.close(end)


def _messages(data: bytes) -> "Iterator[tuple[int, bytes]]":
    while len(data) >= 16:
        size = int.from_bytes(data[:4], "little")
        yield int.from_bytes(data[4:6], "little"), data[16:size]
        data = data[(size + 3) & ~3 :]


def _attribute(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return size.to_bytes(2, "little") + kind.to_bytes(2, "little") + data + bytes(-size % 4)
