"""Copy a directory of the root into the tmpfs that will cover it (mount option tmpcopyup)."""

import errno
import os
import stat as st


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
