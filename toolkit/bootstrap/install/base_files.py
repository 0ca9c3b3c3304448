"""What a tree needs before its first program can run: dpkg's database, a few files in /etc, the nodes of /dev.

All as debootstrap makes it, except that resolv.conf and hostname have mode 0644 (debootstrap copies the host's).
"""

import contextlib
import errno
import os
import stat

from toolkit.bootstrap.facts.hooks_config import Customisation
from toolkit.bootstrap.facts.model import Lock
from toolkit.bootstrap.install import apt_files
from toolkit.bootstrap.install.core import settled
from toolkit.bootstrap.install.database import Database
from toolkit.bootstrap.install.unpack import Unpacked
from toolkit.bootstrap.install.usrmerge import needs_exemption
from toolkit.events import Emit, Note
from toolkit.kernel.beneath import make_directories

_NODES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("console", 5, 1),
    ("ptmx", 5, 2),
)
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)


def seed(rootfd: int, lock: Lock, unpacked: list[Unpacked], custom: Customisation, emit: Emit) -> None:
    """Make the unpacked tree ready for `configure`. Raises OSError, SystemCall."""
    database = Database(rootfd)
    database.create()
    # The base set is registered once the required one is configured. Otherwise dpkg would configure both together, and
    # the order determines the uids of the users that packages create (configure.py).
    database.register(settled(lock, unpacked))
    etc(rootfd, lock, custom)
    dev(rootfd, emit)


def etc(rootfd: int, lock: Lock, custom: Customisation) -> None:
    """Write the files of /etc that no package ships."""
    folder = make_directories(rootfd, "etc")
    try:
        for name in ("hostname",) if custom.resolv_conf in ("keep", "none") else ("resolv.conf", "hostname"):
            with contextlib.suppress(FileNotFoundError), open("/etc/" + name, "rb") as file:
                _new_file(folder, name, file.read())
        _new_file(folder, "fstab", b"# UNCONFIGURED FSTAB FOR BASE SYSTEM\n")
        if needs_exemption(lock, custom.merged_usr):
            _new_file(
                folder, "unsupported-skip-usrmerge-conversion", b"this system will not be supported in the future\n"
            )
    finally:
        os.close(folder)
    localtime(rootfd)
    apt_files.write(rootfd, lock)


def localtime(rootfd: int) -> None:
    """Make /etc/localtime, unless it exists."""
    folder = make_directories(rootfd, "etc")
    try:
        with contextlib.suppress(FileExistsError):
            os.symlink("/usr/share/zoneinfo/UTC", "localtime", dir_fd=folder)
    finally:
        os.close(folder)


def dev(rootfd: int, emit: Emit) -> None:
    """Make the nodes of /dev, if the kernel lets us."""
    folder = make_directories(rootfd, "dev")
    try:
        for name, major, minor in _NODES:
            try:
                os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=folder)
                os.chmod(name, 0o666, dir_fd=folder)  # mknod(2) applies the umask
            except FileExistsError:
                pass
            except OSError as error:
                # In a user namespace device nodes can't be made. That is no loss: a runtime mounts its own /dev.
                if error.errno not in (errno.EPERM, errno.EACCES):
                    raise
                emit(Note("no device nodes in /dev: the kernel lets only the host's root make them"))
                break
        for name in ("pts", "shm"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=folder)
        for name, link in _LINKS:
            with contextlib.suppress(FileExistsError):
                os.symlink(link, name, dir_fd=folder)
    finally:
        os.close(folder)


def _new_file(parent: int, name: str, data: bytes) -> None:
    """Make a file unless the name exists. A link is not followed: it could lead to a file of the host (security B9)."""
    with contextlib.suppress(FileExistsError):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent)
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o644)
            file.write(data)
