"""OOM kills in the kernel's log: the evidence that remains when the cgroup is gone.

systemd removes an empty scope and its cgroup at once, perhaps before we have read memory.events, and then a kill looks
like any other SIGKILL. The kernel logs a line before it kills (mm/oom_kill.c, dump_oom_summary). Root can read the log,
and everybody if the sysctl kernel.dmesg_restrict is 0.
"""

import os

_RECORD_BYTES = 8192  # one read(2) is one record (Documentation/ABI/testing/dev-kmsg)
_MOST_RECORDS = 100_000


class KernelLog:
    """The kernel's log from now on; empty if we may not read it."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def kills(self, group: str) -> int:
        """The number of kills since the last call, in the cgroup `group` (a path in its hierarchy) or below it."""
        count = 0
        for _ in range(_MOST_RECORDS if self._fd >= 0 else 0):
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BrokenPipeError:
                continue  # overwritten before we read it: the next read returns the oldest record left
            except OSError:
                break  # EAGAIN: no more records
            if not record:
                break
            count += _names(record, os.fsencode(group))
        return count


def _names(record: bytes, group: bytes) -> bool:
    """Whether a record says that a process of this cgroup was selected to be killed.

    `6,1234,5678,-;oom-kill:constraint=…,oom_memcg=/a,task_memcg=/a/b,task=NAME,pid=…`; the task's name, which a program
    can choose, comes after the cgroups. A program's record has a facility (first number over 8), the kernel's has 0.
    """
    head, found, rest = record.partition(b";oom-kill:")
    _, there, rest = rest.partition(b",task_memcg=")
    path = rest.partition(b",task=")[0]
    return bool(found and there) and head[1:2] == b"," and (path == group or path.startswith(group + b"/"))
