"""Open the sources of bind mounts for a container in a user namespace, with the host's rights.

The container's root may not be able to reach each source, so a process of ours opens them. The mount namespace matters:
if a mount is copied in the host's, its new owner may clear the flags (a read-only one becomes writable, for a container
with CAP_SYS_ADMIN); if it is copied in the container's own, they are locked (mount_namespaces(7)). So the process,
forked before the clone, enters that mount namespace, as runc's does, but never the user namespace.

    container's first process                    opener
      │── index [its mount namespace, its /] ─────▶│ setns, open_tree, the id mapping
      │◀───────────────────── tree, or an error ──│
      │   closes its end                           │ ends
"""

import _socket
import errno
import os

from toolkit.errors import CtkError, SystemCall
from toolkit.kernel import beneath, mounts, namespaces, process
from toolkit.runtime.mounting import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.steps import Stage

_SCM_RIGHTS = 1
_NOT_BY_US = b"-"


class Opener:
    """The container's end."""

    __slots__ = ("_end", "_known", "pid")

    def __init__(self, end: "_socket.socket", pid: int) -> None:
        self._end = end
        self.pid = pid
        self._known = False  # whether our mount namespace has been sent

    def open(self, index: int) -> int:
        """A detached copy of the source of `mounts[index]`, -1 if the caller should open it. Raises SystemCall."""
        place: "list[int]" = []
        if not self._known:
            place.append(os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
            place.append(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        _send(self._end, str(index).encode(), place)
        self._known = True
        for fd in place:
            os.close(fd)
        said, fds = _receive(self._end)
        if fds:
            return fds[0]
        if said in (b"", _NOT_BY_US):
            return -1
        number, _, call = said.partition(b" ")
        raise SystemCall(call.decode("utf-8", "replace"), int(number), os.strerror(int(number)).lower())

    def close(self) -> None:
        """Close our end: nothing more needs to be opened."""
        self._end.close()


def start(plan: "LaunchPlan", stage: "Stage", parent: "Conversation") -> None:
    """Fork it, if the container has a user namespace and sources that it may not reach. Raises OSError, SystemCall."""
    steps = {step.index: step for step in plan.steps if isinstance(step, Mount) and step.is_bind}
    if not stage.has_user_namespace or not steps or os.geteuid():
        return  # without root we can reach no more than the container's root
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    pid, _ = process.clone3(0)
    if pid == 0:
        ours.close()
        parent.close()  # else the child, which waits for its pipe to close, would wait for us too
        stage.conversation.close()
        try:
            _serve(theirs, steps, plan.root)
        finally:
            os._exit(0)
    theirs.close()
    stage.opener = Opener(ours, pid)


def end(stage: "Stage") -> None:
    """In the parent: close our copy of the container's end, and reap the opener; it ends with the container's end."""
    if stage.opener is not None:
        stage.opener.close()
        try:
            os.waitpid(stage.opener.pid, 0)
        except ChildProcessError:
            pass  # the caller ignores SIGCHLD
        stage.opener = None


def _serve(end: "_socket.socket", steps: "dict[int, Mount]", root: str) -> None:
    process.hide()
    ours = _Place()
    theirs = ours
    while True:
        said, fds = _receive(end)
        if not said:
            return
        if fds:
            theirs = _Place(*fds)
        step = steps[int(said)]
        # The container's root opens what it can reach itself.
        if step.mapping is None and is_inside(step.source, root):
            _send(end, _NOT_BY_US)
            continue
        try:
            theirs.enter()
        except (CtkError, OSError):
            _send(end, _NOT_BY_US)  # not permitted, as in a container around us
            continue
        try:
            tree = _tree(step, root, ours)
            _send(end, b"+", [tree])
            os.close(tree)
        except SystemCall as error:
            _send(end, f"{error.errno} {error.doing}".encode("utf-8", "replace"))


def _tree(step: "Mount", root: str, ours: "_Place") -> int:
    try:
        tree = _inside(step, root) if is_inside(step.source, root) else step.open_source()
    except SystemCall as error:
        if error.errno != errno.EINVAL or step.options.flags & mounts.MS_REC:
            raise
        # A copy without submounts would reveal what they cover, which a user namespace may not (EINVAL); the host's own
        # mount namespace may.
        ours.enter()
        tree = step.open_source()
    if step.mapping is not None:
        holder, recursive = step.mapping
        mounts.mount_setattr(tree, "", mounts.AT_EMPTY_PATH | recursive, mounts.MOUNT_ATTR_IDMAP, 0, 0, holder)
    return tree


def _inside(step: "Mount", root: str) -> int:
    """Open a source in the container's root: links there belong to the image, and must not lead out of the root."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    source = beneath.open_beneath(root_fd, os.path.normpath(step.source)[len(root) :], os.O_PATH)
    recursive = mounts.AT_RECURSIVE if step.options.flags & mounts.MS_REC else 0
    flags = mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC | mounts.AT_EMPTY_PATH | recursive
    try:
        return mounts.open_tree(source, "", flags)
    finally:
        os.close(source)
        os.close(root_fd)


class _Place:
    """A mount namespace and a `/` in it; by default our own."""

    def __init__(self, namespace: int = -1, root: int = -1) -> None:
        self.namespace = namespace if namespace >= 0 else os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self.root = root if root >= 0 else os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter(self) -> None:
        """Enter it. Raises SystemCall, OSError."""
        namespaces.setns(self.namespace, namespaces.CLONE_NEWNS)
        os.fchdir(self.root)
        os.chroot(".")


def is_inside(source: str, root: str) -> bool:
    """Whether a bind mount's source is in the container's root."""
    return os.path.normpath(source).startswith(root + "/")


def _send(end: "_socket.socket", data: bytes, fds: "list[int] | None" = None) -> None:
    packed = b"".join(fd.to_bytes(4, "little") for fd in fds or ())
    try:
        end.sendmsg([data], [(_socket.SOL_SOCKET, _SCM_RIGHTS, packed)] if packed else [])
    except BrokenPipeError:
        pass


def _receive(end: "_socket.socket") -> "tuple[bytes, list[int]]":
    try:
        data, ancillary, _, _ = end.recvmsg(1 << 13, 64, 0x40000000)  # MSG_CMSG_CLOEXEC
    except ConnectionResetError:
        return b"", []
    packed = b"".join(part for level, kind, part in ancillary if (level, kind) == (_socket.SOL_SOCKET, _SCM_RIGHTS))
    return data, [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed) - 3, 4)]
