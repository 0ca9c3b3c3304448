"""Facts about a container on disk, in `ROOT/ID/`. No status is stored: lifecycle.py computes it.

| file        | contents                                                   | exists              |
|-------------|------------------------------------------------------------|---------------------|
| state.json  | the small facts below, replaced as a whole (write, rename) | from the first save |
| config.json | the text of the bundle's config.json as it was at create   | from create         |
| exec.fifo   | the fifo that a created container waits on                 | until start         |

A verb that changes a container holds `lock()`: flock(2) on the folder, which the kernel releases when the process ends.
A killed `create` leaves a folder without a complete state.json: `load` returns such a record as `torn`.
"""

import errno
import os
import time

from toolkit.errors import CtkError, InUse, Invalid, NotFound, reason
from toolkit.kernel import atomic, ours, reading
from toolkit.oci import json_text
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.oci.types import Spec

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_FORMAT = 1

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8


def check_id(container_id: str) -> None:
    """Raise Invalid unless the id is safe as a file name: letters, digits, `_+-.`, not a dot first, at most 255."""
    if not container_id:
        raise CtkError("container id cannot be empty")
    if container_id[0] == "." or len(container_id) > 255 or not _ID_CHARACTERS.issuperset(container_id):
        shown = container_id if len(container_id) < 80 else container_id[:77] + "..."
        raise CtkError(
            "invalid container ID format",
            because=f"too long, or an invalid character in the container ID: {shown!r}",
            hint="use up to 255 letters, digits, '_', '+', '-' and '.', not beginning with '.'",
        )


class Record:
    """The facts of one container. Fill them in, then `save()`."""

    def __init__(self, root: str, container_id: str) -> None:
        self.root = root
        self.id = container_id
        self.folder = f"{root}/{container_id}"
        self.torn = False  # no state.json: left by a `create` that got no further
        self.bundle = ""
        self.rootfs = ""
        self.pid = 0  # the host's pid of the container's init; 0: none yet
        self.start_time = 0  # field 22 of its /proc/PID/stat, in clock ticks
        self.root_place: list[int] = []  # mounts.place_of its root, when it was made; [] if unknown
        self.boot_id = ""
        self.created = ""
        self.owner_uid = 0
        self.rootless = False
        self.terminal = False
        self.oci_version = ""
        self.annotations: dict[str, str] = {}
        self.cgroups: dict[str, Any] = {}  # the cgroup manager's own data, opaque here
        self.extra: dict[str, Any] = {}  # other data that verbs need later
        self._lock_fd = -1
        self._read = (0, 0)  # inode and time of the state.json that was read

    @property
    def config_path(self) -> str:
        """The copy of config.json."""
        return self.folder + "/config.json"

    @property
    def fifo_path(self) -> str:
        """The fifo that a created container waits on."""
        return self.folder + "/exec.fifo"

    def config(self) -> "Spec":
        """The config.json that the container was made from. Raises NotFound, Invalid."""
        document: Spec = json_text.loads(self.config_text())
        return document

    def config_text(self) -> bytes:
        """The copy of config.json as bytes. Raises NotFound if `create` did not get far enough to write it."""
        try:
            return reading.read(self.config_path)
        except FileNotFoundError:
            raise NotFound(f'container "{self.id}" has no config.json', because="it was never fully created") from None
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            raise Invalid("", f"{self.config_path!r} is not a file of ours") from None

    def save_config(self, text: "str | bytes") -> None:
        """Write the text of config.json."""
        self._replace("config.json", text.encode() if isinstance(text, str) else text)

    def make_fifo(self) -> None:
        """Make the fifo that `start` writes to. Raises CtkError."""
        try:
            os.mkfifo(self.fifo_path, 0o600)
        except OSError as error:
            raise cannot_keep(self.root, error) from None

    def save(self) -> None:
        """Write the facts, all or nothing. Raises CtkError, for example if the disk is full."""
        facts = {
            "format": _FORMAT,
            "id": self.id,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "pid": self.pid,
            "start_time": self.start_time,
            "root_place": self.root_place,
            "boot_id": self.boot_id,
            "created": self.created,
            "owner_uid": self.owner_uid,
            "rootless": self.rootless,
            "terminal": self.terminal,
            "oci_version": self.oci_version,
            "annotations": self.annotations,
            "cgroups": self.cgroups,
            "extra": self.extra,
        }
        self._replace("state.json", json_text.dumps(facts).encode())
        self.torn = False

    def _replace(self, name: str, data: bytes) -> None:
        try:
            atomic.replace(f"{self.folder}/{name}", data)
        except OSError as error:
            raise cannot_keep(self.root, error) from None

    def lock(self, *, wait: bool = True) -> bool:
        """Take the container's lock until `unlock` or the end of the process; False if held and not `wait`.

        Raises NotFound if the container was deleted meanwhile.
        """
        if self._lock_fd >= 0:
            return True
        import fcntl

        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise missing(self.id) from None
        try:
            fcntl.flock(fd, LOCK_EX if wait else LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        # The previous holder may have been `delete`, and another `create` may have made the folder again.
        ours = os.fstat(fd)
        try:
            there = os.lstat(self.folder)
            same = ours.st_ino == there.st_ino and ours.st_dev == there.st_dev
        except FileNotFoundError:
            same = False
        if not same:
            os.close(fd)
            raise missing(self.id)
        self._lock_fd = fd
        return True

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def locked_by_other(self) -> bool:
        """Whether another process holds the lock at the moment."""
        if self._lock_fd >= 0:
            return False
        import fcntl

        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def is_stale(self) -> bool:
        """Whether state.json, or the whole record, is another than the one that was read."""
        try:
            about = os.lstat(f"{self.folder}/state.json")
        except OSError:
            return self._read != (0, 0) or not os.path.lexists(self.folder)
        return self._read != (about.st_ino, about.st_mtime_ns)

    def reload(self) -> None:
        """Read the facts again, for example after `lock()`."""
        _read_facts(self)

    def remove(self) -> None:
        """Delete the folder and its contents, state.json last: killed half-way, it is still listed. Raises OSError."""
        _remove_folder(self.folder)


def _remove_folder(folder: str) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        names = os.listdir(fd)
        names.sort(key=lambda name: name == "state.json")
        for name in names:
            try:
                os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                pass
            except (IsADirectoryError, PermissionError):  # EISDIR on Linux, EPERM by POSIX
                _remove_inner(fd, name)
    finally:
        os.close(fd)
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        pass


def _remove_inner(fd: int, name: str) -> None:
    """Remove a folder in a record's folder; the container may have been able to write to it (notify.py)."""
    try:
        # rmdir(2) fails with EBUSY for a mount point, empty or not: what is mounted there must not be deleted.
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        from toolkit.kernel import rmtree_beneath

        rmtree_beneath.remove(fd, name)


def missing(container_id: str) -> NotFound:
    """The error for an id that does not exist, in the words that engines look for."""
    hint = kept_bundle(container_id) or "see `ctk list`"
    return NotFound("container does not exist", because=f'"{container_id}"', hint=hint)


def kept_bundle(container_id: str) -> str:
    """A hint about the kept files of a container that has ended, if `ctk up` made it, else ""."""
    from toolkit import places

    bundle = places.bundle_dir(container_id)
    if not container_id or not os.path.exists(os.path.join(bundle, "config.json")):
        return ""
    return f"its files are kept: ctk run --bundle {quote(bundle)} {quote(container_id)} (or `ctk up`, as before)"


def cannot_keep(root: str, error: OSError) -> CtkError:
    """The error for a record that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return CtkError(
        f"keep container records in {root!r}",
        because=reason(error),
        hint="make room there, or name another folder with --root" if full else "",
    )


def reserve(root: str, container_id: str) -> Record:
    """Reserve an id: make `ROOT/ID` and lock it. Raises InUse if it exists, CtkError for a bad id or an unsafe root."""
    import fcntl  # noqa: F401  `lock` needs it: between mkdir and flock the record looks like a killed create's

    check_id(container_id)
    record = Record(root, container_id)
    try:
        fd = open_root(root, make=True)
        try:
            os.mkdir(container_id, 0o711, dir_fd=fd)
        finally:
            os.close(fd)
    except FileExistsError:
        raise InUse(
            "container with given ID already exists",
            because=f'"{container_id}"',
            hint=f"choose another id, or remove it: ctk delete --force {quote(container_id)} "
            "(`ctk run --replace` does both)",
        ) from None
    except OSError as error:
        raise cannot_keep(root, error) from None
    record.torn = True
    record.lock()
    record.boot_id = boot_id()
    record.owner_uid = os.geteuid()
    record.created = now()
    return record


_HINT = "name a folder of your own with --root"


def open_root(root: str, *, make: bool = False) -> int:
    """Open the folder of all records (O_PATH): it is ours or root's, and nobody else can write to it or replace it.

    With `make` it is made, 0700. Raises NotOurs, OSError.
    """
    doing = f"keep container records in {root!r}" if make else f"trust the container records in {root!r}"
    _check_shared(root, doing)
    return ours.open_folder(root, doing, make=make, hint=_HINT)


def _check_shared(root: str, doing: str) -> None:
    """Anybody can take the name /tmp/ctk-UID first: it is accepted only as a folder that is ours alone."""
    shared = f"/tmp/ctk-{os.geteuid()}"
    if not root.startswith(shared + "/"):
        return
    try:
        status = os.lstat(shared)
    except FileNotFoundError:
        return
    if status.st_mode & 0o170077 != 0o040000 or status.st_uid != os.geteuid():
        raise ours.NotOurs(
            doing,
            because=f"{shared!r} is not yours alone (owner {status.st_uid}, mode {status.st_mode & 0o7777:o})",
            hint=f"set XDG_RUNTIME_DIR, or {_HINT}; if it is yours: chmod 700 {quote(shared)}",
        )


def load(root: str, container_id: str, *, root_fd: int = -1) -> Record:
    """The record of an id. Raises NotFound; returns a `torn` record for a folder without a complete state.json.

    `root_fd`: the result of `open_root`, for a caller that reads many.
    """
    check_id(container_id)
    record = Record(root, container_id)
    _read_facts(record, root_fd)
    return record


# The errors of `reading.read` for something that is not a file of ours.
_NO_FILE = (errno.EISDIR, errno.EINVAL, errno.EFBIG, errno.ELOOP)


def _read_facts(record: Record, root_fd: int = -1) -> None:
    try:
        root = root_fd if root_fd >= 0 else open_root(record.root)
        try:
            fd = os.open(record.id, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
        finally:
            if root_fd < 0:
                os.close(root)
    except (FileNotFoundError, NotADirectoryError):
        raise missing(record.id) from None
    try:
        folder = os.fstat(fd)
        if folder.st_mode & 0o170000 != 0o040000:  # a link to a folder doesn't count: `list` does not show it
            raise missing(record.id)
        ours.check(folder, "its record", f"trust the record of {record.id!r}", hint=_STRANGER)
        _take_facts(record, folder, fd)
    finally:
        os.close(fd)


def _state(record: Record, folder_fd: int) -> bytes:
    fd = reading.open_file("state.json", dir_fd=folder_fd, follow=False)
    try:
        about = os.fstat(fd)
        record._read = about.st_ino, about.st_mtime_ns
        ours.check(about, "its record", f"trust the record of {record.id!r}", hint=_STRANGER)
        return reading.whole(fd, "state.json")
    finally:
        os.close(fd)


_STRANGER = "another user made it: look at it before you remove it by hand"


def _take_facts(record: Record, folder: os.stat_result, fd: int) -> None:
    facts = None
    try:
        facts = json_text.loads(_state(record, fd), "state.json", any_path=True)
    except (FileNotFoundError, NotADirectoryError, Invalid):
        pass
    except OSError as error:
        # Only permanent errors: for lack of memory or descriptors a live container must not be taken for a torn one.
        if error.errno not in _NO_FILE:
            raise
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT or facts.get("id") != record.id:
        record.torn = True
        record.created = _stamp(int(folder.st_ctime_ns))
        record.owner_uid = folder.st_uid
        return
    record.torn = False
    values = record.__dict__
    for name in (
        "bundle", "rootfs", "pid", "start_time", "root_place", "boot_id", "created", "owner_uid", "rootless",
        "terminal", "oci_version", "annotations", "cgroups", "extra",
    ):  # fmt: skip
        if name in facts and type(facts[name]) is type(values[name]):
            values[name] = facts[name]


def ids(root: str) -> "list[str]":
    """The ids below a root, sorted. Raises OSError if the root cannot be read, NotOurs if others can write there."""
    os.close(open_root(root))
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            name = entry.name
            if name[0] != "." and _ID_CHARACTERS.issuperset(name) and entry.is_dir(follow_symlinks=False):
                found.append(name)
    found.sort()
    return found


def boot_id() -> str:
    """The kernel's id of this boot; a pid of another boot is meaningless. "" if /proc does not show it."""
    try:
        return reading.read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
    except FileNotFoundError:  # systemd's ProcSubset=pid; then a pid and its start time must suffice
        return ""


def now() -> str:
    """The current time as Go's RFC3339Nano in UTC: without trailing zeros of the fraction."""
    return _stamp(time.time_ns())


def _stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
