"""The child side of a launch, which becomes the container: from the clone to the sealed program of finish.py.

Nothing is imported here after the clone: after pivot_root(2) an import would run files of the container with the
runtime's rights. `begin` empties the import system, so that a mistake is an error and not a security hole.
"""

import _signal
import errno
import os
import sys

from toolkit.errors import CtkError, LaunchFailed, SystemCall, reason, reason_and_path
from toolkit.kernel import mounts, namespaces, process
from toolkit.runtime import conversation as words
from toolkit.runtime import stops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from toolkit.runtime.conversation import Conversation
    from toolkit.runtime.ending import Ending
    from toolkit.runtime.plan import LaunchPlan
    from toolkit.runtime.steps import Stage


def begin() -> None:
    """The child's first action: stop imports, reset signals to their defaults and unblock them, be undumpable."""
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
    ending: "Ending",
    image: int,
) -> "NoReturn":
    """Become the container's first process. `image`: the sealed program of finish.py. A failure goes to the parent."""
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
        for step in plan.steps:
            step.apply(stage)
            stops.passed("child")
        if stage.opener is not None:
            stage.opener.close()
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        conversation.tell_root(mounts.place_of(root))
        os.close(root)
        for fd in (conversation.reading, conversation.writing, *ending.kept()):
            os.set_inheritable(fd, True)
        process.execveat(image, "", ending.arguments or ["ctk"], (), mounts.AT_EMPTY_PATH)
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
