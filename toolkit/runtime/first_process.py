"""The program that becomes a container's first process, from its start beside us to the user's program.

It is started before it joins anything, so that it belongs to the host's user namespace (decision 0022): nothing in a
container may look into it.

    program                                     its child, by CLONE_PARENT ours
      │ undumpable; v1's cgroups                  │
      │ clone3: namespaces, v2's cgroup ─────────▶│
      │ tells PID, ends                           │ session, keyring, joined namespaces, the plan's steps
                                                  │ tells ROOT; finish.py
"""

import errno
import os

from toolkit.errors import LaunchFailed, reason
from toolkit.kernel import mounts, namespaces, process
from toolkit.kernel.host import HostFacts
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import MEMORY, Cell, Label, Program, sealed
from toolkit.runtime import conversation, entering, finish, log, plan, spawn, stops
from toolkit.runtime.site import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from toolkit.kernel.program.program import Owner
    from toolkit.runtime.cgroups.files import Entry
    from toolkit.runtime.container_hooks import Streams
    from toolkit.runtime.ending import Ending
    from toolkit.runtime.launch import Launch
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.spawn import Prepared

_SIOCSIFFLAGS, _IFF_UP, _IFF_RUNNING = 0x8914, 0x1, 0x40


def open_joins(the_plan: "LaunchPlan") -> "list[tuple[str, int]]":
    """(kind, descriptor) of each namespace to join, while paths are still those of the host. Raises LaunchFailed."""
    found: "list[tuple[str, int]]" = []
    for kind, path in the_plan.joins:
        try:
            found.append((kind, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
        except OSError as error:
            for _, fd in found:
                os.close(fd)
            raise LaunchFailed(
                f"join the {kind} namespace {path!r}",
                because=reason(error),
                hint="is the process or the bind mount that it names still there?",
            ) from None
    return found


def _written_to(the_plan: "LaunchPlan") -> bool:
    """Whether the parent writes to files of the process in /proc, which must be its user's until then.

    So it must be dumpable, and its file readable: before it joins anything, or in a user namespace that has no other
    process yet, nobody can look into it.
    """
    return bool({"user", "time"} & set(the_plan.new))


def emit(
    p: Program,
    the_plan: "LaunchPlan",
    ending: "Ending",
    site: Site,
    joins: "list[tuple[str, int]]",
    entry: "Entry | None",
    serve: "Callable[[Cell | None], None] | None" = None,
) -> None:
    """Emit all of it up to what finish.py adds. `serve`: what a process that keeps the host's rights does meanwhile."""
    entering.begin(p, hide=not _written_to(the_plan))
    if entry is not None:
        entry.emit(p)
    flags = the_plan.clone_flags
    then: "Callable[[Cell], None] | None" = serve
    if spawn.takes_two_steps(the_plan):
        if serve is not None:
            # This process serves; another one goes ahead, and tells it of the third.
            entering.clone(p, -1, site.pipes[1], 0, lambda _: serve(None))
            then = _tell_pid(p, site.opener)
        flags = _go_ahead(p, the_plan, site, joins, flags)
        joins = []
    for kind, fd in joins:
        if kind == "pid":  # its members are the processes that are made from now on
            p.call("setns", fd, namespaces.CLONE_NEWPID)
            p.call("close", fd)
    p.owned_by(
        lambda error: namespaces.refusal(f"clone3({{flags={namespaces.flag_names(flags)}}})", flags, error.errno)
    )
    entering.clone(p, entry.fd if entry is not None else -1, site.pipes[1], flags, then)
    p.owned_by(None)
    if site.opener >= 0:
        p.call("close", site.ends[1])
    if site.userns:
        finish.hear(p, site.pipes[0], conversation.MAPPED)
        if flags & namespaces.CLONE_NEWUSER:
            entering.become_root(p)
    p.call("setsid")
    if ending.keyring:
        _new_keyring(p, ending.keyring)
    for kind, fd in joins:
        if kind != "pid":
            p.call("setns", fd, namespaces.NAMESPACES[kind][0])
            p.call("close", fd)
    if "network" in the_plan.new:
        _loopback_up(p)
    for number, step in enumerate(the_plan.steps, 1):
        step.emit(p, site)
        p.owned_by(None)
        stops.emit(p, number)
    _tell_root(p, site.pipes[1])


def _tell_pid(p: Program, end: int) -> "Callable[[Cell], None]":
    def tell(pid: Cell) -> None:
        p.call("write", end, pid.address, 8)

    return tell


def _go_ahead(p: Program, the_plan: "LaunchPlan", site: Site, joins: "list[tuple[str, int]]", flags: int) -> int:
    """Join and make what one clone can't; returns the flags that are left for it.

    New namespaces may have to belong to an existing user namespace; joining the host's takes privileges that a new
    user namespace takes away; and time offsets are written before the time namespace has its first member.
    """
    reading, writing = site.pipes
    into_user = any(kind == "user" for kind, _ in joins)
    finish.hear(p, reading, conversation.MAP)  # the file of our clocks' offsets is open
    if "user" not in the_plan.new:
        p.call("prctl", process.PR_SET_DUMPABLE, 0, 0, 0, 0)
    late: "list[tuple[str, int, Cell]]" = []
    for kind, fd in joins:
        # The user namespace as late as possible: it may not own the others. But what we may not join before, its root
        # may.
        if kind == "user":
            continue
        result, refused = p.cell(), Label()
        p.call("setns", fd, namespaces.NAMESPACES[kind][0], result=result, on=((0, refused),) if into_user else ())
        p.place(refused)
        late.append((kind, fd, result))
    for kind, fd in joins:
        if kind == "user":
            p.call("setns", fd, namespaces.CLONE_NEWUSER)
            entering.become_root(p)
    for kind, fd, result in late if into_user else ():
        p.when("if_equal", result, 0, joined := Label())
        p.call("setns", fd, namespaces.NAMESPACES[kind][0])
        p.place(joined)
    for _, fd in joins:
        p.call("close", fd)
    for kind, flag, word in (
        ("user", namespaces.CLONE_NEWUSER, conversation.MAP),
        ("time", namespaces.CLONE_NEWTIME, conversation.OFFSETS),
    ):
        if kind in the_plan.new:
            flags &= ~flag
            p.owned_by(_unshare_owner(flag))
            p.call("unshare", flag)
            p.owned_by(None)
            finish.say(p, writing, word)
            finish.hear(p, reading, word)
            if kind == "user":
                entering.become_root(p)
    return flags


def _unshare_owner(flag: int) -> "Owner":
    return lambda error: namespaces.refusal(f"unshare({namespaces.flag_names(flag)})", flag, error.errno)


def _new_keyring(p: Program, name: str) -> None:
    result, failed, after = p.cell(), Label(), Label()
    p.call("keyctl", 1, name, result=result, on=((0, failed),))  # KEYCTL_JOIN_SESSION_KEYRING
    p.place(after)

    def warn() -> None:
        p.place(failed)
        # A kernel without keyrings, or a seccomp filter around us.
        p.when("if_equal", result, -errno.ENOSYS, after)
        p.own("subtract", 0, result, result=result)
        p.warn(result, lambda number: f"no session keyring of its own: {os.strerror(number).lower()}")
        p.go(after)

    p.aside(warn)


def _loopback_up(p: Program) -> None:
    """Bring up `lo` of a new network namespace (netdevice(7)); if that fails the network is up to the engine."""
    end = p.cell()
    request = b"lo".ljust(16, b"\0") + (_IFF_UP | _IFF_RUNNING).to_bytes(2, "little") + bytes(22)
    p.call("socket", 2, 2 | os.O_CLOEXEC, 0, result=end)  # AF_INET, SOCK_DGRAM
    p.call("ioctl", end, _SIOCSIFFLAGS, p.data(request))
    p.call("close", end)


def _tell_root(p: Program, writing: int) -> None:
    """Tell the parent the container's root, as mounts.place_of has it."""
    root, known = p.cell(), p.cell()
    status, found, told = p.room(structures.STAT_SIZE), p.room(256), p.room(32)
    unknown, tell = Label(), Label()
    p.call("openat", mounts.AT_FDCWD, "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, result=root)
    p.call("newfstatat", root, "", status, mounts.AT_EMPTY_PATH)
    mount_id = Cell(told - MEMORY + 1)
    p.own("set", conversation.ROOT, result=Cell(told - MEMORY))
    # Before Linux 5.8, or under a seccomp filter that is older than the call, there is none.
    p.call("statx", root, "", mounts.AT_EMPTY_PATH, mounts.STATX_MNT_ID, found, on=((0, unknown),))
    p.own("and", Cell(found - MEMORY, 4), mounts.STATX_MNT_ID, result=known)
    p.when("if_equal", known, 0, unknown)
    p.own("set", Cell(found - MEMORY + 144), result=mount_id)
    p.go(tell)
    p.place(unknown)
    p.own("set", 0, result=mount_id)
    p.place(tell)
    p.own("copy", told + 9, status, 16)  # st_dev and st_ino
    p.call("write", writing, told, 25)
    p.call("close", root)


def start(launch: "Launch", prepared: "Prepared") -> None:
    """Start it; sets `launch.pid`. Raises CtkError, OSError."""
    the_plan, cgroup, ending, childs = prepared.plan, prepared.cgroup, prepared.ending, prepared.childs
    p = Program(childs.writing)
    site = Site(p, the_plan.root, (childs.reading, childs.writing), cgroup)
    site.userns = prepared.userns
    site.locked = site.userns or HostFacts().in_user_namespace
    site.hook_streams = prepared.hook_streams = _container_streams(launch, the_plan)
    if launch.options.no_pivot:
        from toolkit.runtime.new_root import host_views

        site.host_views = host_views(the_plan)
    joins = open_joins(the_plan)
    kept = [*ending.kept(), *(fd for _, fd in joins)]
    then = None
    if site.userns or plan.maps_ids(launch.spec):
        from toolkit.runtime import mapping

        then = mapping.prepare(p, the_plan, site, launch.spec, kept)
    if b"tmpcopyup" in launch.text:
        kept.append(_copier(prepared, site))
    # runc's debug log has these words at these points, and test suites for runtimes look for them.
    log.debug(f"nsexec container setup: new namespaces {sorted(the_plan.new)}")
    two_steps = spawn.takes_two_steps(the_plan)
    entry = None
    if not two_steps:
        spawn.create_cgroup(cgroup)
        launch.has_cgroup = True
        stops.passed()
        entry = prepared.entry = cgroup.entry()
        kept += entry.descriptors() if entry is not None else ()
    emit(p, the_plan, ending, site, joins, entry, then)
    last = -1
    if os.geteuid():
        last = _execute_the_end(p, launch, prepared)
        kept.append(last)
    else:
        finish.of_launch(p, launch, prepared)
    if site.hook_streams is not None:
        kept += site.hook_streams.fds
    if prepared.terminal >= 0:
        kept.append(prepared.terminal)
    _spawn(launch, prepared, p, kept, two_steps=two_steps, stays=then is not None)
    for fd in (last, site.nodes, *site.sources.values(), *site.ends, *(fd for _, fd in joins)):
        if fd >= 0:
            os.close(fd)
    if entry is not None:
        entry.close()
    if launch.options.pidfd_socket:
        prepared.pidfd = process.pidfd_open(launch.pid)


def _spawn(
    launch: "Launch", prepared: "Prepared", p: Program, kept: "list[int]", *, two_steps: bool, stays: bool
) -> None:
    """Start the program `p`, with our descriptors `kept`, and wait until the container's first process is there."""
    parent, childs = prepared.parent, prepared.childs
    stops.break_off(p)
    image = sealed(p.image(), 0o555 if _written_to(prepared.plan) else 0o111)
    parent.program = p
    try:
        argv = prepared.ending.arguments or ["ctk"]
        pid = launch.pid = spawn.sealed_program(image, argv, (childs.reading, childs.writing, *kept))
    finally:
        os.close(image)
        childs.close()
    if stays:
        prepared.intermediate = pid
        launch.pid = pid = entering.hear_pid(parent, pid, stays=True)
    if two_steps:
        from toolkit.runtime import intermediate

        intermediate.attend(parent, pid, prepared.plan, launch.spec)
        launch.mapped = True
    if two_steps or not stays:
        launch.pid = 0  # it is reaped before the next pid is known
        launch.pid = entering.hear_pid(parent, pid)
    if parent.copier is not None and prepared.userns:
        parent.copier.pid = launch.pid


def _execute_the_end(p: Program, launch: "Launch", prepared: "Prepared") -> int:
    """Emit that another program is executed, for the end; returns the descriptor of its file.

    An ordinary user must be able to enter a container that waits for `start`, for its hooks. So its process must belong
    to the container's user namespace, whose owner that user is, and it does if it is executed there (ptrace(2)).
    """
    end = prepared.parent.following = Program(prepared.childs.writing)
    finish.of_launch(end, launch, prepared)
    image = sealed(end.image())
    finish.say(p, prepared.childs.writing, conversation.NEXT)
    argv = p.strings(prepared.ending.arguments or ["ctk"])
    p.call("execveat", image, "", argv, p.strings(()), mounts.AT_EMPTY_PATH)
    return image


def _copier(prepared: "Prepared", site: Site) -> int:
    """The program's end of the socket through which it has new file systems filled (copy_up.py)."""
    from toolkit.runtime import console, copy_up
    from toolkit.runtime.mounting import Mount

    ours, theirs = console.pair()
    asking = [step for step in prepared.plan.steps if isinstance(step, Mount) and copy_up.asks(step)]
    prepared.parent.copier = copy_up.Copier(ours, asking)
    site.copier = theirs.detach()
    site.ends.append(site.copier)
    return site.copier


def _container_streams(launch: "Launch", the_plan: "LaunchPlan") -> "Streams | None":
    """What the createContainer hooks read and write, if there are any."""
    if not (the_plan.wants_hooks and launch.spec["hooks"].get("createContainer")):
        return None
    from toolkit.runtime.container_hooks import Streams

    # Hooks of `create` start in the bundle, but with runc createContainer's start in the root. runc's test suite relies
    # on that, crun's on the bundle: so it depends on the name that we are called by.
    return Streams("" if launch.options.program == "runc" else launch.bundle)
