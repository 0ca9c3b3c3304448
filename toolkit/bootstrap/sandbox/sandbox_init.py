"""Process 1 of a build: the programs of the new tree are its children, and end when it ends.

    ctk ── starts ──> outer process ── forks ──> process 1 of the build's own pid namespace ── spawns ──> dpkg, …
     │                (waits, dies with ctk)     (mounts, pivots, answers requests, reaps)
     └──── requests and replies over two pipes ───────┘

It is a program of its own because a process with a second thread can't unshare a user namespace, and ctk has several
threads by now. It is started as `python -I -S`, imports all that it needs before it enters the tree, and nothing
afterwards.

Nothing outlives ctk. When ctk dies, the outer process gets a signal (PR_SET_PDEATHSIG) and kills process 1, which also
dies with the outer process; with process 1 the kernel kills its whole pid namespace. The mounts are in a mount
namespace that ends with its last process; the host never sees them.

A message is its length in 4 bytes, then plain values by marshal (marshal is built into the interpreter: no import).
Requests are dicts, see `Request`; the reply is the program's exit code as from os.waitstatus_to_exitcode, negative for
a signal.
"""

import _socket
import contextlib
import errno
import fcntl
import marshal
import os
import signal
import sys
from typing import Any, NoReturn, TypedDict

from toolkit.bootstrap.sandbox.build_cgroup import Cgroup
from toolkit.errors import SystemCall
from toolkit.kernel import binfmt, capabilities, mounts, namespaces, process, roots, seccomp_noop
from toolkit.kernel.beneath import O_PATH, fd_path, make_directories, open_beneath

# Capabilities that act on the machine and that no package needs. MKNOD is among them: the nodes of Debian's /dev exist
# before the first script runs, and with MKNOD any script could read the host's disks. With DAC_READ_SEARCH
# open_by_handle_at(2) opens every file of the file system that the tree is on, whatever our root is (CVE-2014-3519).
# With LINUX_IMMUTABLE a script could leave files that can't be removed.
_DROPPED = (
    "CAP_DAC_READ_SEARCH CAP_LINUX_IMMUTABLE CAP_CHECKPOINT_RESTORE CAP_AUDIT_READ CAP_SYS_TTY_CONFIG "
    "CAP_SYS_ADMIN CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_BOOT CAP_SYS_TIME CAP_MKNOD CAP_SYSLOG CAP_BPF CAP_PERFMON "
    "CAP_SYS_PTRACE "
    "CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_CONTROL CAP_SYS_PACCT CAP_LEASE"
).split()

_READ_ONLY = ("proc/sys", "proc/bus", "proc/fs", "proc/irq", "proc/sysrq-trigger")
_HIDDEN = ("proc/kcore", "proc/keys", "proc/kmsg", "proc/timer_list", "proc/latency_stats", "proc/sched_debug")
_EMPTY = ("proc/acpi", "proc/asound", "proc/scsi")  # their files take commands for the host's devices
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx"))

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FOR_PROGRAMS = (signal.SIGPIPE, signal.SIGXFSZ, *_IGNORED)  # Python ignores the first two; a child would inherit that


class Settings(TypedDict):
    """How to set up the namespaces; the first message."""

    target: str
    place: tuple[int, int]  # device and inode of the target; (0, 0): not checked
    hostname: str
    sync: bool  # let fsync(2), sync(2) and the like through
    emulate: bytes  # a binfmt_misc registration for the build's own user namespace; b"" is none


class Request(TypedDict):
    """One program to run. `stdin` is its whole input. It gets the status pipe as descriptor 3."""

    argv: list[str]
    environment: dict[str, str]
    stdin: bytes


def send(fd: int, message: Any) -> None:
    """Write one message. Raises OSError (EPIPE: the other side is gone)."""
    data = marshal.dumps(message)
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int) -> Any:
    """Read one message; None when the other side is gone."""
    size = _read(fd, 4)
    data = _read(fd, int.from_bytes(size, "little")) if size else b""
    return marshal.loads(data) if data else None


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            return b""
        data += more
    return data


def main(requests: int, replies: int, output: int, status: int, parent: int) -> NoReturn:
    """The outer process: make the namespaces, fork process 1, wait for it."""
    for fd in (requests, replies, output, status):
        os.set_inheritable(fd, False)
    # Not SIGKILL: the cgroup must be removed.
    process.prctl(process.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent died before the prctl
        os._exit(1)
    settings: Settings = receive(requests)
    if settings is None:
        os._exit(1)
    # A new network namespace with lo alone: no maintainer script needs the network, and none may listen on the host's.
    kinds = ("mount", "pid", "ipc", "uts", "network")
    try:
        if settings["emulate"]:
            binfmt.enter_user_namespace()
        namespaces.unshare(sum(namespaces.NAMESPACES[kind][0] for kind in kinds))
    except (OSError, SystemCall) as error:
        _give_up(replies, error)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    cgroup = Cgroup()
    child = os.fork()
    if child == 0:
        _first(settings, cgroup, requests, replies, output, status)
    for fd in (requests, replies, output, status):
        os.close(fd)

    def end(*_: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself; the cgroup must still be removed
            os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    code = 1
    while True:
        try:
            _, waited = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(waited)
            break
        except InterruptedError:
            continue
    cgroup.remove()
    os._exit(0 if code == 0 else 1)


def _give_up(replies: int, error: Exception) -> NoReturn:
    send(replies, {"error": str(error)})
    os._exit(1)


def _first(settings: Settings, cgroup: Cgroup, requests: int, replies: int, output: int, status: int) -> NoReturn:
    """Process 1."""
    try:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        # Python would turn SIGINT into KeyboardInterrupt. This process is ended by SIGKILL alone.
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        cgroup.join()
        if os.path.exists("/proc/self/ns/cgroup"):
            namespaces.unshare(namespaces.CLONE_NEWCGROUP)  # its root is the cgroup that we are in now
        os.umask(0o022)
        last_capability = capabilities.last()  # read now: /proc will be the tree's
        if settings["emulate"]:
            binfmt.register(settings["emulate"])  # lasts as long as this process
        _enter(settings["target"], settings["place"])
        process.sethostname(settings["hostname"])
        _loopback_up()
        seccomp_noop.install(syncs=not settings["sync"], confined=True)
        _drop_capabilities(last_capability)
        # /proc/PID/exe of this process is the host's python: a script that opened it could write to it once we are
        # gone (as in CVE-2019-5736). If a process isn't dumpable, opening it takes CAP_SYS_PTRACE.
        process.prctl(process.PR_SET_DUMPABLE, 0)
        sys.meta_path.clear()  # from here on an import would load the tree's files
    except (OSError, SystemCall) as error:
        _give_up(replies, error)
    send(replies, {})
    while (request := receive(requests)) is not None:
        try:
            code = _run(request, output, status)
        except OSError as error:
            # The exit codes of a shell: 127 not found, 126 not executable.
            os.write(output, f"{request['argv'][0]}: {error.strerror}\n".encode())
            code = 127 if error.errno == errno.ENOENT else 126
        send(replies, code)
    os._exit(0)


def _run(request: Request, output: int, status: int) -> int:
    """Run one program to its end, and reap any other process that ends meanwhile: orphans are ours, as init."""
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
        (os.POSIX_SPAWN_DUP2, status, 3),
    ]
    held = -1
    if request["stdin"]:
        held = os.memfd_create("stdin")
        os.write(held, request["stdin"])
        os.lseek(held, 0, os.SEEK_SET)
        actions[0] = (os.POSIX_SPAWN_DUP2, held, 0)
    try:
        argv = request["argv"]
        child = os.posix_spawn(
            argv[0], argv, request["environment"], file_actions=actions, setsigdef=_FOR_PROGRAMS, setpgroup=0
        )
    finally:
        if held >= 0:
            os.close(held)
    while True:
        pid, waited = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(waited)


def _enter(target: str, place: tuple[int, int]) -> None:
    """Make the target `/` of our mount namespace, with its own /proc, /sys and /dev.

    Raises OSError (ESTALE) if it is not the folder at `place`: other users who may rename a parent folder could lead
    us, and the maintainer scripts, into any folder of the host.
    """
    chroot = roots.leave_chroot()
    mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
    if chroot is not None:
        roots.come_back(chroot)
    mounts.mount(target, target, None, mounts.MS_BIND)
    # Device nodes of the tree must not work (nodev): the build has a /dev of its own. In a user namespace the other
    # flags of the underlying mount must be kept (mount_namespaces(7)).
    kept = os.statvfs(target).f_flag & (mounts.MS_RDONLY | mounts.MS_NOSUID | mounts.MS_NOEXEC)
    mounts.mount(None, target, None, mounts.MS_BIND | mounts.MS_REMOUNT | mounts.MS_NODEV | kept)
    # On a file system mounted nosuid or nodev a build works, but su and /dev would not work in the result; `configure`
    # has checked that. Here only the flags of the mount itself count.
    root = os.open(target, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    about = os.fstat(root)
    if any(place) and (about.st_dev, about.st_ino) != tuple(place):
        raise OSError(errno.ESTALE, "another folder is there now", target)
    furnish(root)
    for path in _READ_ONLY:
        _read_only(root, path)
    for path in (*_HIDDEN, *_EMPTY):
        _hide(root, path, empty=path in _EMPTY)
    if chroot is not None:
        # The namespace's own root must be replaced: a root mounted within a chroot can be left by chroot(2) and "..".
        roots.leave_chroot()
    os.fchdir(root)
    os.close(root)
    mounts.pivot_root(".", ".")
    mounts.umount2(".", mounts.MNT_DETACH)
    os.chdir("/")


def furnish(root: int) -> None:
    """Mount /proc, /sys and a new /dev in the tree `root`, in this mount namespace. Raises SystemCall."""
    flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
    _mount(root, "proc", "proc", "proc", flags)
    try:
        _mount(root, "sys", "sysfs", "sysfs", flags | mounts.MS_RDONLY)
    except SystemCall as error:
        # Only the owner of the network namespace may mount sysfs; in some containers even the owner may not.
        if error.errno not in (errno.EPERM, errno.EBUSY):
            raise
    _devices(root)


def _mount(root: int, path: str, source: str, fstype: str, flags: int, data: str = "") -> None:
    """Mount on a directory of the tree, made if missing; no symbolic link leads out of the tree on the way."""
    fd = make_directories(root, path)
    try:
        mounts.mount(source, fd_path(fd), fstype, flags, data)
    finally:
        os.close(fd)


def _devices(root: int) -> None:
    """Mount a new /dev over the tree's, whose nodes don't work on a file system mounted nodev."""
    _mount(root, "dev", "tmpfs", "tmpfs", mounts.MS_NOSUID | mounts.MS_NOEXEC, "mode=755,size=4m")
    dev = open_beneath(root, "dev", O_PATH | os.O_DIRECTORY)
    for name in _DEVICES:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=dev))
        _bind_node(dev, name, name)
    for name, link in _LINKS:
        os.symlink(link, name, dir_fd=dev)
    for name in ("pts", "shm"):
        os.mkdir(name, 0o755, dir_fd=dev)
    nosuid = mounts.MS_NOSUID | mounts.MS_NOEXEC
    mounts.mount("devpts", f"{fd_path(dev)}/pts", "devpts", nosuid, "newinstance,ptmxmode=0666,mode=620")
    mounts.mount("tmpfs", f"{fd_path(dev)}/shm", "tmpfs", nosuid | mounts.MS_NODEV, "mode=1777,size=256m")
    os.close(dev)


def _read_only(root: int, path: str) -> None:
    try:
        fd = open_beneath(root, path, O_PATH)
    except SystemCall:
        return  # this kernel has no such file
    name = fd_path(fd)
    mounts.mount(name, name, None, mounts.MS_BIND | mounts.MS_REC)
    os.close(fd)
    # Opened again by name: the old `fd` is the file under the new mount.
    fd = open_beneath(root, path, O_PATH)
    flags = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC | mounts.MS_RDONLY
    mounts.mount(None, fd_path(fd), None, mounts.MS_BIND | mounts.MS_REMOUNT | flags)
    os.close(fd)


def _hide(root: int, path: str, *, empty: bool) -> None:
    try:
        fd = open_beneath(root, path, O_PATH)
    except SystemCall:
        return
    if empty:
        flags = mounts.MS_RDONLY | mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
        mounts.mount("tmpfs", fd_path(fd), "tmpfs", flags, "size=4k")
    else:
        _bind_node(root, "null", path)
    os.close(fd)


def _bind_node(root: int, name: str, path: str) -> None:
    """Bind a device node of the host, read-only: it can still be written to, but not chmod'ed or chown'ed."""
    fd = open_beneath(root, path, O_PATH)
    mounts.mount(f"/dev/{name}", fd_path(fd), None, mounts.MS_BIND)
    os.close(fd)
    # Opened again by name: the old `fd` is the file under the new mount.
    fd = open_beneath(root, path, O_PATH)
    flags = mounts.MS_NOSUID | mounts.MS_NOEXEC | mounts.MS_RDONLY
    mounts.mount(None, fd_path(fd), None, mounts.MS_BIND | mounts.MS_REMOUNT | flags)
    os.close(fd)


def _loopback_up() -> None:
    """Set lo up: in a new network namespace it is down, and a script may talk to 127.0.0.1."""
    handle = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        fcntl.ioctl(handle.fileno(), 0x8914, b"lo".ljust(16, b"\0") + b"\x41\0".ljust(24, b"\0"))  # SIOCSIFFLAGS
    finally:
        handle.close()


def _drop_capabilities(last: int) -> None:
    keep = ((1 << last + 1) - 1) & ~capabilities.mask(_DROPPED)
    capabilities.drop_bounding(keep, last)
    effective, permitted, inheritable = capabilities.capget()
    capabilities.capset(effective & keep, permitted & keep, inheritable & keep)
