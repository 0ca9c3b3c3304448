"""The start of a program on its way into a container, when that way ends early."""

import signal
from collections.abc import Iterator

import pytest

from toolkit.errors import LaunchFailed
from toolkit.kernel.program.program import Program
from toolkit.runtime import conversation, entering


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A wait without an end is a failure, not a hang."""

    def late(*_: object) -> None:
        raise TimeoutError("it still waits for a process that is gone")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("code", [0, 3])
def test_a_process_that_dies_before_it_has_told_its_pid(code: int) -> None:
    """As by the kernel for want of memory, in the container's cgroup."""
    parent, childs = conversation.pair()
    p = Program(childs.writing)
    p.call("exit_group", code)
    with pytest.raises(LaunchFailed, match="its first process died"):
        entering.start(p, 1, parent, childs, [], ["ctk"])
    parent.close()
