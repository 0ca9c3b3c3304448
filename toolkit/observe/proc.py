"""Facts about processes from /proc (proc(5)). The parsers take text and open nothing."""

import os

from toolkit.kernel import mountinfo
from toolkit.kernel.host import read

TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Socket states (include/net/tcp_states.h): of TCP, listening; of UDP, bound and not connected.
_LISTENING = {"tcp": "0A", "udp": "07"}


class Process:
    """One process. `inner_pid` is its pid in its innermost pid namespace, `uid` its user id as seen there."""

    def __init__(
        self,
        pid: int,
        inner_pid: int,
        parent: int,
        uid: int,
        state: str,
        threads: int,
        cpu_s: float,
        memory_bytes: int,
        read_bytes: int,
        written_bytes: int,
        command: str,
    ) -> None:
        self.pid = pid
        self.inner_pid = inner_pid
        self.parent = parent
        self.uid = uid
        self.state = state
        self.threads = threads
        self.cpu_s = cpu_s
        self.memory_bytes = memory_bytes
        self.read_bytes = read_bytes
        self.written_bytes = written_bytes
        self.command = command


class Port:
    """A listening socket. `inode` is its number in the links of /proc/PID/fd."""

    def __init__(
        self,
        protocol: str,
        address: str,
        port: int,
        inode: int,
    ) -> None:
        self.protocol = protocol
        self.address = address
        self.port = port
        self.inode = inode


def process(pid: int) -> Process | None:
    """A process as it is now; None if it is gone."""
    stat, values = read(f"/proc/{pid}/stat"), status(read(f"/proc/{pid}/status"))
    if not stat or "Uid" not in values:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    inner = values.get("NSpid", str(pid)).split()[-1]
    io = status(read(f"/proc/{pid}/io"))
    command = read(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")
    return Process(
        pid=pid,
        inner_pid=int(inner),
        parent=int(fields[1]),
        uid=inside(int(values["Uid"].split()[1]), id_map(read(f"/proc/{pid}/uid_map"))),
        state=fields[0],
        threads=int(fields[17]),
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_S,
        memory_bytes=int(fields[21]) * PAGE_BYTES,
        read_bytes=int(io.get("read_bytes", 0)),
        written_bytes=int(io.get("write_bytes", 0)),
        command=command or f"[{values.get('Name', '?')}]",
    )


def status(text: str) -> dict[str, str]:
    """The `Name: value` lines of /proc/PID/status and similar files."""
    # Not splitlines: a process name may contain a form feed, and what follows it would be taken for a line.
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name: value.strip() for name, colon, value in pairs if colon}


def id_map(text: str) -> list[tuple[int, int, int]]:
    """The lines of /proc/PID/uid_map: (first id inside, first id outside, count)."""
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in text.splitlines())]


def inside(number: int, lines: list[tuple[int, int, int]]) -> int:
    """An id as seen in a user namespace; the overflow id (user_namespaces(7)) if it is not mapped."""
    for first, outside, count in lines:
        if outside <= number < outside + count:
            return first + number - outside
    return 65534


def mounts(text: str) -> list[dict[str, str]]:
    """The mounts in /proc/PID/mountinfo, in order."""
    return [
        {"destination": point, "type": kind, "source": source, "root": root, "options": options}
        for _, _, root, point, options, kind, source, _ in mountinfo.mounts(text)
    ]


def listening(table: str, protocol: str) -> list[Port]:
    """The listening sockets in /proc/PID/net/PROTOCOL ("tcp", "tcp6", "udp", "udp6")."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == _LISTENING[protocol.rstrip("6")]:
            address, _, port = words[1].partition(":")
            found.append(Port(protocol, _address(address), int(port, 16), int(words[9])))
    return found


def _address(text: str) -> str:
    """An address as text. The kernel prints it as 32-bit words in the machine's byte order."""
    import ipaddress
    import sys

    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return str(ipaddress.ip_address(raw))


def sockets(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open; empty without permission."""
    found = set()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return set()
    for name in names:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found
