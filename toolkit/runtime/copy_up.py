"""Copy a directory of the root into the tmpfs that will cover it (mount option tmpcopyup).

A program can't, so the container's first process asks for it: it sends the two directories to its parent, which copies,
as root of the container's user namespace if there is one.
"""

import errno
import os
import stat as st

from toolkit import preload
from toolkit.errors import reason_and_path
from toolkit.kernel import mounts, namespaces, process
from toolkit.kernel.program.program import Cell, Label
from toolkit.runtime import conversation, finish, mount_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

    from toolkit.kernel.program.program import Program
    from toolkit.runtime.mounting import Mount
    from toolkit.runtime.site import Site


def asks(step: "Mount") -> bool:
    """Whether the mount has the option."""
    return "tmpcopyup" in step.options.extensions


def emit(p: "Program", site: "Site", data: str, mode: "Cell | None", tmpfs: "Cell", covered: "Cell") -> None:
    """Emit a new, detached tmpfs, and have it filled with what is in the directory `covered`.

    `mode`: the address of "mode=…", or 0, in a cell.
    """
    settings = mount_options.settings(data)
    fs, source, answered = p.cell(), p.cell(), p.cell()
    p.call("fsopen", "tmpfs", mounts.FSOPEN_CLOEXEC, result=fs)
    for key, value in settings.items():
        p.call("fsconfig", fs, mounts.FSCONFIG_SET_STRING, key, value, 0)
    if mode is not None:
        digits, plain = p.cell(), Label()
        p.when("if_equal", mode, 0, plain)
        p.own("add", mode, len("mode="), result=digits)
        p.call("fsconfig", fs, mounts.FSCONFIG_SET_STRING, "mode", digits, 0)
        p.place(plain)
    p.call("fsconfig", fs, mounts.FSCONFIG_CMD_CREATE, 0, 0, 0)
    p.call("fsmount", fs, mounts.FSMOUNT_CLOEXEC, 0, result=tmpfs)
    p.call("close", fs)
    p.call("openat", covered, ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, 0, result=source)
    finish.say(p, site.pipes[1], conversation.COPY)
    for fd in (source, tmpfs):
        finish.send_descriptor(p, site.copier, fd, p.text("+"), 1)
    # By the socket: in the pipe there may be JOINED, which this step does not wait for.
    p.call("read", site.copier, p.room(8), 1, result=answered)
    p.when("if_equal", answered, 1, done := Label())
    p.call("exit_group", 1)
    p.place(done)
    p.call("close", source)


class Copier:
    """The parent's side, for the steps of a plan that ask for it, in their order."""

    __slots__ = ("_asking", "_end", "pid")

    def __init__(self, end: "socket", asking: "Sequence[Mount]") -> None:
        self._end = end
        self._asking = list(asking)
        self.pid = 0  # of the container's first process, if it has a user namespace of its own

    def copy(self) -> None:
        """Answer one. Raises LaunchFailed, OSError."""
        from toolkit.runtime import console

        step = self._asking.pop(0)
        source, target = console.receive_descriptor(self._end), console.receive_descriptor(self._end)
        owner = not {"uid", "gid"} & mount_options.settings(",".join(step.options.data)).keys()
        try:
            if self.pid:
                _as_root_of(self.pid, source, target, owner=owner)
            else:
                _copy(source, target, owner=owner)
        except OSError as error:
            raise step.explained(reason_and_path(error), error.errno or 0) from None
        finally:
            os.close(source)
            os.close(target)
        self._end.send(b"+")


def _copy(source: int, target: int, *, owner: bool) -> None:
    copy_directory(source, target)
    if owner:
        copy_owner(source, target)


def _as_root_of(pid: int, source: int, target: int, *, owner: bool) -> None:
    """Copy in a child that is root of the user namespace of `pid`. Raises OSError.

    No process in there can look into it: it was not executed there (ptrace(2), PTRACE_MODE_READ).
    """
    reading, writing = os.pipe()
    child, _ = process.clone3(0)
    if child == 0:
        try:
            preload.leave_files()
            process.hide()
            namespaces.setns(namespaces.open_namespace(pid, "user"), namespaces.CLONE_NEWUSER)
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
            process.hide()
            os.umask(0)
            _copy(source, target, owner=owner)
        except OSError as error:
            os.write(writing, f"{error.errno}\0{error.filename or ''}".encode("utf-8", "surrogateescape"))
        except BaseException as error:
            os.write(writing, f"{errno.EPERM}\0{error}".encode("utf-8", "surrogateescape"))
        finally:
            os._exit(0)
    os.close(writing)
    told = b""
    while more := os.read(reading, 4096):
        told += more
    os.close(reading)
    if os.waitpid(child, 0)[1]:
        raise OSError(errno.EINTR, "the process that copied was killed")
    if told:
        number, _, name = told.decode("utf-8", "surrogateescape").partition("\0")
        raise OSError(int(number), os.strerror(int(number)), name or None)


def copy_directory(source: int, target: int) -> None:
    """Copy the contents of the directory `source` to `target`, by fds: types, modes, owners, times; no link followed.

    Raises OSError.
    """
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        mode = status.st_mode
        if st.S_ISDIR(mode):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner_source = os.open(name, flags, dir_fd=source)
            inner_target = os.open(name, flags, dir_fd=target)
            try:
                copy_directory(inner_source, inner_target)
                _attributes(inner_target, status)
            finally:
                os.close(inner_source)
                os.close(inner_target)
        elif st.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        elif st.S_ISREG(mode):
            _copy_file(name, source, target, status)
        else:
            os.mknod(name, mode, status.st_rdev, dir_fd=target)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def copy_owner(source: int, target: int) -> None:
    """Give the directory `target` the owner of `source`, who may write there.

    It stays ours where this user namespace does not have that owner.
    """
    status = os.fstat(source)
    try:
        os.chown(".", status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise


def _copy_file(name: str, source: int, target: int, status: os.stat_result) -> None:
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        writing = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target
        )
        try:
            while os.sendfile(writing, reading, None, 1 << 20):
                pass
            _attributes(writing, status)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _attributes(fd: int, status: os.stat_result) -> None:
    os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, status.st_mode & 0o7777)
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
