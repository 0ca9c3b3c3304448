"""The child side of a launch, which becomes the container: from the clone to the sealed last step.

Nothing is imported here after the clone: after pivot_root(2) an import would run files of the container with the
runtime's rights. `begin` empties the import system, so that a mistake is an error and not a security hole.
"""

import _signal
import errno
import os
import sys

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason, reason_and_path
from toolkit.kernel import capabilities, last_step, mounts, namespaces, process, terminal
from toolkit.kernel.last_step_code import CODE
from toolkit.runtime import conversation as words
from toolkit.runtime import program, stops
from toolkit.runtime.identity import set_rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import NoReturn

    from toolkit.oci.types import Box, Process, Rlimit, Spec
    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.identity import Identity
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.steps import Stage


class Ending:
    """How the child becomes the program: everything that the last step needs, gathered before the clone."""

    __slots__ = (
        "apparmor", "arguments", "codes", "environment", "fifo", "keyring", "listener_end", "listener_message",
        "preserved", "proc", "rlimits", "seccomp", "seccomp_flags", "selinux", "stdio",
    )  # fmt: skip

    def __init__(self, spec: "Process") -> None:
        self.arguments: "list[str]" = list(spec.get("args") or ())
        # If a variable is given twice, the last one counts and keeps its place; getenv(3) would find the first.
        last: "dict[str, str]" = {}
        for entry in reversed(spec.get("env") or ()):
            last.setdefault(entry.partition("=")[0], entry)
        self.environment: "list[str]" = list(last.values())[::-1]
        self.rlimits: "list[Rlimit]" = list(spec.get("rlimits") or ())
        self.codes = CODE  # of the last step, or of the small init that remains as the first process
        self.stdio: "tuple[int, int, int] | None" = None  # its standard streams, if not ours
        self.fifo = -1  # the fifo that a created container waits on
        self.preserved: "list[int]" = []  # descriptors from 3 on that stay open
        self.proc = -1  # a procfs of ours, for the security label
        self.apparmor: str = spec.get("apparmorProfile") or ""
        self.selinux: str = spec.get("selinuxLabel") or ""
        self.seccomp = b""
        self.seccomp_flags = 0
        self.listener_end: "socket | None" = None  # a socket, if the filter has a listener
        self.listener_message: "Callable[[int], bytes] | None" = None  # the message sent with its fd, for our pid
        self.keyring = ""  # name of the new session keyring, "" to keep the caller's


def begin() -> None:
    """The child's first action: stop imports, reset signals to their defaults and unblock them, be undumpable."""
    global _host_pid
    # Now, because later /proc may be the container's.
    _host_pid = int(os.readlink("/proc/self"))
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
    # CPython ignores SIGPIPE and SIGXFSZ, and the caller may ignore others: the program would inherit that.
    for number in _signal.valid_signals():
        if _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    os.umask(0)


def container(
    plan: "LaunchPlan",
    stage: "Stage",
    identity: "Identity",
    ending: Ending,
    spec: "Spec",
) -> "NoReturn":
    """Become the container's first process. Any failure is reported to the parent."""
    conversation = stage.conversation
    try:
        begin()
        if stage.entry is not None:
            stage.entry.enter()
        if "user" in plan.new or any(kind == "user" for kind, _ in plan.joins):
            # A new user namespace has no other process that could trace us; without root its maps are written to files
            # that must be ours until then. A process that has joined one is undumpable already (intermediate.py).
            conversation.hear(words.MAPPED)
            process.hide()
            become_root()
        process.hide()
        os.setsid()
        if ending.keyring:
            _new_keyring(ending.keyring, conversation)
        for kind, fd in _opened_joins(plan):
            namespaces.setns(fd, namespaces.NAMESPACES[kind][0])
        if "network" in plan.new:
            _loopback_up()
        linux = spec.get("linux") or {}
        if linux.get("memoryPolicy"):
            from toolkit.runtime.identity import set_memory_policy  # already loaded by the parent

            set_memory_policy(linux["memoryPolicy"])
        identity.shape()
        for step in plan.steps:
            step.apply(stage)
            stops.passed("child")
        if stage.opener is not None:
            stage.opener.close()
        if linux.get("personality"):
            from toolkit.runtime.identity import set_personality

            set_personality(linux)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        conversation.tell_root(mounts.place_of(root))
        os.close(root)
        finish(conversation, identity, ending)
    except CtkError as error:
        conversation.fail(error)
    except OSError as error:
        conversation.fail(LaunchFailed("start the container", because=reason_and_path(error)))
    except BaseException as error:
        # A bug. The traceback is not formatted: that would read source lines from the container's files.
        frame, line = error.__traceback__, 0
        while frame is not None:
            line, frame = frame.tb_lineno, frame.tb_next
        conversation.fail(
            CtkError(f"internal error in the container's set-up: {type(error).__name__}: {error} (line {line})")
        )
    finally:
        os._exit(1)


_host_pid = 0  # the pid of this process on the host
_joins: "list[tuple[str, int]]" = []


def open_joins(plan: "LaunchPlan", kinds: "frozenset[str]") -> None:
    """Open the namespaces to join before the clone, while paths are still those of the host."""
    _joins.clear()
    for kind, path in plan.joins:
        if kind not in kinds:
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LaunchFailed(
                f"join the {kind} namespace {path!r}",
                because=reason(error),
                hint="is the process or the bind mount that it names still there?",
            ) from None
        _joins.append((kind, fd))


def _opened_joins(plan: "LaunchPlan") -> "list[tuple[str, int]]":
    del plan
    return _joins


def become_root() -> None:
    """Change to uid and gid 0 of a new user namespace, now that they are mapped."""
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        process.hide()
    except OSError as error:
        raise LaunchFailed(
            "become root of the user namespace",
            because=reason(error),
            hint="linux.uidMappings and linux.gidMappings must map containerID 0",
        ) from None


def _new_keyring(name: str, conversation: "Conversation") -> None:
    try:
        process.new_session_keyring(name)
    except SystemCall as error:
        if error.errno != errno.ENOSYS:  # a kernel without keyrings, or a seccomp filter around us
            conversation.warning(f"no session keyring of its own: {error.because}")


def _loopback_up() -> None:
    """Bring up `lo` of a new network namespace (netdevice(7)); if that fails the network is up to the engine."""
    import fcntl  # loaded by the parent

    from toolkit.kernel import libc

    end = libc.syscall(libc.number("socket"), 2, 2 | os.O_CLOEXEC, 0)  # AF_INET, SOCK_DGRAM
    try:
        request = b"lo".ljust(16, b"\0") + (0x1 | 0x40).to_bytes(2, "little") + bytes(22)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(end, 0x8914, request)  # SIOCSIFFLAGS
    finally:
        os.close(end)


def finish(conversation: "Conversation", identity: "Identity", ending: Ending) -> "NoReturn":
    """From the new root to the last step: credentials, the program, the sealed stub. Raises CtkError."""
    for number, fd in enumerate(ending.stdio or ()):
        os.dup2(fd, number)
    # Before the filter, which may be older than close_range(2) and refuse it; we open nothing without O_CLOEXEC later.
    fifo, errors, proc = _keep_open(ending)
    # The last step loads the filter if it may. Else we do so just before it: CAP_SYS_ADMIN is kept for that, and a
    # profile needs to allow only our capset(2) and execve(2).
    late = identity.filter_is_late() and ending.listener_end is None
    load = _filter_loader(ending) if ending.seccomp and not late else None
    kept = 1 << capabilities.NUMBERS["CAP_SYS_ADMIN"] if load else 0
    ending.environment = program.with_home(ending.environment, identity.uid)
    there = identity.try_directory()
    identity.apply(conversation.warning, keep=kept)
    if not there:
        identity.enter_directory()
    # Without `process` there is nothing to execute: the last step waits for `start`, then fails on a directory.
    path = program.find(ending.arguments[0], ending.environment) if ending.arguments else "/"
    stops.passed("child")
    conversation.say(words.READY)
    conversation.hear(words.GO)
    stops.passed("child")
    label, attribute = b"", b""
    if ending.apparmor:
        label, attribute = b"exec " + ending.apparmor.encode(), b"thread-self/attr/apparmor/exec"
    elif ending.selinux:
        label, attribute = ending.selinux.encode(), b"thread-self/attr/exec"
    image = last_step.image(
        os.fsencode(path),
        fifo=fifo,
        errors=errors,
        proc=proc,
        label=label,
        attribute=attribute,
        seccomp=ending.seccomp if late else b"",
        seccomp_flags=ending.seccomp_flags,
        codes=ending.codes,
        obeys=fifo >= 0 and load is None,
    )
    sealed = last_step.sealed(image)
    set_rlimits(ending.rlimits)
    environment = [entry.encode("utf-8", "surrogateescape") for entry in ending.environment]
    by_name = ""
    if load:
        # Profiles are written for runc and often lack execveat(2): if the container has a real procfs, use a path.
        by_name = _name_of(sealed)
        identity.with_kept(kept, load)
    last_step.execute(sealed, ending.arguments, environment, by_name=by_name)
    raise AssertionError("execveat(2) returned")


def _keep_open(ending: Ending) -> "tuple[int, int, int]":
    """Make every descriptor from 3 on close-on-exec, except the preserved ones and the last step's own."""
    process.close_range(3, 0xFFFFFFFF, process.CLOSE_RANGE_CLOEXEC)
    for fd in (*ending.preserved, ending.fifo, ending.proc):
        if fd >= 0:
            os.set_inheritable(fd, True)
    return ending.fifo, -1, ending.proc


def _name_of(fd: int) -> str:
    """The descriptor's path in /proc, "" if there is no procfs (or something else is mounted there)."""
    name = f"/proc/self/fd/{fd}"
    try:
        return name if os.path.samestat(os.stat(name), os.fstat(fd)) else ""
    except OSError:
        return ""


def _filter_loader(ending: Ending) -> "Callable[[], None]":
    from toolkit.kernel import seccomp

    def load() -> None:
        listener = seccomp.install(ending.seccomp, ending.seccomp_flags)
        if ending.listener_end is not None:
            from toolkit.runtime import console

            assert ending.listener_message is not None
            console.send_descriptor(ending.listener_end, listener, ending.listener_message(_host_pid))
            os.close(listener)

    return load


def join_terminal(end: "socket", size: "Box | None") -> None:
    """exec --tty: open a pty of the container that we have just joined. Raises CtkError, OSError."""
    from toolkit.kernel import beneath
    from toolkit.runtime import console

    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    ptmx = beneath.open_beneath(root, "/dev/pts/ptmx", os.O_PATH | os.O_NOFOLLOW)
    os.close(root)
    master, slave = console.open_in(ptmx)
    if size and size.get("height") and size.get("width"):
        terminal.set_size(slave, terminal.winsize(size["height"], size["width"]))
    console.send_descriptor(end, master, b"/dev/ptmx")
    os.close(master)
    console.attach(slave)
