"""Ports of the host: whether one is free, who has it, and which one is."""

import _socket
import errno
import os

from toolkit.errors import CtkError, InUse, reason
from toolkit.network import model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.network.model import Published

_LISTENING, _UNCONNECTED = b"0A", b"07"  # TCP_LISTEN; of a UDP socket that takes packets from anybody


def check(one: "Published") -> int:
    """The port, if no program of the host has it; a free one for port 0. Raises InUse, naming the program; CtkError."""
    doing = f"publish port {model.told(one)}"
    tcp = one["protocol"] == "tcp"
    end = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM if tcp else _socket.SOCK_DGRAM)
    try:
        if tcp:  # connections of an earlier server that are still being closed are in nobody's way
            end.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        end.bind((one["host"] or model.ANY, one["port"]))
        port: int = end.getsockname()[1]
        return port
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            who = holder(one)
            hint = "choose another port of the host, or -p PORT alone for a free one"
            raise InUse(doing, because=f"{who or 'another program'} has it", hint=hint) from None
        hint = "see the host's addresses: ip -brief address" if error.errno == errno.EADDRNOTAVAIL else ""
        raise CtkError(doing, because=reason(error), hint=hint) from None
    finally:
        end.close()


def holder(one: "Published") -> str:
    """The program that has the port, as "nginx (pid 7)"; "" if it can't be found."""
    inodes = _inodes(one)
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in wanted:
                    with open(f"/proc/{pid}/comm", errors="replace") as file:
                        return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue  # it ended, or is not ours to look at
    return ""


def _inodes(one: "Published") -> "set[str]":
    """The inodes of the sockets at the port (proc(5), /proc/net/tcp)."""
    found = set()
    state = _LISTENING if one["protocol"] == "tcp" else _UNCONNECTED
    for name in (one["protocol"], one["protocol"] + "6"):
        try:
            with open(f"/proc/self/net/{name}", "rb") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue  # without IPv6
        for line in lines:
            words = line.split()
            if words[3] == state and int(words[1].rpartition(b":")[2], 16) == one["port"]:
                found.add(words[9].decode())
    return found
