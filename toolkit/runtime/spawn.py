"""What starts a container's first process: the sealed program, and the cgroups that it joins."""

import _signal
import os

from toolkit.kernel import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime import plan
    from toolkit.runtime.cgroups import Manager
    from toolkit.runtime.cgroups.files import Entry
    from toolkit.runtime.container_hooks import Streams
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.ending import Ending


class Prepared:
    """Everything that is computed and opened before the container's first process is started."""

    __slots__ = (
        "cgroup", "childs", "ending", "entry", "hook_streams", "intermediate", "parent", "pidfd", "plan", "terminal",
        "userns",
    )  # fmt: skip

    def __init__(
        self,
        the_plan: "plan.LaunchPlan",
        ending: "Ending",
        cgroup: "Manager",
        conversations: "tuple[Conversation, Conversation]",
    ) -> None:
        self.plan, self.ending, self.cgroup = the_plan, ending, cgroup
        self.parent, self.childs = conversations  # our end, and the program's
        self.userns = "user" in the_plan.new or joins_user(the_plan)
        self.entry: "Entry | None" = None  # by which the process joins its cgroups; else we put it there
        self.hook_streams: "Streams | None" = None  # what createContainer hooks read and write
        self.intermediate = 0  # pid of the process that has made the container's first one
        self.pidfd = -1
        self.terminal = -1  # descriptor of the socket that the terminal's master is sent through


_SIGNALS = tuple(number for number in range(1, 65) if number not in (9, 19, 32, 33))  # libc refuses the rest


def sealed_program(image: int, argv: "Sequence[str]", kept: "Sequence[int]") -> int:
    """Start the sealed program `image` with only the descriptors `kept`, and those open at every exec. Raises OSError.

    By posix_spawn(3), which copies no memory of ours; signals are at their defaults, and none is blocked.
    """
    return os.posix_spawn(
        f"/proc/self/fd/{image}",
        list(argv),
        {},
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, fd) for fd in kept],
        setsigmask=(),
        setsigdef=_SIGNALS,
    )


def takes_two_steps(the_plan: "plan.LaunchPlan") -> bool:
    """Whether one clone is not enough: for a user or time namespace, or a pid namespace that we could not leave."""
    return (
        joins_user(the_plan)
        or ("user" in the_plan.new and bool(the_plan.joins))
        or "time" in the_plan.new
        or (any(kind == "pid" for kind, _ in the_plan.joins) and not namespaces.returns_to_own_pid_namespace())
    )


def create_cgroup(cgroup: "Manager") -> None:
    """Make the container's cgroups. Raises what the manager's `create` raises.

    Ctrl-C is delayed meanwhile: otherwise a folder could be made of which we have no note, and nothing would remove it.
    """
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGINT,))
    try:
        cgroup.create()
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def joins_user(the_plan: "plan.LaunchPlan") -> bool:
    """Whether it joins an existing user namespace."""
    return any(kind == "user" for kind, _ in the_plan.joins)
