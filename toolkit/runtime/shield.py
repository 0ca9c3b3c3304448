"""Guard the interpreter's file against a container whose processes can trace ours (CVE-2019-5736).

Until its root is ready, the first process of a new container is the host's python3, and `/proc/PID/exe` leads to that
file: another container's root could open it, wait until nobody runs it, and write to it. Because our process is
undumpable, only CAP_SYS_PTRACE in the host's user namespace allows this, to a process that sees ours, in a pid
namespace that is shared. Starting Python again costs 8 ms, so only for those the verb executes itself again, from a
detached read-only mount of the interpreter: a file opened through that mount can never be written.
"""

import os
import sys

from toolkit.kernel import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.oci.types import Namespace, Spec

_AT_EMPTY_PATH = 0x1000


def wanted_for_create(spec: "Spec") -> bool:
    """Whether an existing process can trace the first process of this container while it is set up."""
    return _namespace(spec, "user") is None and _shares_processes(spec)


def _namespace(spec: "Spec", kind: str) -> "Namespace | None":
    for entry in (spec.get("linux") or {}).get("namespaces") or ():
        if entry.get("type") == kind:
            return entry
    return None


def _shares_processes(spec: "Spec") -> bool:
    """Whether the pid namespace is another container's, whose privileges we do not know.

    The host's own needs no guard: a process with CAP_SYS_PTRACE there is the host's root.
    """
    entry = _namespace(spec, "pid")
    return entry is not None and bool(entry.get("path"))


def up(program: str) -> None:
    """Execute this command again from a read-only mount of the interpreter, unless it already runs from there.

    Call it before anything that must not be done twice. `program` is the name we were called by. Raises SystemCall.
    """
    if os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        return
    from toolkit.kernel import mounts

    there = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)
    tree = mounts.open_tree(there, "", mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | mounts.AT_EMPTY_PATH)
    mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH, mounts.MOUNT_ATTR_RDONLY)
    environment = {**os.environb, b"CTK_ARGV0": os.fsencode(program)}
    process.execveat(
        tree, "", sys.orig_argv, [name + b"=" + value for name, value in environment.items()], _AT_EMPTY_PATH
    )
