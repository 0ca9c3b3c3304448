"""mount(2), umount2(2), pivot_root(2) and the file-descriptor mount calls of Linux 5.2 to 5.12."""

import os

from toolkit.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_POSIXACL = 1 << 16
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_FLAG_NAMES = {
    name: value for name, value in list(globals().items()) if name.startswith("MS_") and isinstance(value, int)
}

_MOUNT = libc.number("mount")
_UMOUNT2 = libc.number("umount2")


def flag_names(flags: int) -> str:
    """Mount flags as strace prints them."""
    return libc.flag_names(flags, _FLAG_NAMES)


def _path(text: "str | None") -> "bytes | None":
    return None if text is None else os.fsencode(text)


def mount(source: "str | None", target: str, fstype: "str | None", flags: int, data: str = "") -> None:
    """mount(2). Raises SystemCall."""
    try:
        libc.syscall(_MOUNT, _path(source), _path(target), _path(fstype), flags, _path(data or None))
    except OSError as error:
        libc.failed(
            f"mount({libc.quoted(source)}, {libc.quoted(target)}, {libc.quoted(fstype)}, {flag_names(flags)}, "
            f"{libc.quoted(data or None)})",
            error,
        )


def umount2(target: str, flags: int = 0) -> None:
    """umount2(2). Raises SystemCall."""
    try:
        libc.syscall(_UMOUNT2, _path(target), flags)
    except OSError as error:
        libc.failed(f"umount2({libc.quoted(target)}, {hex(flags)})", error)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). Raises SystemCall."""
    try:
        libc.syscall(libc.number("pivot_root"), _path(new_root), _path(put_old))
    except OSError as error:
        libc.failed(f"pivot_root({libc.quoted(new_root)}, {libc.quoted(put_old)})", error)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2), Linux 5.2: an fd of a mount; a detached copy of it with OPEN_TREE_CLONE. Raises SystemCall."""
    try:
        return libc.syscall(libc.number("open_tree"), dirfd, _path(path), flags)
    except OSError as error:
        libc.failed(f"open_tree({dirfd}, {libc.quoted(path)}, {hex(flags)})", error)


def move_mount(from_dirfd: int, from_path: str, to_dirfd: int, to_path: str, flags: int) -> None:
    """move_mount(2), Linux 5.2. Raises SystemCall."""
    try:
        libc.syscall(libc.number("move_mount"), from_dirfd, _path(from_path), to_dirfd, _path(to_path), flags)
    except OSError as error:
        libc.failed(
            f"move_mount({from_dirfd}, {libc.quoted(from_path)}, {to_dirfd}, {libc.quoted(to_path)}, {hex(flags)})",
            error,
        )


def mount_setattr(
    dirfd: int,
    path: str,
    flags: int,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2), Linux 5.12: set and clear attributes of a mount, of all below it with AT_RECURSIVE.

    Raises SystemCall.
    """
    attr = libc.buffer(b"".join(n.to_bytes(8, "little") for n in (attr_set, attr_clr, propagation, userns_fd)))
    try:
        libc.syscall(libc.number("mount_setattr"), dirfd, _path(path), flags, attr, 32)
    except OSError as error:
        libc.failed(
            f"mount_setattr({dirfd}, {libc.quoted(path)}, {hex(flags)}, {{attr_set={hex(attr_set)}, "
            f"attr_clr={hex(attr_clr)}, propagation={hex(propagation)}, userns_fd={userns_fd}}}, 32)",
            error,
        )


def fsopen(fstype: str, flags: int = FSOPEN_CLOEXEC) -> int:
    """fsopen(2), Linux 5.2. Raises SystemCall."""
    try:
        return libc.syscall(libc.number("fsopen"), _path(fstype), flags)
    except OSError as error:
        libc.failed(f"fsopen({libc.quoted(fstype)}, {hex(flags)})", error)


def fsconfig(fs_fd: int, command: int, key: "str | None", value: "str | None", aux: int = 0) -> None:
    """fsconfig(2), Linux 5.2. Raises SystemCall."""
    try:
        libc.syscall(libc.number("fsconfig"), fs_fd, command, _path(key), _path(value), aux)
    except OSError as error:
        libc.failed(f"fsconfig({fs_fd}, {command}, {libc.quoted(key)}, {libc.quoted(value)}, {aux})", error)


def fsmount(fs_fd: int, flags: int = FSMOUNT_CLOEXEC, attributes: int = 0) -> int:
    """fsmount(2), Linux 5.2: a detached mount of a configured file system. Raises SystemCall."""
    try:
        return libc.syscall(libc.number("fsmount"), fs_fd, flags, attributes)
    except OSError as error:
        libc.failed(f"fsmount({fs_fd}, {hex(flags)}, {hex(attributes)})", error)


PROC_SUPER_MAGIC = 0x9FA0
STATX_MNT_ID = 0x5000  # STATX_MNT_ID, and STATX_MNT_ID_UNIQUE (Linux 6.8), which is never reused
SYSFS_MAGIC = 0x62656572
CGROUP2_SUPER_MAGIC = 0x63677270


def fstatfs_type(fd: int) -> int:
    """The magic number of the file system that `fd` is on (fstatfs(2), f_type). Raises SystemCall."""
    result = libc.buffer(128)
    try:
        libc.syscall(libc.number("fstatfs"), fd, result)
    except OSError as error:
        libc.failed(f"fstatfs({fd}, …)", error)
    return int.from_bytes(bytes(result)[:8], "little")


def place_of(fd: int) -> "tuple[int, int, int]":
    """(mount id, device, inode) of the file that `fd` is open on: equal for the same file of the same mount.

    The mount id is 0 where the kernel does not report it: before Linux 5.8, or without statx(2). Raises OSError.
    """
    result = libc.buffer(256)
    try:
        libc.syscall(libc.number("statx"), fd, b"", AT_EMPTY_PATH, STATX_MNT_ID, result)
    except OSError:
        pass  # for example under a seccomp filter that is older than the call
    answer = bytes(result)
    known = int.from_bytes(answer[:4], "little") & STATX_MNT_ID
    status = os.fstat(fd)
    return int.from_bytes(answer[144:152], "little") if known else 0, status.st_dev, status.st_ino


def new_filesystem(fstype: str, options: "Mapping[str, str]", attributes: int = 0) -> int:
    """A detached mount of a new `fstype` (fsopen, fsconfig, fsmount), which only we can reach. Raises SystemCall."""
    fs = fsopen(fstype)
    try:
        for key, value in options.items():
            fsconfig(fs, FSCONFIG_SET_STRING, key, value)
        fsconfig(fs, FSCONFIG_CMD_CREATE, None, None)
        return fsmount(fs, FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(fs)
