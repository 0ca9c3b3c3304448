"""The kernel's log: whose processes were killed for want of memory."""

import os
from pathlib import Path

import pytest

from toolkit.runtime.comfort.kernel_log import KernelLog

LINE = (
    "6,1401,88123456,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
    "oom_memcg=/system.slice/ctk-a.scope,task_memcg={group},task=dd,pid=612,uid=0\n"
)


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        (LINE.format(group="/system.slice/ctk-a.scope"), 1),
        (LINE.format(group="/system.slice/ctk-a.scope/inner"), 1),
        (LINE.format(group="/system.slice/ctk-a.scope2"), 0),
        (LINE.format(group="/user.slice"), 0),
        ("6,1401,1,-;Memory cgroup out of memory: Killed process 612 (dd)\n", 0),
        # A program of another cgroup chose its own name.
        (LINE.format(group="/b,task=x,task_memcg=/system.slice/ctk-a.scope"), 0),
        # A program wrote it.
        ("1" + LINE.format(group="/system.slice/ctk-a.scope"), 0),
    ],
)
def test_whose_kill_it_was(tmp_path: Path, text: str, kills: int) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    log = KernelLog(str(fifo))
    # A fifo can't be positioned, so the log counts as one that may not be read; a file can.
    assert log.kills("/system.slice/ctk-a.scope") == 0
    file = tmp_path / "file"
    file.write_text(LINE.format(group="/system.slice/ctk-a.scope"))  # from before
    log = KernelLog(str(file))
    with file.open("a") as more:
        more.write(text)
    assert log.kills("/system.slice/ctk-a.scope") == kills
    log.close()


def test_a_log_that_may_not_be_read_says_nothing(tmp_path: Path) -> None:
    assert KernelLog(str(tmp_path / "none")).kills("/") == 0
