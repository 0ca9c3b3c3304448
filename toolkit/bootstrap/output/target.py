"""The target folder of a bootstrap: who owns it, whether it is complete, and how it is removed.

While a tree is being made it has the file MARKER, locked (flock) by the process that makes it; the last step removes
the marker. So however we are killed, a half-made tree is recognised by its marker, and one in progress by the lock. The
result of a finished tree is beside it in `.NAME.ctk.json`, not in it: a tree of ours has the same contents as
debootstrap's. The result file is valid only for the directory that it was written for (its inode). If it is valid, a
marker is ignored: programs in a finished tree may make one. The result file is removed, under the lock, before the
first file of a tree is.
"""

import errno
import fcntl
import json
import os
import stat
import time
from dataclasses import asdict, fields
from typing import Any

from toolkit.bootstrap import beside
from toolkit.bootstrap.facts.model import Lock, Request, Result
from toolkit.bootstrap.output import builds_in_progress, manifest
from toolkit.bootstrap.resolve import lockfile
from toolkit.errors import CtkError, HostLacks, InUse, reason
from toolkit.kernel import mountinfo, reading, rmtree_beneath
from toolkit.text import quote

MARKER = ".ctk-bootstrap"
# Names that do not count: what mke2fs makes in every new file system.
_NOTHING = frozenset({"lost+found"})
_RESULT_BYTES = 256 << 20  # it has a line for each file of the tree, maybe a million


class Target:
    """A folder to fill. `open` takes it, `close` marks it as complete, `remove` undoes all of it."""

    def __init__(self, request: Request) -> None:
        self.path = os.path.abspath(request.target)
        self._restart = request.restart
        self._suite = request.suite
        self._made: list[str] = []  # the directories that did not exist before, outermost first
        self._marker = -1
        self._taken = False  # whether we may fill and empty the folder
        self.fd = -1

    def open(self) -> int:
        """Make the folder, or take it over if that is allowed. Returns its descriptor.

        Raises InUse for a folder that is not empty, HostLacks if its file system can't hold a root. After an error
        `remove` undoes what had been done.
        """
        doing = f"make a root file system in {self.path!r}"
        if os.path.realpath(self.path) == "/":
            raise InUse(doing, because="it is this system's own root", hint="name a folder of its own")
        try:
            self._make_folders()
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CtkError(doing, because=reason(error)) from None
        _check_file_system(self.path, doing)
        self._take(doing)
        return self.fd

    def close(self, result: Result, lock: Lock) -> str:
        """Write the result file, then remove the marker: the tree is complete. Returns the path of the result file.

        The order matters: a tree with neither would not be recognised as ours, while one with both is complete. Raises
        CtkError. The mtime of the folder is preserved: the stage tidy may have set it.
        """
        path = write_result(self.path, result, lock)
        before = os.fstat(self.fd)
        os.unlink(MARKER, dir_fd=self.fd)
        os.utime(self.fd, ns=(before.st_atime_ns, before.st_mtime_ns))
        self._taken = False
        self._release()
        builds_in_progress.forget(self.path)
        return path

    def remove(self) -> None:
        """Remove all that was made, with the folders that `open` made; nothing if `open` did not take the folder.

        Raises CtkError if something is mounted in the tree; all of it stays then.
        """
        try:
            if self._taken:
                empty(self.path, self.fd)
                forget(self.path)
                builds_in_progress.forget(self.path)
        finally:
            self._taken = False
            self._release()
        self._unmake_folders()

    def leave(self) -> None:
        """Release a half-made tree without removing it. Its marker stays."""
        self._release()

    def _release(self) -> None:
        for fd in (self._marker, self.fd):
            if fd >= 0:
                os.close(fd)
        self._marker = self.fd = -1

    def _make_folders(self) -> None:
        missing = []
        at = self.path
        while not os.path.lexists(at):
            missing.append(at)
            at = os.path.dirname(at)
        for folder in reversed(missing):
            # Noted before it is made: an interruption may come between any two lines.
            self._made.append(folder)
            os.mkdir(folder, 0o755)

    def _unmake_folders(self) -> None:
        while self._made:
            try:
                os.rmdir(self._made.pop())
            except OSError:  # somebody else uses it by now, or it was never made
                pass

    def _take(self, doing: str) -> None:
        names = set(os.listdir(self.fd)) - _NOTHING
        whole = bool(names) and read_result(self.path, self.fd) is not None
        marked = is_marked(self.fd)
        if names and (whole or not marked):
            if not whole:
                raise InUse(doing, because="the folder is not empty", hint="name another folder, or remove this one")
            if not self._restart:
                raise InUse(
                    doing,
                    because="a complete root file system is there already",
                    hint="use it, name another folder, or replace it with --force",
                )
        self._marker = open_marker(self.fd, doing)
        self._lock(doing)
        if marked and not self._restart:
            raise InUse(
                doing,
                because="an earlier bootstrap left it half made",
                hint=f"--force removes it and starts again; or remove it yourself: rm -r {quote(self.path)}",
            )
        self._taken = True
        facts = {"suite": self._suite, "pid": os.getpid(), "began": int(time.time()), "whole": False}
        os.ftruncate(self._marker, 0)
        os.pwrite(self._marker, json.dumps(facts).encode() + b"\n", 0)
        builds_in_progress.note(self.path)
        # Only now that the marker is there: an old tree that is half removed must not pass for a complete one.
        forget(self.path)
        empty(self.path, self.fd, but=MARKER)

    def _lock(self, doing: str) -> None:
        try:
            fcntl.flock(self._marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise InUse(
                doing, because="another ctk is making one there now", hint="wait for it, or name another folder"
            ) from None


def open_marker(fd: int, doing: str) -> int:
    """Open the marker of the tree `fd`, to be locked; make it if it is missing. Raises CtkError, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        marker = os.open(MARKER, flags, 0o600, dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ELOOP, errno.ENXIO):
            raise
    else:
        if stat.S_ISREG(os.fstat(marker).st_mode):
            return marker
        os.close(marker)
    raise CtkError(doing, because=f"{MARKER!r} in it is not a file of ours", hint="look at it, and remove it")


def is_marked(folder: "int | str") -> bool:
    """Whether the folder has a valid marker: one that belongs to root, to us, or to the owner of the folder.

    In a folder that everybody may write to (/tmp) anybody could make one, and lead us there by a link.
    """
    try:
        owner = os.stat(folder).st_uid
        if isinstance(folder, int):
            marker = os.stat(MARKER, dir_fd=folder, follow_symlinks=False)
        else:
            marker = os.lstat(os.path.join(folder, MARKER))
    except OSError:
        return False
    return marker.st_uid in (0, os.geteuid(), owner)


def half_made(path: str) -> bool:
    """Whether a bootstrap started the tree at `path` and did not finish: it has the marker, and no result."""
    return is_marked(path) and read_result(path) is None


def _check_file_system(path: str, doing: str) -> None:
    flags = os.statvfs(path).f_flag
    for flag, name, why in (
        (os.ST_RDONLY, "read-only", "nothing can be written"),
        (os.ST_NOEXEC, "noexec", "the packages' own programs could not run"),
        (os.ST_NODEV, "nodev", "/dev/null would not work"),
    ):
        if flags & flag:
            option = "rw" if name == "read-only" else name[2:]
            raise HostLacks(
                doing,
                because=f"its file system is mounted {name}: {why}",
                hint=f"name a folder elsewhere, or: mount -o remount,{quote(option)} …",
            )


def check_space(path: str, needed_bytes: int) -> None:
    """Raise CtkError if the file system of `path` clearly has too little space for `needed_bytes`."""
    about = os.statvfs(path)
    free = about.f_bavail * about.f_frsize
    if free < needed_bytes:
        raise CtkError(
            f"make a root file system in {path!r}",
            because=f"it needs about {needed_bytes >> 20} MiB, the disk has {free >> 20} MiB left",
            hint="free some space, or name a folder elsewhere",
        )


def empty(path: str, fd: int, *, but: str = "") -> None:
    """Remove all that is in the directory `fd`, at `path`, except an entry called `but`.

    Raises CtkError if something is mounted below: removing through a bind mount would delete somebody else's files, and
    neither device numbers nor rmtree's own checks show one.
    """
    check_unmounted(path)
    # The marker goes last, so that a tree is still recognised as half made if we are killed on the way.
    rmtree_beneath.empty(fd, but=_NOTHING | {but}, last=MARKER)


def check_unmounted(path: str) -> None:
    """Raise CtkError if something is mounted below `path`."""
    mounted = _mounts_below(path)
    if mounted:
        raise CtkError(
            f"remove the tree {path!r}",
            because=f"something is mounted on {mounted[0]!r}",
            hint=f"umount {quote(mounted[0])}",
        )


def _mounts_below(path: str) -> list[str]:
    below = os.path.realpath(path) + "/"
    return [mount[3] for mount in mountinfo.mounts(mountinfo.read()) if mount[3].startswith(below)]


def result_path(target: str) -> str:
    """The path of the result file of the tree at `target`: a hidden file beside it."""
    return beside.path(target, ".ctk.json")


def write_result(target: str, result: Result, lock: Lock) -> str:
    """Write the result file atomically: what was made, and from which packages. Returns its path."""
    info = os.stat(target)
    document: dict[str, Any] = {
        "version": 1,
        "directory": [info.st_dev, info.st_ino],
        "result": asdict(result),
        "lock": lockfile.document(lock),
        "tree": manifest.take(target, without=MARKER),
    }
    path = result_path(target)
    try:
        beside.write(path, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise CtkError(f"write {path!r}", because=reason(error)) from None
    return path


def read_result(target: str, fd: int = -1) -> Result | None:
    """The result of a complete tree of ours at `target`; None if there is none, or if it is of another directory.

    `fd` is the opened tree, to be checked in place of what is at the path by now.
    """
    document = read_document(target, fd)
    try:
        known = {field.name for field in fields(Result)}
        return Result(**{key: value for key, value in document["result"].items() if key in known})
    except (KeyError, TypeError, AttributeError):
        return None


def read_document(target: str, fd: int = -1) -> dict[str, Any]:
    """The document of `write_result` about the complete tree at `target`, or `fd`; {} if there is none."""
    try:
        info = os.stat(target) if fd < 0 else os.fstat(fd)
        # Others may write to the parent folder, so only a file of the tree's owner, of ours or of root's is believed.
        text = reading.read(result_path(target), limit_bytes=_RESULT_BYTES, owners=(0, os.geteuid(), info.st_uid))
        document: dict[str, Any] = json.loads(text)
        return document if document["directory"] == [info.st_dev, info.st_ino] else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def forget(target: str) -> None:
    """Remove the result file of `target`, if there is one."""
    try:
        os.unlink(result_path(target))
    except OSError:
        pass
