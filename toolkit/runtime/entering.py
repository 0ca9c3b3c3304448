"""Enter a running container: the namespaces of its first process, by pidfd, for `exec` and for startContainer hooks."""

import errno
import os

from toolkit.errors import CtkError, LaunchFailed, SystemCall
from toolkit.kernel import namespaces, process
from toolkit.runtime import child, hooks
from toolkit.runtime import conversation as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.record import Record


def open_process(record: "Record") -> int:
    """A pidfd of the container's first process, known to be it. Raises CtkError."""
    try:
        pidfd = process.pidfd_open(record.pid)
        if process.start_time(record.pid) == record.start_time:
            return pidfd
        os.close(pidfd)
    except (SystemCall, OSError):
        pass
    raise CtkError("container not running", because=f'"{record.id}"')


def differing(pid: int) -> "tuple[int, bool]":
    """(CLONE_NEW* flags of the namespaces in which `pid` differs from us, does its user namespace?). Raises OSError."""
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
        # A pidfd is taken since Linux 5.8; before it, one call per namespace. Drop when 5.8 is our floor.
        opened = [
            (os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), flag)
            for flag, name in namespaces.NAMESPACES.values()
            if flags & flag
        ]
        for fd, flag in opened:
            namespaces.setns(fd, flag)
            os.close(fd)


def clone_inside(
    pidfd: int, pid: int, childs: "Conversation", parent: "Conversation", cgroup_fd: int, body: "Callable[[], None]"
) -> "tuple[int, int]":
    """(pid, pidfd) of a new process, our child, that runs `body` in the container's namespaces. Raises CtkError."""
    flags, other_user = differing(pid)
    if not other_user and (not flags & namespaces.CLONE_NEWPID or namespaces.returns_to_own_pid_namespace()):
        process.prctl(process.PR_SET_DUMPABLE, 0)
        home = -1
        if flags & namespaces.CLONE_NEWPID:
            # setns(2) into a pid namespace concerns the children to come, not us; we go back afterwards.
            home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            join(pidfd, pid, namespaces.CLONE_NEWPID)
        new, new_pidfd = process.clone3(0, cgroup_fd=cgroup_fd, want_pidfd=True)
        if new == 0:
            parent.close()
            _body(childs, lambda: join(pidfd, pid, flags & ~namespaces.CLONE_NEWPID), body)
        if home >= 0:
            namespaces.setns(home, namespaces.CLONE_NEWPID)
            os.close(home)
        return new, new_pidfd
    return _clone_through(pidfd, pid, flags, childs, parent, cgroup_fd, body)


def _body(childs: "Conversation", enter: "Callable[[], None]", body: "Callable[[], None]") -> None:
    try:
        child.begin()
        enter()
        body()
    except CtkError as error:
        childs.fail(error)
    except OSError as error:
        where = f" ({error.filename!r})" if error.filename else ""
        childs.fail(LaunchFailed("start the process", because=f"{error.strerror}{where}".lower()))
    except BaseException as error:
        childs.fail(CtkError(f"internal error in the process's set-up: {type(error).__name__}: {error}"))
    finally:
        os._exit(1)


def _clone_through(
    pidfd: int,
    pid: int,
    flags: int,
    childs: "Conversation",
    parent: "Conversation",
    cgroup_fd: int,
    body: "Callable[[], None]",
) -> "tuple[int, int]":
    """Where we could not go back: a process joins everything first, its child (CLONE_PARENT) is ours."""
    reading, writing = os.pipe()
    between, _ = process.clone3(0, cgroup_fd=cgroup_fd)
    if between == 0:
        os.close(reading)
        parent.close()
        try:
            join(pidfd, pid, flags)
            if flags & namespaces.CLONE_NEWUSER:
                child.become_root()
            process.prctl(process.PR_SET_DUMPABLE, 0)
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
    told = os.read(reading, 16)
    os.close(reading)
    os.waitpid(between, 0)
    if not told:
        childs.close()
        parent.hear(words.READY)
    return int(told), process.pidfd_open(int(told))


def _filter(record: "Record") -> "tuple[bytes, int]":
    """The container's seccomp filter and its flags; b"" without one, or with an agent, who has no part in hooks."""
    profile = (record.config().get("linux") or {}).get("seccomp")
    if not profile:
        return b"", 0
    from toolkit import places
    from toolkit.runtime import seccomp

    compiled = seccomp.program_for(profile, places.cache_dir())
    return (b"", 0) if compiled.notify else (compiled.code, compiled.flags)


def run_start_hooks(record: "Record", listed: "Sequence[dict[str, Any]]", the_process: "dict[str, Any]") -> None:
    """Run the startContainer hooks: in the container's namespaces, root and cgroups. Raises CtkError.

    They are programs of the container's root, so they get no more than its process: its user, capabilities, filter, and
    none of our descriptors. One without an environment gets the process's, as always with runc.
    """
    import fcntl  # noqa: F401  # loaded for the child
    import select  # noqa: F401

    from toolkit.kernel import capabilities, seccomp
    from toolkit.runtime import cgroups, launch, program, signals  # noqa: F401  # signals: for the child
    from toolkit.runtime.identity import Identity

    told = launch.state_for_hooks(record, "created", record.pid)
    environment = list(the_process.get("env") or ())
    identity = Identity(the_process)
    code, flags = _filter(record)
    kept = 1 << capabilities.NUMBERS["CAP_SYS_ADMIN"] if code else 0
    group = cgroups.from_facts(record.cgroups) if record.cgroups else None
    cgroup_fd = group.child_fd() if group is not None and group.unified else -1
    parent, childs = words.pair()
    pidfd = open_process(record)

    def load() -> None:
        seccomp.install(code, flags)

    def body() -> None:
        childs.hear(words.JOINED)
        process.close_range(3, 0xFFFFFFFF, process.CLOSE_RANGE_CLOEXEC)
        inherited = program.with_home(environment, identity.uid)
        inherit = [hook if hook.get("env") else {**hook, "env": inherited} for hook in listed]
        there = identity.try_directory()
        identity.apply(childs.warning, keep=kept)
        if not there:
            identity.enter_directory()
        if code:
            identity.with_kept(kept, load)
        hooks.run("startContainer", inherit, told)
        childs.say(words.READY)

    pid, new_pidfd = clone_inside(pidfd, record.pid, childs, parent, cgroup_fd, body)
    childs.close()
    try:
        if group is not None and cgroup_fd < 0:
            group.join_sub(pid, (), record.pid)
        parent.say(words.JOINED)
        parent.hear(words.READY)
    finally:
        os.waitpid(pid, 0)
        parent.close()
        os.close(pidfd)
        os.close(new_pidfd)
