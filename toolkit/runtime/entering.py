"""Enter a running container, for `exec` and startContainer hooks: join its first process's namespaces and its root.

setns(2) into a mount namespace makes that namespace's root ours. This may not be the container's root: it is the host's
if the container has no mount namespace of its own, or if a runtime has called pivot_root(2) in a chroot. So we check
where we are, and if it is not the root that the container was made with, we chroot to its first process's own.
"""

import errno
import os

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason, reason_and_path
from toolkit.kernel import mounts, namespaces, process
from toolkit.runtime import child, hooks
from toolkit.runtime import conversation as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.oci.types import Hook, Process
    from toolkit.runtime.cgroups.files import Entry
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.record import Record


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

    def join(self, flags: int) -> None:
        """Join these of its namespaces, and make its root ours. Raises SystemCall, OSError."""
        join(self.pidfd, self.pid, flags)
        process.hide()
        here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.place and mounts.place_of(here) == self.place and self.place[0]:
            os.close(here)  # even if its first process has changed its root since then
        else:
            # A process that has called chroot(2) can't make a user namespace, so don't call it if it changes nothing.
            os.close(here)
            os.fchdir(self.root)
            os.chroot(".")
            os.chdir("/")
        os.close(self.root)

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


def join(pidfd: int, pid: int, flags: int) -> None:
    """setns(2) into the namespaces of a process. Raises SystemCall."""
    if not flags:
        return
    try:
        namespaces.setns(pidfd, flags)
    except SystemCall as error:
        if error.errno != errno.EINVAL:
            raise
        # setns(2) accepts a pidfd since Linux 5.8; before that, one call per namespace. Drop when 5.8 is our floor.
        opened = [
            (os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag)
            for flag, name in namespaces.NAMESPACES.values()
            if flags & flag
        ]
        for fd, flag in opened:
            namespaces.setns(fd, flag)
            os.close(fd)


def clone_inside(
    entrance: Entrance,
    childs: "Conversation",
    parent: "Conversation",
    entry: "Entry | None",
    body: "Callable[[], None]",
) -> "tuple[int, int]":
    """(pid, pidfd) of a new process, our child, that joins by `entry` and runs `body` in the container. CtkError."""
    try:
        return _clone_inside(entrance, childs, parent, entry, body)
    finally:
        if entry is not None:
            entry.close()


def _clone_inside(
    entrance: Entrance,
    childs: "Conversation",
    parent: "Conversation",
    entry: "Entry | None",
    body: "Callable[[], None]",
) -> "tuple[int, int]":
    flags, other_user = differing(entrance.pid)
    if not other_user and (not flags & namespaces.CLONE_NEWPID or namespaces.returns_to_own_pid_namespace()):
        process.hide()
        home = -1
        if flags & namespaces.CLONE_NEWPID:
            # setns(2) into a pid namespace affects only later children, not us; we go back afterwards.
            home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            join(entrance.pidfd, entrance.pid, namespaces.CLONE_NEWPID)
        new, new_pidfd = process.clone3(0, cgroup_fd=entry.fd if entry is not None else -1, want_pidfd=True)
        if new == 0:
            parent.close()

            def enter() -> None:
                if entry is not None:
                    entry.enter()
                entrance.join(flags & ~namespaces.CLONE_NEWPID)

            _body(childs, enter, body)
        if home >= 0:
            namespaces.setns(home, namespaces.CLONE_NEWPID)
            os.close(home)
        return new, new_pidfd
    return _clone_through(entrance, flags, childs, parent, entry, body)


def _body(childs: "Conversation", enter: "Callable[[], None]", body: "Callable[[], None]") -> None:
    try:
        child.begin()
        enter()
        body()
    except CtkError as error:
        childs.fail(error)
    except OSError as error:
        childs.fail(LaunchFailed("start the process", because=reason_and_path(error)))
    except BaseException as error:
        childs.fail(CtkError(f"internal error in the process's set-up: {type(error).__name__}: {error}"))
    finally:
        os._exit(1)


def _clone_through(
    entrance: Entrance,
    flags: int,
    childs: "Conversation",
    parent: "Conversation",
    entry: "Entry | None",
    body: "Callable[[], None]",
) -> "tuple[int, int]":
    """For when we could not go back: a helper process joins everything first, and its child (CLONE_PARENT) is ours."""
    reading, writing = os.pipe()
    between, _ = process.clone3(0, cgroup_fd=entry.fd if entry is not None else -1)
    if between == 0:
        os.close(reading)
        parent.close()
        try:
            process.hide()
            if entry is not None:
                entry.enter()
            entrance.join(flags)
            if flags & namespaces.CLONE_NEWUSER:
                child.become_root()
            new, _ = process.clone3(process.CLONE_PARENT, exit_signal=0)
            if new == 0:
                os.close(writing)
                _body(childs, lambda: None, body)
            os.write(writing, str(new).encode())
            os._exit(0)
        except CtkError as error:
            childs.fail(error)
        except OSError as error:
            childs.fail(LaunchFailed("enter the container", because=str(error).lower()))
        finally:
            os._exit(1)
    os.close(writing)
    answer = os.read(reading, 16)
    os.close(reading)
    os.waitpid(between, 0)
    if not answer:
        childs.close()
        parent.hear(words.READY)
    return int(answer), process.pidfd_open(int(answer))


def _filter(record: "Record") -> "tuple[bytes, int]":
    """The container's seccomp filter and its flags; b"" without one, or with an agent, which hooks don't go through."""
    profile = (record.config().get("linux") or {}).get("seccomp")
    if not profile:
        return b"", 0
    from toolkit import places
    from toolkit.runtime import seccomp

    compiled = seccomp.program_for(profile, places.cache_dir())
    return (b"", 0) if compiled.notify else (compiled.code, compiled.flags)


def run_start_hooks(record: "Record", listed: "Sequence[Hook]", the_process: "Process") -> None:
    """Run the startContainer hooks: in the container's namespaces, root and cgroups. Raises CtkError.

    They are programs of the container's root, so they get no more than its process: its user, capabilities, filter, and
    none of our descriptors. A hook without an environment gets the process's, as in runc.
    """
    import fcntl  # noqa: F401  # loaded for the child
    import select  # noqa: F401

    from toolkit.kernel import capabilities, seccomp
    from toolkit.runtime import cgroups, launch, program, signals  # noqa: F401  # signals: for the child
    from toolkit.runtime.identity import Identity

    state = launch.state_for_hooks(record, "created", record.pid)
    environment = list(the_process.get("env") or ())
    identity = Identity(the_process)
    code, flags = _filter(record)
    kept = 1 << capabilities.NUMBERS["CAP_SYS_ADMIN"] if code else 0
    group = cgroups.from_facts(record.cgroups) if record.cgroups else None
    entry = group.entry() if group is not None else None
    parent, childs = words.pair()
    entrance = Entrance(record)

    def load() -> None:
        seccomp.install(code, flags)

    def body() -> None:
        childs.hear(words.JOINED)
        process.close_range(3, 0xFFFFFFFF, process.CLOSE_RANGE_CLOEXEC)
        inherited = program.with_home(environment, identity.uid)
        inherit: "list[Hook]" = [hook if hook.get("env") else {**hook, "env": inherited} for hook in listed]
        there = identity.try_directory()
        identity.apply(childs.warning, keep=kept)
        if not there:
            identity.enter_directory()
        if code:
            identity.with_kept(kept, load)
        hooks.run("startContainer", inherit, state)
        childs.say(words.READY)

    pid, new_pidfd = clone_inside(entrance, childs, parent, entry, body)
    childs.close()
    try:
        if group is not None and entry is None:
            group.join_sub(pid, (), record.pid)
        parent.say(words.JOINED)
        parent.hear(words.READY)
    finally:
        os.waitpid(pid, 0)
        parent.close()
        entrance.close()
        os.close(new_pidfd)
