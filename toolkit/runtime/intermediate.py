"""What the parent does for a launch in two steps: where the process that goes ahead joins or makes namespaces first.

A single clone3(2) cannot do it if new namespaces must belong to an existing user namespace, if joining the host's
namespaces takes privileges that a new user namespace takes away, or if there are time offsets, which must be written
before the time namespace has its first member (first_process.py).
"""

import os

from toolkit.errors import LaunchFailed, reason
from toolkit.runtime import conversation as words
from toolkit.runtime import mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.oci.types import Spec, TimeOffset
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.plan import LaunchPlan


def attend(parent: "Conversation", pid: int, plan: "LaunchPlan", spec: "Spec") -> None:
    """Do for a program that joins and makes namespaces before its clone (first_process.py) what it can't do itself."""
    linux = spec.get("linux") or {}
    offsets = -1
    try:
        if "time" in plan.new:
            # Now, because later the file will belong to the host's root.
            try:
                offsets = os.open(f"/proc/{pid}/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                pass  # a kernel without time namespaces: unshare(2) will say so
        parent.say(words.MAP)
        if "user" in plan.new:
            parent.hear(words.MAP)
            mapping.write(pid, linux.get("uidMappings") or (), linux.get("gidMappings") or ())
            parent.say(words.MAP)
        if "time" in plan.new:
            parent.hear(words.OFFSETS)
            _write_offsets(offsets, linux.get("timeOffsets") or {})
            parent.say(words.OFFSETS)
    finally:
        if offsets >= 0:
            os.close(offsets)


def _write_offsets(fd: int, offsets: "dict[str, TimeOffset]") -> None:
    """Write linux.timeOffsets (time_namespaces(7)); possible only while it has no member. Raises LaunchFailed."""
    lines = [f"{clock} {value.get('secs') or 0} {value.get('nanosecs') or 0}\n" for clock, value in offsets.items()]
    if lines:
        try:
            os.write(fd, "".join(lines).encode())
        except OSError as error:
            raise LaunchFailed("set linux.timeOffsets", because=reason(error)) from None
