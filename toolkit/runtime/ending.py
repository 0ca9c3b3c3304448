"""How a process of the container becomes the user's program: what is gathered before it is made."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable

    from toolkit.oci.types import Process, Rlimit
    from toolkit.runtime.handover import Filter


class Ending:
    """Arguments, environment, descriptors and shields of the user's program."""

    __slots__ = (
        "apparmor", "arguments", "environment", "fifo", "init", "keyring", "listener_end", "listener_message",
        "preserved", "proc", "rlimits", "seccomp", "selinux", "stdio",
    )  # fmt: skip

    def __init__(self, spec: "Process") -> None:
        self.arguments: "list[str]" = list(spec.get("args") or ())
        # If a variable is given twice, the last one counts and keeps its place; getenv(3) would find the first.
        last: "dict[str, str]" = {}
        for entry in reversed(spec.get("env") or ()):
            last.setdefault(entry.partition("=")[0], entry)
        self.environment: "list[str]" = list(last.values())[::-1]
        self.rlimits: "list[Rlimit]" = list(spec.get("rlimits") or ())
        self.init = False  # a small init remains as the first process, and its child becomes the program
        self.stdio: "tuple[int, int, int] | None" = None  # its standard streams, if not ours
        self.fifo = -1  # the fifo that a created container waits on
        self.preserved: "list[int]" = []  # descriptors from 3 on that stay open
        self.proc = -1  # a procfs of ours, for the security label
        self.apparmor: str = spec.get("apparmorProfile") or ""
        self.selinux: str = spec.get("selinuxLabel") or ""
        self.seccomp: "Filter | None" = None
        self.listener_end: "socket | None" = None  # a socket, if the filter has a listener
        self.listener_message: "Callable[[int], bytes] | None" = None  # the message sent with its fd, for our pid
        self.keyring = ""  # name of the new session keyring, "" to keep the caller's

    def label(self) -> "tuple[bytes, str]":
        """(security label to write before execve(2), where below procfs); b"" for none."""
        if self.apparmor:
            return b"exec " + self.apparmor.encode(), "thread-self/attr/apparmor/exec"
        return self.selinux.encode(), "thread-self/attr/exec" if self.selinux else ""

    def kept(self) -> "list[int]":
        """The descriptors that the program needs beyond the conversation's."""
        fds = [self.fifo, self.proc, *(self.stdio or ())]
        if self.listener_end is not None:
            fds.append(self.listener_end.fileno())
        return [fd for fd in fds if fd >= 0]
