"""Watch for OOM kills in a container, so that an old kill is not blamed for a later SIGKILL.

The cgroups' counters say how many processes were killed, but not when; a process that stays with the container can
watch.
"""

import errno
import os
import time

from toolkit.errors import CtkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from toolkit.runtime.cgroups import Manager
    from toolkit.runtime.comfort.kernel_log import KernelLog
    from toolkit.runtime.record import Record

    class Kills(TypedDict, total=False):
        """OOM kills."""

        kills: int
        limit: int  # bytes; 0: not known
        peak: int  # bytes; 0: not known
        before_s: float  # how long ago the last one was reported, in seconds


_POLLPRI, _POLLIN = 2, 1


class Watch:
    """A relay.Watch for OOM kills; `fd` stays -1 if the kernel can't report them."""

    def __init__(self, container: "Record") -> None:
        self.fd = -1
        self.events = _POLLIN
        self.told_s = -1.0  # when a kill was last reported; -1: never
        self.found: "Kills" = {}  # `facts` at that moment: systemd removes an empty scope's cgroup at once
        self._limit = 0
        self._manager: "Manager | None" = None
        self._file = -1
        self._kills = 0
        self._group = ""  # its path in the hierarchy
        self._log: "KernelLog | None" = None
        try:
            from toolkit.runtime import cgroups

            self._manager = cgroups.from_facts(container.cgroups)
            kind, path = self._manager.oom_events()
            if kind:
                self._listen(kind, path)
        except (CtkError, OSError):
            pass  # no cgroups, or we may not read them

    def _listen(self, kind: str, path: str) -> None:
        from toolkit.runtime.comfort.kernel_log import KernelLog

        self._log = KernelLog()
        self._group = os.path.dirname(path).removeprefix("/sys/fs/cgroup").removeprefix("/memory" * (kind == "eventfd"))
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if kind == "file":  # v2: ready for POLLPRI when a number in memory.events has changed since it was read
            self.events = _POLLPRI
            self._kills = self._count()
            self.fd = self._file
            with open(os.path.dirname(path) + "/memory.max", "rb", buffering=0) as file:
                limit = file.read(64).strip()
            self._limit = int(limit) if limit.isdigit() else 0
            return
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # v1: the kernel's cgroup-v1/memory.rst, 10 "OOM Control".
        with open(os.path.dirname(path) + "/cgroup.event_control", "wb", buffering=0) as file:
            file.write(f"{event} {self._file}".encode())
        self.fd = event

    def heard(self) -> None:
        """Called when the kernel has reported something."""
        try:
            if self.events == _POLLPRI:
                before, self._kills = self._kills, self._count()
                if self._kills == before:
                    return  # the limit was reached, but nothing was killed
            else:
                os.eventfd_read(self.fd)
        except BlockingIOError:
            return
        except OSError:  # the cgroup is gone
            self.fd = -1
            return
        self.told_s = time.monotonic()
        self.found = {"kills": self._kills, "limit": self._limit, "peak": 0} if self._kills else {}
        assert self._manager is not None
        try:
            self.found = facts(self._manager) or self.found
        except (CtkError, OSError, KeyError):
            pass

    def signalled(self) -> None:
        """A process has ended, perhaps by an OOM kill, which is reported up to 10 ms late (cgroup_file_notify)."""
        if self.fd >= 0:
            self.heard()

    def logged(self) -> "Kills":
        """The kills in the cgroup by the kernel's log; {} if there are none."""
        kills = self._log.kills(self._group) if self._log else 0
        return {"kills": kills, "limit": self._limit, "peak": 0} if kills else {}

    def _count(self) -> int:
        words = os.pread(self._file, 4096, 0).split()
        return int(words[words.index(b"oom_kill") + 1]) if b"oom_kill" in words else 0


def facts(manager: "Manager") -> "Kills":
    """The number of kills in the cgroup, its limit and its peak (bytes); {} if there was no kill.

    Raises CtkError, OSError, KeyError if the cgroup is gone, or was never limited.
    """
    kills = manager.oom_kills()
    if not kills:
        return {}
    memory = manager.stats()["memory"]["usage"]
    if not manager.exists():
        raise FileNotFoundError(errno.ENOENT, "its cgroup went while it was read")  # so what was read may be zeros
    return {"kills": kills, "limit": memory.get("limit", 0), "peak": memory.get("max", 0)}
