"""Failpoints: points at which a test has the runtime killed, to show that nothing is ever left behind.

`CTK_TEST_KILL=SIDE:N` ends the process on that side ("parent" or "child") at the Nth failpoint that it reaches.
Without it a failpoint costs one comparison. tests/story/test_killed.py counts up until a run completes.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Program

_side, _, _count = os.environ.get("CTK_TEST_KILL", "").partition(":")
_left = int(_count) if _count.isascii() and _count.isdigit() else 0


def passed(side: str) -> None:
    """A failpoint of `side` has been reached."""
    global _left
    if _left and side == _side:
        _left -= 1
        if not _left:
            if side == "child":
                os._exit(137)  # the first process of a pid namespace is immune to its own SIGKILL (pid_namespaces(7))
            os.kill(os.getpid(), 9)


def emit(p: "Program", number: int) -> None:
    """Failpoint `number` of the child's side in a program: nothing, or its end."""
    if _side == "child" and number == _left:
        p.call("exit_group", 137)
