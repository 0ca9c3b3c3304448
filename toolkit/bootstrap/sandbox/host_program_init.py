"""Process 1 around a program of the host that works on a tree: a hook, or debootstrap.

    ctk ── starts ──> outer process ── forks ──> process 1 of a pid namespace ── spawns ──> the program
                      (waits, dies with ctk)     (mounts, reaps)

The program sees the host as it is, with its network: it is the caller's own. But nobody else sees its mounts, and when
it or ctk ends, every process that it started is dead. This is a program of its own for the reason that is given in
sandbox_init.py.
"""

import fcntl
import os
import signal
from typing import NoReturn, TypedDict

from toolkit.bootstrap.sandbox.sandbox_init import furnish, receive, send
from toolkit.errors import SystemCall
from toolkit.kernel import binfmt, mounts, namespaces, process
from toolkit.kernel.beneath import O_PATH

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FOR_PROGRAMS = (signal.SIGPIPE, signal.SIGXFSZ, *_IGNORED)


class Settings(TypedDict):
    """What to run, and where."""

    argv: list[str]
    environment: dict[str, str]
    target: str  # a tree that gets /proc, /sys and /dev mounted, so that chroot(8) into it works; "" is none
    emulate: bytes  # as sandbox_init.Settings


def main(requests: int, replies: int, status: int, parent: int) -> NoReturn:
    """The outer process: make the namespaces, fork process 1, report how the program ended."""
    for fd in (requests, replies, status):
        os.set_inheritable(fd, False)
    process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    settings: Settings | None = receive(requests)
    if settings is None:
        os._exit(1)
    try:
        if settings["emulate"]:
            binfmt.enter_user_namespace()
        namespaces.unshare(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID | namespaces.CLONE_NEWIPC)
    except (OSError, SystemCall) as error:
        send(replies, {"error": str(error)})
        os._exit(1)
    child = os.fork()
    if child == 0:
        _first(settings, replies, status)
    os.close(status)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    while True:
        try:
            os.waitpid(child, 0)
            os._exit(0)
        except InterruptedError:
            continue


def _first(settings: Settings, replies: int, status: int) -> NoReturn:
    try:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.umask(0o022)
        if settings["emulate"]:
            binfmt.register(settings["emulate"])
        mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
        if settings["target"]:
            root = os.open(settings["target"], O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            furnish(root)
            os.close(root)
        # /proc of the new pid namespace. Last, because the mounts before it go through paths of the old /proc.
        own = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        mounts.mount("proc", "/proc", "proc", own)
    except (OSError, SystemCall) as error:
        send(replies, {"error": str(error)})
        os._exit(1)
    try:
        if status == 3:  # dup2 onto itself would leave it close-on-exec
            status = fcntl.fcntl(status, fcntl.F_DUPFD_CLOEXEC, 10)
        child = os.posix_spawnp(
            settings["argv"][0],
            settings["argv"],
            settings["environment"],
            file_actions=[(os.POSIX_SPAWN_DUP2, status, 3)],
            setsigdef=_FOR_PROGRAMS,
            setpgroup=0,
        )
    except OSError as error:
        os.write(2, f"{settings['argv'][0]}: {error.strerror}\n".encode())
        send(replies, 127 if isinstance(error, FileNotFoundError) else 126)
        os._exit(0)
    os.close(status)
    while True:
        pid, waited = os.waitpid(-1, 0)
        if pid == child:
            send(replies, os.waitstatus_to_exitcode(waited))
            os._exit(0)
