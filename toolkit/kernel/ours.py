"""Check that a file or folder is ours: that nobody else could have put it there, or could replace it.

A path is only as safe as each folder on it: who can write to one of them can rename what is below. So the path is
walked by descriptor, component by component, its symlinks too, and the file that was checked is the one that is opened
(the rule is that of sshd's StrictModes and sudo's check of its files; path_resolution(7) for the walk).

The trusted owners of a folder on the path: root, ourselves, and the owner of `/`, who could replace all of it. The
last is for a user namespace, which shows the host's root as the overflow id (user_namespaces(7)).
"""

import errno
import os

from toolkit.errors import CtkError

_MAX_LINKS = 40  # the kernel's own limit (path_resolution(7))
_TYPE, _FOLDER, _LINK = 0o170000, 0o040000, 0o120000
_TOP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STICKY, _GROUP, _OTHERS = 0o1000, 0o020, 0o002


class NotOurs(CtkError):
    """Somebody else could have made or changed it. `because` names the folder or file, its owner and its mode."""


def open_folder(path: str, doing: str, *, make: bool = False, hint: str = "") -> int:
    """An O_PATH descriptor of the folder `path`, which only root and we can write to or replace.

    With `make` its missing parts are made, 0700. Raises NotOurs (with `doing` and `hint`), OSError.
    """
    fd = os.open("/", _TOP)
    try:
        trusted = (0, os.geteuid(), os.fstat(fd).st_uid)
        rest = os.path.abspath(path).split("/")[::-1]
        links = 0
        while rest:
            word = rest.pop()
            if word in ("", "."):
                continue
            after = _open(fd, word, make=make, path=path)
            try:
                status = os.fstat(after)
                here = f"{word!r}, on the way to it" if rest else "it"
                if status.st_uid not in trusted:
                    raise NotOurs(doing, because=_reason(here, status), hint=hint)
                kind = status.st_mode & _TYPE
                if kind == _LINK:
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    target = os.readlink("", dir_fd=after)
                    rest += target.split("/")[::-1]
                    if not target.startswith("/"):
                        continue
                    os.close(after)
                    after = os.open("/", _TOP)
                elif kind != _FOLDER:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                elif rest and _replaceable(status):
                    raise NotOurs(doing, because=_reason(here, status), hint=hint)
                fd, after = after, fd
            finally:
                os.close(after)
        check(os.fstat(fd), "it", doing, hint=hint)
    except BaseException:
        os.close(fd)
        raise
    return fd


def make_private(path: str) -> None:
    """Make the folder `path` and its missing parents, each 0700 whatever the umask. Raises OSError."""
    missing = []
    above = os.path.abspath(path)
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    for folder in missing[::-1]:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:  # another process made it just now
            continue
        os.chmod(folder, 0o700)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def _open(fd: int, word: str, *, make: bool, path: str) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(word, flags, dir_fd=fd)
    except OSError as error:
        if not make or error.errno != errno.ENOENT:
            raise OSError(error.errno, error.strerror, path) from None  # the whole path, not the component alone
    try:
        os.mkdir(word, 0o700, dir_fd=fd)
        os.chmod(word, 0o700, dir_fd=fd)  # the bits that the caller's umask removed
    except FileExistsError:
        pass  # another process was faster; its owner is checked as usual
    return os.open(word, flags, dir_fd=fd)


def _replaceable(status: os.stat_result) -> bool:
    """Whether others can rename files in such a folder; in a sticky one they can't (inode(7))."""
    if status.st_mode & _STICKY:
        return False
    # Group 0 is root's alone; our own is the private group that Debian gives each user.
    return bool(status.st_mode & _OTHERS or (status.st_mode & _GROUP and status.st_gid not in (0, os.getegid())))


def check(status: os.stat_result, what: str, doing: str, *, hint: str = "") -> None:
    """Raise NotOurs unless the file of this status belongs to root or us, and nobody else can write to it."""
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & (_GROUP | _OTHERS):
        raise NotOurs(doing, because=_reason(what, status), hint=hint)


def _reason(what: str, status: os.stat_result) -> str:
    stranger = status.st_uid not in (0, os.geteuid())
    said = f"{what} is somebody else's" if stranger else f"others can write into {what}"
    return f"{said} (owner {status.st_uid}, mode {status.st_mode & 0o7777:o})"
