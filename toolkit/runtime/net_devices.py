"""linux.netDevices (runtime spec 1.3): move a host's network device into the container's network namespace."""

import errno
import os

from toolkit.errors import LaunchFailed, SystemCall, reason
from toolkit.kernel import namespaces, netlink, rtnetlink

_PERMANENT = 0x80  # IFA_F_PERMANENT: configured, not from DHCP or a router


def move(name: str, new_name: str, namespace: str) -> None:
    """Move device `name` of our network namespace to the one at the path `namespace`, as `new_name`.

    The kernel drops its addresses at the move; the permanent ones of global scope are added again (config-linux.md,
    "Network Devices"). Raises LaunchFailed.
    """
    home = target = -1
    try:
        target = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        index = _index(name)
        with netlink.Socket() as here:
            # Before it goes down, because then the IPv6 addresses are dropped (runc loses them).
            addresses = here.dump(netlink.Message(rtnetlink.GETADDR, 0, bytes(8)))
            kept = [body for body in addresses if _goes_along(body, index)]
            here.tell(rtnetlink.link(rtnetlink.NEWLINK, 0, index=index, up=False))
            there = netlink.attribute(rtnetlink.IFLA_NET_NS_FD, netlink.u32(target))
            named = netlink.attribute(rtnetlink.IFLA_IFNAME, netlink.text(new_name))
            here.tell(rtnetlink.link(rtnetlink.NEWLINK, 0, there, named, index=index))
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
    return int.from_bytes(body[4:8], netlink.BYTE_ORDER) == index and body[3] == 0 and bool(body[2] & _PERMANENT)


def _restore(kept: "list[bytes]", name: str) -> None:
    index = netlink.u32(_index(name))
    wanted = (rtnetlink.IFA_ADDRESS, rtnetlink.IFA_LOCAL, rtnetlink.IFA_BROADCAST)
    with netlink.Socket() as there:
        for body in kept:
            same = [netlink.attribute(kind, data) for kind, data in netlink.attributes(body[8:]) if kind in wanted]
            head = body[:2] + bytes(2) + index  # struct ifaddrmsg: without its flags
            there.tell(netlink.Message(rtnetlink.NEWADDR, netlink.CREATE, head + b"".join(same)))
