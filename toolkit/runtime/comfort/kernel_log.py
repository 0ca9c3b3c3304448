"""Kills for want of memory in the kernel's log: the evidence that stays when the cgroup is gone.

systemd removes an empty scope and its cgroup at once, perhaps before we have read memory.events, and a kill looks like
any other SIGKILL then. The kernel writes its line before it kills (mm/oom_kill.c, dump_oom_summary), for those who may
read the log: root, or everybody where the sysctl kernel.dmesg_restrict is 0.
"""

import os

_RECORD_BYTES = 8192  # one read(2) is one record (Documentation/ABI/testing/dev-kmsg)
_MOST_RECORDS = 100_000


class KernelLog:
    """The kernel's log from now on; nothing at all where it may not be read."""

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
        """How many were killed since the last call, in the cgroup `group` (a path in its hierarchy) or below it."""
        count = 0
        for _ in range(_MOST_RECORDS if self._fd >= 0 else 0):
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BrokenPipeError:
                continue  # overwritten before we came: the next one is the oldest that there is
            except OSError:
                break  # EAGAIN: that was all
            if not record:
                break
            count += _names(record, os.fsencode(group))
        return count


def _names(record: bytes, group: bytes) -> bool:
    """Whether a record says that a process of this cgroup was chosen to be killed.

    `6,1234,5678,-;oom-kill:constraint=…,oom_memcg=/a,task_memcg=/a/b,task=NAME,pid=…`; the name of a task comes last of
    those that anybody may choose. What a program writes has a facility (the first number, over 8), the kernel's is 0.
    """
    head, found, told = record.partition(b";oom-kill:")
    _, there, told = told.partition(b",task_memcg=")
    path = told.partition(b",task=")[0]
    return bool(found and there) and head[1:2] == b"," and (path == group or path.startswith(group + b"/"))
