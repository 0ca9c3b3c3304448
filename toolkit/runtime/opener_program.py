"""Sources of bind mounts for a container in a user namespace, opened with the host's rights, in a program.

The container's root may not be able to reach each source. The process that has made it still can: it waits for the
container's first process to ask, enters its mount namespace, as runc's does, but never the user namespace, and hands
over what it has opened. The mount namespace matters: if a mount is copied in the host's, its new owner may clear the
flags (a read-only one becomes writable, for a container with CAP_SYS_ADMIN); if it is copied in the container's own,
they are locked (mount_namespaces(7)).

    container's first process                    who made it
      │── index ──────────────────────────────────▶│ setns, open_tree, the id mapping
      │◀─────────────────────────── tree, or "-" ──│
"""

import errno
import os

from toolkit.kernel import beneath, mounts, namespaces, process
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime import finish
from toolkit.runtime.site import CLONE, DIRECTORY, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.kernel.program.program import Owner, Program
    from toolkit.runtime.mounting import Mount

_CONTROL = 24  # CMSG_SPACE(4)
_MSG_CMSG_CLOEXEC = 0x40000000


def opens(step: "Mount", root: str) -> bool:
    """Whether it is opened for the container's root, which opens what it can reach itself."""
    return step.is_bind and (step.mapping is not None or not is_inside(step.source, root))


def is_inside(source: str, root: str) -> bool:
    """Whether a bind mount's source is in the container's root."""
    return os.path.normpath(source).startswith(root + "/")


def ask(p: "Program", end: int, index: int, tree: Cell, ourselves: Label) -> None:
    """Get the source of `mounts[index]`, in the order of the plan; go on at `ourselves` if we must open it."""
    said, control, header, iov, size = p.room(8), p.room(_CONTROL), p.room(56), p.room(16), p.cell()
    p.call("write", end, p.words(index), 8)
    for where, value in (
        (iov, said), (iov + 8, 1), (header + 16, iov), (header + 24, 1), (header + 32, control),
        (header + 40, _CONTROL),
    ):  # fmt: skip
        p.own("set", value, result=Cell(where - MEMORY))
    p.call("recvmsg", end, header, _MSG_CMSG_CLOEXEC, result=size)
    p.when("if_equal", size, 1, told := Label())
    p.call("exit_group", 1)  # the other side has failed, and told why
    p.place(told)
    p.when("if_equal", Cell(said - MEMORY, 1), ord("-"), ourselves)
    p.own("set", Cell(control - MEMORY + 16, 4), result=tree)


def map_ids(p: "Program", tree: Cell, holder: int, recursive: int) -> None:
    """Map a mount's ids by those of the user namespace that `holder` is open on."""
    attributes = p.words(mounts.MOUNT_ATTR_IDMAP, 0, 0, holder)
    p.call("mount_setattr", tree, "", mounts.AT_EMPTY_PATH | recursive, attributes, 32)


def serve(
    p: "Program", end: int, others: int, pid: "Cell | None", steps: "Sequence[tuple[Mount, Owner]]", root: str
) -> None:
    """Answer for each of the `steps`, which have owners; `others` is the end of process `pid`.

    Without a pid, it is told first, by who has made that process.
    """
    ours, our_root, theirs, their_root, tree, size, left_over = (p.cell() for _ in range(7))
    buffer, done = p.room(8), Label()
    p.call("prctl", process.PR_SET_DUMPABLE, 0, 0, 0, 0)  # it has the host's rights in the container's mount namespace
    p.call("close", others)
    if pid is None:
        pid = p.cell()
        p.call("read", end, pid.address, 8, result=size, on=((0, done),))
        p.when("if_equal", size, 0, done)
    p.call("openat", mounts.AT_FDCWD, "/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, 0, result=ours)
    p.call("openat", mounts.AT_FDCWD, "/", DIRECTORY, 0, result=our_root)
    for name, flags, result in (("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, theirs), ("root", DIRECTORY, their_root)):
        words = Words(p, 40)
        words.add("/proc/", pid)
        words.add("/" + name)
        p.call("openat", mounts.AT_FDCWD, words.address, flags, 0, result=result, on=((0, fine := Label()),))
        p.place(fine)
    for step, owner in steps:
        not_by_us, opened, revealing, following = (Label() for _ in range(4))
        p.owned_by(owner)
        p.when("if_equal", left_over, 1, look := Label())
        p.call("read", end, buffer, 8, result=size, on=((0, done),))
        p.when("if_equal", size, 0, done)
        p.place(look)
        p.own("set", 1, result=left_over)
        p.when("if_equal", Cell(buffer - MEMORY), step.index, asked := Label())
        p.go(following)  # this one was not asked for: its link was copied
        p.place(asked)
        p.own("set", 0, result=left_over)
        refused = ((0, not_by_us),)
        p.call("setns", theirs, namespaces.CLONE_NEWNS, on=refused)  # not permitted, as in a container around us
        p.call("fchdir", their_root, on=refused)
        p.call("chroot", ".", on=refused)
        recursive = mounts.AT_RECURSIVE if step.options.flags & mounts.MS_REC else 0
        flags = CLONE | recursive
        on = ((errno.EINVAL, revealing),) if not recursive else ()
        if is_inside(step.source, root):
            # Links there belong to the image, and must not lead out of the root.
            top, source = p.cell(), p.cell()
            p.call("openat", mounts.AT_FDCWD, root, DIRECTORY, 0, result=top)
            beneath.emit_open(p, top, os.path.normpath(step.source)[len(root) :], os.O_PATH, source)
            p.call("open_tree", source, "", flags | mounts.AT_EMPTY_PATH, result=tree)
            p.call("close", source)
            p.call("close", top)
        else:
            if "src-nofollow" in step.options.extensions:
                flags |= mounts.AT_SYMLINK_NOFOLLOW
            p.call("open_tree", mounts.AT_FDCWD, step.source, flags, result=tree, on=on)
        p.place(opened)
        if step.mapping is not None:
            map_ids(p, tree, *step.mapping)
        finish.send_descriptor(p, end, tree, p.text("+"), 1)
        p.call("close", tree)
        p.go(following)
        p.place(revealing)
        # A copy without submounts would reveal what they cover, which a user namespace may not (EINVAL); the host's own
        # mount namespace may.
        p.call("setns", ours, namespaces.CLONE_NEWNS)
        p.call("fchdir", our_root)
        p.call("chroot", ".")
        p.call("open_tree", mounts.AT_FDCWD, step.source, flags, result=tree)
        p.go(opened)
        p.place(not_by_us)
        p.call("write", end, "-", 1, on=((0, done),))
        p.place(following)
    p.place(done)
    p.owned_by(None)
