"""Cleans a configured tree, so that it can be copied, shipped and run more than once."""

import contextlib
import fnmatch
import os
import stat
from collections.abc import Iterator

from toolkit.archive import walk
from toolkit.archive.epoch import epoch_s
from toolkit.bootstrap.facts.model import Lock
from toolkit.errors import SystemCall
from toolkit.events import Emit, Note
from toolkit.kernel.beneath import O_PATH, make_directories, open_beneath


def tidy(rootfd: int, lock: Lock, emit: Emit) -> None:  # noqa: ARG001 (every stage of a build is called like this)
    """Remove what belongs to the build and not to the systems made from the tree. Raises OSError, SystemCall."""
    with _folder(rootfd, "etc") as etc:
        # mtab: as debootstrap does. A link to /proc stays.
        if not _is_link(etc, "mtab"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink("mtab", dir_fd=etc)
        # Machines made from one tree must not share an id. machine-id(5): an empty file is filled at the first boot.
        with contextlib.suppress(FileNotFoundError):
            _empty(etc, "machine-id")
        has_ssh = "ssh" in os.listdir(etc)
    if has_ssh:
        with _folder(rootfd, "etc/ssh") as ssh:
            keys = fnmatch.filter(os.listdir(ssh), "ssh_host_*_key*")
            for name in keys:
                os.unlink(name, dir_fd=ssh)
        if keys:
            emit(Note("removed the SSH host keys, which all copies of the tree would share; make new: `ssh-keygen -A`"))
    latest_s = epoch_s()
    if latest_s is not None:
        _make_reproducible(rootfd, latest_s)


def _make_reproducible(rootfd: int, latest_s: int) -> None:
    """Remove what differs between two builds, and make no time later than `latest_s`.

    Source: https://reproducible-builds.org/specs/source-date-epoch/. The differences were found by
    scripts/compare-tree --strict.
    """
    for folder, patterns, empty in (
        ("var/log", ("alternatives.log", "dpkg.log", "bootstrap.log"), True),
        ("var/log/apt", ("*.log", "*.log.xz"), True),
        ("var/cache/ldconfig", ("aux-cache",), False),  # inode numbers
        ("var/lib/dpkg", ("*-old",), False),
    ):
        with contextlib.suppress(FileNotFoundError), _folder(rootfd, folder, make=False) as parent:
            for name in (name for pattern in patterns for name in fnmatch.filter(os.listdir(parent), pattern)):
                if empty:
                    _empty(parent, name)
                else:
                    os.unlink(name, dir_fd=parent)
    for fd, found in walk.folders(rootfd):
        for name, about in found:
            if about.st_mtime > latest_s:
                os.utime(name, (latest_s, latest_s), dir_fd=fd, follow_symlinks=False)
    os.utime(rootfd, (latest_s, latest_s))


def _empty(folder: int, name: str) -> None:
    """Truncate a file. Anything else that a script has made in its place (a fifo, a link) is removed."""
    if stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.close(os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder))
    else:
        os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _folder(rootfd: int, path: str, *, make: bool = True) -> Iterator[int]:
    """A descriptor of a folder of the tree. If it is missing it is made, or raises FileNotFoundError without `make`."""
    try:
        held = make_directories(rootfd, path) if make else open_beneath(rootfd, path, O_PATH | os.O_DIRECTORY)
    except SystemCall as error:
        raise OSError(error.errno, os.strerror(error.errno), path) from None
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
    os.close(held)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_link(parent: int, name: str) -> bool:
    try:
        os.readlink(name, dir_fd=parent)
    except OSError:
        return False
    return True
