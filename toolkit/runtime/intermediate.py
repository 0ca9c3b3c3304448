"""Start a container in two steps, through a process that joins or makes the user (and time) namespace first.

A single clone3(2) cannot do this if new namespaces must belong to an existing user namespace, if joining the host's
namespaces takes privileges that a new user namespace takes away, or if there are time offsets, which must be written
before the time namespace has its first member. So a short-lived process goes ahead, and its child, by CLONE_PARENT, is
ours.
"""

import os

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason
from toolkit.kernel import namespaces, process
from toolkit.runtime import child, mapping, opener
from toolkit.runtime import conversation as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.oci.types import Spec, TimeOffset
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.ending import Ending
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.steps import Stage

_ALL = frozenset(namespaces.NAMESPACES)


def clone(
    plan: "LaunchPlan",
    spec: "Spec",
    stage: "Stage",
    ending: "Ending",
    image: int,
    parent: "Conversation",
) -> "tuple[int, int]":
    """(pid, pidfd) of the container's first process. Raises CtkError."""
    child.open_joins(plan, _ALL)
    mapping.make_nodes(plan, stage, spec.get("linux") or {})
    mapping.idmap_sources(plan, stage, spec)
    opener.start(plan, stage, parent)
    linux = spec.get("linux") or {}
    ask_read, ask_write = os.pipe()
    tell_read, tell_write = os.pipe()
    pid, _ = process.clone3(0)
    if pid == 0:
        os.close(ask_read)
        os.close(tell_write)
        _go_ahead(plan, stage, ending, image, parent, ask_write, tell_read)
    os.close(ask_write)
    os.close(tell_read)
    offsets = -1
    try:
        if "time" in plan.new:
            # Now, because later the file will belong to the host's root; and by us, so that the process can stay
            # undumpable.
            try:
                offsets = os.open(f"/proc/{pid}/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                pass  # a kernel without time namespaces: unshare(2) will say so
        os.write(tell_write, b"x")
        while True:
            word = os.read(ask_read, 16)
            if word == b"map":
                mapping.write(pid, linux.get("uidMappings") or (), linux.get("gidMappings") or ())
            elif word == b"offsets":
                _write_offsets(offsets, linux.get("timeOffsets") or {})
            else:
                break
            os.write(tell_write, b"x")
    finally:
        if offsets >= 0:
            os.close(offsets)
        os.close(ask_read)
        os.close(tell_write)
        os.waitpid(pid, 0)
    if not word.isdigit():
        parent.hear(words.READY)  # raises the error that the intermediate process sent
        raise LaunchFailed("start the container", because="its first process died while it was set up")
    # The namespaces exist and the ids are mapped.
    return int(word), process.pidfd_open(int(word))


def _go_ahead(
    plan: "LaunchPlan",
    stage: "Stage",
    ending: "Ending",
    image: int,
    parent: "Conversation",
    ask: int,
    replies: int,
) -> None:
    conversation = stage.conversation
    parent.close()
    try:
        flags = plan.clone_flags
        os.read(replies, 1)  # the file of our clocks' offsets is open
        if "user" not in plan.new:
            process.hide()
        _join(child._joins)
        if "user" in plan.new:
            namespaces.unshare(namespaces.CLONE_NEWUSER)
            flags &= ~namespaces.CLONE_NEWUSER
            os.write(ask, b"map")
            os.read(replies, 1)
            process.hide()
            child.become_root()
        if "time" in plan.new:
            namespaces.unshare(namespaces.CLONE_NEWTIME)
            flags &= ~namespaces.CLONE_NEWTIME
            os.write(ask, b"offsets")
            os.read(replies, 1)
        child._joins.clear()
        pid, _ = process.clone3(flags | process.CLONE_PARENT, exit_signal=0)
        if pid == 0:
            os.close(ask)
            os.close(replies)
            child.container(plan, stage, ending, image)
        os.write(ask, str(pid).encode())
        os._exit(0)
    except CtkError as error:
        conversation.fail(error)
    except OSError as error:
        conversation.fail(LaunchFailed("make the container's namespaces", because=str(error).lower()))
    finally:
        os._exit(1)


def _join(joins: "list[tuple[str, int]]") -> None:
    """Join the namespaces, the user namespace as late as possible: it may not own the others. Raises SystemCall."""
    late: "list[tuple[str, int]]" = []
    into_user = any(kind == "user" for kind, _ in joins)
    for kind, fd in joins:
        try:
            if into_user and kind == "user":
                late.insert(0, (kind, fd))
            else:
                namespaces.setns(fd, namespaces.NAMESPACES[kind][0])
        except SystemCall:
            if not into_user:
                raise
            late.append((kind, fd))  # we may not join it, but root of the user namespace may
    for kind, fd in late:
        namespaces.setns(fd, namespaces.NAMESPACES[kind][0])
        if kind == "user":
            child.become_root()


def _write_offsets(fd: int, offsets: "dict[str, TimeOffset]") -> None:
    """Write linux.timeOffsets (time_namespaces(7)); possible only while it has no member. Raises LaunchFailed."""
    lines = [f"{clock} {value.get('secs') or 0} {value.get('nanosecs') or 0}\n" for clock, value in offsets.items()]
    if lines:
        try:
            os.write(fd, "".join(lines).encode())
        except OSError as error:
            raise LaunchFailed("set linux.timeOffsets", because=reason(error)) from None
