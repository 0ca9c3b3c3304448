"""Start the child that becomes a container, with one clone or, where that can't do it, with two."""

import _signal
import os

from toolkit.errors import LaunchFailed, reason
from toolkit.kernel import namespaces, process
from toolkit.runtime import child, log, plan, stops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime.cgroups import Manager
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.ending import Ending
    from toolkit.runtime.launch import Launch
    from toolkit.runtime.steps import Stage

_ALL_BUT_PID = frozenset(kind for kind in namespaces.NAMESPACES if kind != "pid")


class Prepared:
    """Everything that is computed and opened before a child is started."""

    __slots__ = ("ending", "image", "parent", "pidfd", "plan", "stage")

    def __init__(
        self,
        the_plan: "plan.LaunchPlan",
        ending: "Ending",
        image: int,
        stage: "Stage",
        parent: "Conversation",
    ) -> None:
        self.plan, self.ending, self.stage, self.parent = the_plan, ending, stage, parent
        self.image = image  # the sealed program of finish.py
        self.pidfd = -1


def spawn(launch: "Launch", prepared: Prepared) -> None:
    """Start the child that becomes the container; sets `launch.pid`, and opens a pidfd if one is needed."""
    the_plan, stage = prepared.plan, prepared.stage
    # runc's debug log has these words at these points, and test suites for runtimes look for them.
    log.debug(f"nsexec container setup: new namespaces {sorted(the_plan.new)}")
    if _takes_two_steps(the_plan):
        from toolkit.runtime import intermediate

        launch.mapped = True
        launch.pid, prepared.pidfd = intermediate.clone(
            the_plan, launch.spec, stage, prepared.ending, prepared.image, prepared.parent
        )
        return
    child.open_joins(the_plan, _ALL_BUT_PID)
    if stage.has_user_namespace or plan.maps_ids(launch.spec):
        from toolkit.runtime import mapping, opener

        if stage.has_user_namespace:
            mapping.make_nodes(the_plan, stage, launch.spec["linux"])
        mapping.idmap_sources(the_plan, stage, launch.spec)
        opener.start(the_plan, stage, prepared.parent)
    if not stage.has_user_namespace:
        process.hide()
    own_pid_namespace = _enter_pid_namespace(the_plan)
    create_cgroup(stage.cgroup)
    launch.has_cgroup = True
    stops.passed("parent")
    entry = stage.entry = stage.cgroup.entry()
    launch.pid, prepared.pidfd = process.clone3(
        the_plan.clone_flags,
        cgroup_fd=entry.fd if entry is not None else -1,
        want_pidfd=bool(launch.options.pidfd_socket),
    )
    if launch.pid == 0:
        prepared.parent.close()
        child.container(the_plan, stage, prepared.ending, prepared.image)
    if entry is not None:
        entry.close()
    if own_pid_namespace >= 0:
        namespaces.setns(own_pid_namespace, namespaces.CLONE_NEWPID)
        os.close(own_pid_namespace)


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


def _takes_two_steps(the_plan: "plan.LaunchPlan") -> bool:
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


def _enter_pid_namespace(the_plan: "plan.LaunchPlan") -> int:
    """Make the next child a member of the spec's pid namespace; returns an fd of our own to come back to, or -1."""
    for kind, path in the_plan.joins:
        if kind == "pid":
            before = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise LaunchFailed(f"join the pid namespace {path!r}", because=reason(error)) from None
            namespaces.setns(fd, namespaces.CLONE_NEWPID)
            os.close(fd)
            return before
    return -1
