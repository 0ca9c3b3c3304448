"""Failpoints: points at which a test has the runtime killed, to show that nothing is ever left behind.

`CTK_TEST_KILL=SIDE:N` ends the process on that side at the Nth failpoint that it reaches: "parent", or "child", the
container's first process. "operation:N" ends that one in place of operation N of its program. Without it a failpoint
costs one comparison. tests/story/test_killed.py counts up until a run completes.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.kernel.program.program import Program

PASSED = b"S"  # before struct timespec, in a conversation
_side, _, _count = os.environ.get("CTK_TEST_KILL", "").partition(":")
_left = int(_count) if _count.isascii() and _count.isdigit() else 0
_KILLED = 137  # exit code; the first process of a pid namespace is immune to its own SIGKILL (pid_namespaces(7))


def passed() -> None:
    """A failpoint of the parent has been reached."""
    global _left
    if _left and _side == "parent":
        _left -= 1
        if not _left:
            os.kill(os.getpid(), 9)


watch: "Callable[[int], None] | None" = None
"""Called at each failpoint of a program's, with the time in nanoseconds (CLOCK_MONOTONIC), for `explain --run`."""


def emit(p: "Program", number: int) -> None:
    """Failpoint `number` of the child's side in a program: nothing, or its end; told of if somebody watches."""
    if _side == "child" and number == _left:
        p.call("exit_group", _KILLED)
    if watch is not None:
        told = p.room(24)
        p.own("copy", told + 7, p.text(PASSED), 1)
        p.call("clock_gettime", 1, told + 8)
        p.tell(told + 7, 17)


def break_off(p: "Program") -> None:
    """Let a whole program end at the operation that the test has chosen."""
    if _side == "operation" and _left:
        p.finish()
        if _left <= len(p.operations):
            p.operations[_left - 1] = ("exit_group", (_KILLED,), 0, ())
