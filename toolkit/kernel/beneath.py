"""Open paths inside a root, never through its symlinks to the outside (openat2(2), Linux 5.6).

A container's root is untrusted: the kernel resolves each path in it, with the root as `/`, in one call. Checking a path
first and opening it afterwards caused CVE-2019-19921, CVE-2021-30465 and CVE-2025-31133.
"""

import errno
import os

from toolkit.errors import SystemCall
from toolkit.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Cell, Exits, Program

RESOLVE_NO_XDEV = 1
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8
RESOLVE_IN_ROOT = 16

O_PATH = os.O_PATH
_SLOW_PATHS = 128  # openat2 fails with EAGAIN when a rename raced with the walk, and is then called again


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2); O_CLOEXEC is added. Raises SystemCall."""
    how = libc.buffer(b"".join(n.to_bytes(8, "little") for n in (flags | os.O_CLOEXEC, mode, resolve)))
    encoded = os.fsencode(path)
    for attempt in range(_SLOW_PATHS):
        try:
            return libc.syscall(libc.number("openat2"), dirfd, encoded, how, 24)
        except OSError as error:
            if error.errno == errno.EAGAIN and attempt < _SLOW_PATHS - 1:
                continue
            libc.failed(
                f"openat2({dirfd}, {libc.quoted(path)}, {{flags={oct(flags)}, mode={oct(mode)}, "
                f"resolve={hex(resolve)}}}, 24)",
                error,
            )
    raise AssertionError("unreachable")


def open_beneath(rootfd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open `path` with the directory `rootfd` as its `/`: symlinks and `..` stay inside. Raises SystemCall."""
    return openat2(rootfd, path.lstrip("/") or ".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def emit_open(
    p: "Program",
    rootfd: "int | Cell",
    path: "str | int",
    flags: int,
    result: "Cell",
    *,
    on: "Exits" = (),
    resolve: int = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
) -> None:
    """The same as `open_beneath` in a program; `result` gets the descriptor. `path` may be an address."""
    how = p.words(flags | os.O_CLOEXEC, 0, resolve)
    name = (path.lstrip("/") or ".") if isinstance(path, str) else path
    # EAGAIN: a rename raced with the walk.
    p.call("openat2", rootfd, name, how, 24, result=result, on=((errno.EAGAIN, p.again), *on))


_MAX_LINKS = 40  # the kernel's own limit (path_resolution(7))


def _through_link(folder_fd: int, folder: str, name: str, links: int) -> str:
    """The target of the dangling symlink `name` in `folder`, as a path inside the root. Raises OSError (ELOOP)."""
    if links >= _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), folder + "/" + name)
    target = os.readlink(name, dir_fd=folder_fd)
    return target if target.startswith("/") else f"{folder}/{target}"


def make_directories(rootfd: int, path: str, mode: int = 0o755, *, links: int = 0) -> int:
    """Open the directory `path` inside the root (O_PATH), making its missing parts. Raises SystemCall, OSError.

    The target of a dangling symlink is made too, inside the root. `links`: how many symlinks were followed so far.
    """
    try:
        return open_beneath(rootfd, path, O_PATH | os.O_DIRECTORY)
    except SystemCall as error:
        if error.errno != errno.ENOENT:
            raise
    words = [word for word in path.split("/") if word and word != "."]
    current = os.dup(rootfd)
    try:
        done = ""
        for index, word in enumerate(words):
            above = done
            done += "/" + word
            try:
                found = open_beneath(rootfd, done, O_PATH | os.O_DIRECTORY)
            except SystemCall as error:
                if error.errno != errno.ENOENT or word == "..":
                    raise
                try:
                    os.mkdir(word, mode, dir_fd=current)
                except FileExistsError:
                    try:
                        target = _through_link(current, above, word, links)
                    except OSError as problem:
                        if problem.errno != errno.EINVAL:  # EINVAL: not a symlink: another process made the directory
                            raise
                    else:
                        rest = "/".join([target, *words[index + 1 :]])
                        found = make_directories(rootfd, rest, mode, links=links + 1)
                        os.close(current)
                        return found
                found = open_beneath(rootfd, done, O_PATH | os.O_DIRECTORY)
            os.close(current)
            current = found
        return current
    except BaseException:
        os.close(current)
        raise


def make_file(rootfd: int, path: str, mode: int = 0o644, *, links: int = 0) -> int:
    """Open the file `path` inside the root (O_PATH), making an empty one and its folders if missing.

    Dangling symlinks are treated as in `make_directories`. Raises SystemCall, OSError.
    """
    path = path.rstrip("/")
    try:
        return open_beneath(rootfd, path, O_PATH)
    except SystemCall as error:
        if error.errno != errno.ENOENT:
            raise
    folder, _, name = path.rpartition("/")
    parent = make_directories(rootfd, folder)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)
        os.close(fd)
    except FileExistsError:
        try:
            target = _through_link(parent, folder, name, links)
        except OSError as problem:
            if problem.errno != errno.EINVAL:
                raise
        else:
            return make_file(rootfd, target, mode, links=links + 1)
    finally:
        os.close(parent)
    return open_beneath(rootfd, path, O_PATH)


def fd_path(fd: int) -> str:
    """The path by which mount(2) and the like reach the file that `fd` is open on, even if it was renamed."""
    return f"/proc/self/fd/{fd}"
