"""Enter a running container, for `exec` and startContainer hooks: join its first process's namespaces and its root.

setns(2) into a mount namespace makes that namespace's root ours. This may not be the container's root: it is the host's
if the container has no mount namespace of its own, or if a runtime has called pivot_root(2) in a chroot. So we check
where we are, and if it is not the root that the container was made with, we chroot to its first process's own.
"""

import errno
import os

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason
from toolkit.kernel import mounts, namespaces, process
from toolkit.kernel.program import program
from toolkit.kernel.program.program import MEMORY, Cell, Label
from toolkit.runtime import conversation as words
from toolkit.runtime import finish, hooks, spawn, stops
from toolkit.runtime.handover import Filter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.kernel.program.program import Program
    from toolkit.oci.types import Hook, Process
    from toolkit.runtime.cgroups.files import Entry
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.record import Record


_LEFT_IGNORED = (32, 33)  # real-time signals of libc's own, which its posix_spawn(3) leaves ignored
_STATX_INO = 0x100


class Entrance:
    """The container's first process, verified to be it, and its root: both opened before anything is joined."""

    __slots__ = ("pid", "pidfd", "place", "root")

    def __init__(self, record: "Record") -> None:
        """Raises CtkError."""
        self.pid = record.pid
        self.place = tuple(record.root_place)  # mounts.place_of the root that the container was made with
        self.pidfd = self.root = -1
        try:
            self.pidfd = process.pidfd_open(record.pid)
            if process.start_time(record.pid) == record.start_time:
                self.root = os.open(f"/proc/{record.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                # Check again: if the pid had been reused meanwhile, the start time would differ.
                if process.start_time(record.pid) == record.start_time:
                    return
        except PermissionError as error:
            self.close()
            because = f"its root: {reason(error)}"
            raise CtkError(f'enter container "{record.id}"', because=because, hint="does it belong to you?") from None
        except (SystemCall, OSError):
            pass
        self.close()
        raise CtkError("container not running", because=f'"{record.id}"')

    def emit(self, p: "Program") -> None:
        """Make the container's root ours, once its namespaces are joined, and close the descriptors."""
        outside, there = Label(), Label()
        if self.place and self.place[0]:
            # Even if its first process has changed its root since then. A process that has called chroot(2) can't make
            # a user namespace, so it is not called if it would change nothing.
            here, known = p.cell(), p.cell()
            found = p.room(256)  # struct statx
            base = found - MEMORY
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            p.call("openat", mounts.AT_FDCWD, "/", flags, 0, result=here)
            wanted = mounts.STATX_MNT_ID | _STATX_INO
            p.call("statx", here, "", mounts.AT_EMPTY_PATH, wanted, found, on=((0, outside),))
            p.own("and", Cell(base, 4), mounts.STATX_MNT_ID, result=known)
            p.when("if_equal", known, 0, outside)
            for cell, value in (
                (Cell(base + 144), self.place[0]),
                (Cell(base + 136, 4), os.major(self.place[1])),
                (Cell(base + 140, 4), os.minor(self.place[1])),
                (Cell(base + 32), self.place[2]),
            ):
                p.when("if_equal", cell, value, same := Label())
                p.go(outside)
                p.place(same)
            p.call("close", here)
            p.go(there)
        p.place(outside)
        p.call("fchdir", self.root)
        p.call("chroot", ".")
        p.call("chdir", "/")
        p.place(there)
        p.call("close", self.root)
        p.call("close", self.pidfd)

    def descriptors(self) -> "tuple[int, int]":
        """What the program needs of them."""
        return self.pidfd, self.root

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self.pidfd, self.root):
            if fd >= 0:
                os.close(fd)


def differing(pid: int) -> "tuple[int, bool]":
    """(CLONE_NEW* flags of the namespaces where `pid` differs from us, is the user one among them?). Raises OSError."""
    flags = 0
    for flag, name in namespaces.NAMESPACES.values():
        try:
            theirs = os.stat(f"/proc/{pid}/ns/{name}")
            ours = os.stat(f"/proc/self/ns/{name}")
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue  # a kernel without this kind
            raise
        if theirs.st_ino != ours.st_ino:
            flags |= flag
    return flags, bool(flags & namespaces.CLONE_NEWUSER)


def begin(p: "Program", *, hide: bool = True) -> None:
    """The first operations of a program that enters or becomes a container."""
    # Before anything is joined, whose processes could look into ours: its memory, /proc/PID/root, descriptors. (Root
    # may read every file, so its program is dumpable even if its file has no read bit.) Again after a change of user.
    if hide:
        p.call("prctl", process.PR_SET_DUMPABLE, 0, 0, 0, 0)
    for number in _LEFT_IGNORED:
        p.call("rt_sigaction", number, p.words(0, 0, 0, 0), 0, 8)
    p.call("umask", 0)


def enter(p: "Program", entrance: Entrance, entry: "Entry | None", pipes: "tuple[int, int]") -> int:
    """Emit the way into the container: its cgroups by `entry`, its namespaces, its root; ends with a new process in it.

    Returns how many clones there are on the way. Of each the parent hears PID, and says MAPPED if another follows.
    """
    flags, other_user = differing(entrance.pid)
    begin(p)
    group = -1
    if entry is not None:
        entry.emit(p)
        group = entry.fd
    hops = 1
    if not other_user:
        # Into cgroups first, and as the user that we are: with their namespace joined the kernel would not let us (v2,
        # nsdelegate), nor as a user of another user namespace.
        if flags & namespaces.CLONE_NEWPID:
            p.call("setns", entrance.pidfd, namespaces.CLONE_NEWPID)
            flags &= ~namespaces.CLONE_NEWPID
        clone(p, group, pipes[1])
        if flags:
            p.call("setns", entrance.pidfd, flags)
    else:
        if group >= 0:
            hops = 2
            clone(p, group, pipes[1])
            finish.hear(p, pipes[0], words.MAPPED)
        p.call("setns", entrance.pidfd, flags)
        become_root(p)
        clone(p, -1, pipes[1])
    p.call("prctl", process.PR_SET_DUMPABLE, 0, 0, 0, 0)
    entrance.emit(p)
    return hops


def clone(p: "Program", group: int, writing: int, flags: int = 0, then: "Callable[[Cell], None] | None" = None) -> None:
    """Go on in a new child of our parent, in new namespaces by `flags`; the process so far tells its pid, and ends.

    `then` emits what it does before it ends, and gets the child's pid.
    """
    flags |= process.CLONE_PARENT | (process.CLONE_INTO_CGROUP if group >= 0 else 0)
    pid, is_child, told = p.cell(), Label(), p.room(16)
    p.call("clone3", p.words(flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, max(group, 0)), 88, result=pid)
    p.when("if_equal", pid, 0, is_child)
    p.own("set", words.PID, result=Cell(told - MEMORY))
    p.own("set", pid, result=Cell(told - MEMORY + 1))
    p.call("write", writing, told, 9)
    if then is not None:
        then(pid)
    p.call("exit_group", 0)
    p.place(is_child)
    if group >= 0:
        p.call("close", group)


def become_root(p: "Program") -> None:
    """Become root of a user namespace whose ids are mapped."""

    def failed(error: SystemCall) -> CtkError:
        return LaunchFailed(
            "become root of the user namespace",
            because=error.because,
            hint="linux.uidMappings and linux.gidMappings must map containerID 0",
        )

    p.owned_by(failed)
    p.call("setresgid", 0, 0, 0)
    p.call("setresuid", 0, 0, 0)
    p.owned_by(None)
    p.call("prctl", process.PR_SET_DUMPABLE, 0, 0, 0, 0)


def start(
    p: "Program",
    hops: int,
    parent: "Conversation",
    childs: "Conversation",
    kept: "Sequence[int]",
    argv: "Sequence[str]",
) -> int:
    """The pid of the process of a program that begins with `enter`. Raises CtkError.

    `kept`: the descriptors that it needs beside `childs`, its end of the conversation. That is closed here: else it
    would stay open if the process died, and we would wait for ever.
    """
    stops.break_off(p)
    image = program.sealed(p.image())
    parent.program = p
    try:
        pid = spawn.sealed_program(image, argv, (childs.reading, childs.writing, *kept))
    finally:
        os.close(image)
        childs.close()
    try:
        for hop in range(hops):
            made, pid = pid, 0  # it is reaped before the next pid is known
            pid = hear_pid(parent, made)
            if hop < hops - 1:
                parent.say(words.MAPPED)
    except BaseException:
        if pid:
            end(pid)
        raise
    return pid


def hear_pid(parent: "Conversation", pid: int, *, stays: bool = False) -> int:
    """The pid of the process that `pid` has made for us, once it has told it. Raises CtkError.

    It ends then, and is reaped here, if it does not stay. If it is killed before it has told, its child waits for us,
    and keeps the pipe open: so we don't wait at the pipe alone.
    """
    if stays:
        import select

        poll, pidfd = select.poll(), os.pidfd_open(pid)
        poll.register(parent.reading, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        told = any(fd == parent.reading for fd, _ in poll.poll())
        os.close(pidfd)
    else:
        try:
            told = os.waitpid(pid, 0)[1] == 0
        except ChildProcessError:
            told = True  # the caller ignores SIGCHLD
    if not told:
        os.set_blocking(parent.reading, False)  # what is in the pipe says why, or nothing does
    return parent.hear_pid()


def end(pid: int) -> None:
    """Kill a process of ours that has failed on its way, and reap it."""
    try:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    except OSError:
        pass


def _filter(record: "Record") -> "Filter | None":
    """The container's seccomp filter; None without one, or with an agent, which hooks don't go through."""
    profile = (record.config().get("linux") or {}).get("seccomp")
    if not profile:
        return None
    from toolkit import places
    from toolkit.runtime import seccomp

    compiled = seccomp.program_for(profile, places.cache_dir())
    return None if compiled.notify else Filter(compiled.code, compiled.flags)


def run_start_hooks(record: "Record", listed: "Sequence[Hook]", the_process: "Process") -> None:
    """Run the startContainer hooks: in the container's namespaces, root and cgroups. Raises CtkError.

    They are programs of the container's root, so they get no more than its process: its user, capabilities, filter, and
    none of our descriptors. A hook without an environment gets the process's, as in runc.
    """
    from toolkit.kernel import capabilities
    from toolkit.runtime import cgroups, credentials
    from toolkit.runtime.identity import Identity

    state = hooks.state_for(record, "created", record.pid)
    identity = Identity(the_process)
    filter_ = _filter(record)
    kept = 1 << capabilities.NUMBERS["CAP_SYS_ADMIN"] if filter_ else 0
    group = cgroups.from_facts(record.cgroups) if record.cgroups else None

    def spawn_hook(hook: "Hook", arguments: "list[str]", streams: "tuple[int, int, int]") -> int:
        parent, childs = words.pair()
        entrance = Entrance(record)
        entry = group.entry() if group is not None else None
        pipes = (childs.reading, childs.writing)
        p = program.Program(childs.writing)
        hops = enter(p, entrance, entry, pipes)
        finish.hear(p, childs.reading, words.JOINED)
        finish.set_streams(p, streams)
        p.call("close_range", 3, 0xFFFFFFFF, process.CLOSE_RANGE_CLOEXEC)
        environment = finish.environment(p, hook.get("env") or the_process.get("env") or (), identity.uid)
        sets = credentials.apply(p, identity, keep=kept)
        if filter_ is not None:
            sets.set(p, keep=kept, use=True)
            filter_.load(p)
            sets.set(p)
        p.owned_by(lambda error: LaunchFailed(f"fork/exec {hook['path']}", because=error.because))
        p.call("execve", hook["path"], p.strings(arguments), environment)
        fds = [*entrance.descriptors(), *(entry.descriptors() if entry is not None else ()), *streams]
        try:
            pid = start(p, hops, parent, childs, fds, arguments)
            try:
                if group is not None and entry is None:
                    group.join_sub(pid, (), record.pid)
                parent.say(words.JOINED)
                parent.hear_end()
            except BaseException:
                end(pid)
                raise
        finally:
            entrance.close()
            if entry is not None:
                entry.close()
            parent.close()
        return pid

    hooks.run("startContainer", listed, state, spawn_hook)
