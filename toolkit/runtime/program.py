"""Find the program to start, inside the container and with its user's rights, and say why it cannot be started.

The messages keep the words that engines match on (shared with runc and Go's os/exec): "executable file not found in
$PATH", "no such file or directory", "permission denied".
"""

import errno
import os
import stat as st

from toolkit.errors import LaunchFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str, environment: "Sequence[str]") -> str:
    """The path to execute for args[0], as execvp(3) would find it by the container's PATH. Raises LaunchFailed."""
    if "/" in name:
        problem = _problem(name)
        if problem:
            raise _refused(
                f'exec: "{name}": stat {name}' if problem == errno.ENOENT else f'exec: "{name}"', problem, name
            )
        return name
    path = ""
    for entry in environment:
        if entry.startswith("PATH="):
            path = entry[5:]
    denied = ""
    for folder in path.split(":") if path else ():
        candidate = f"{folder or '.'}/{name}"
        problem = _problem(candidate)
        if not problem:
            # Go refuses what is found only through a relative PATH entry, and so does runc; execvp(3) would run it.
            return candidate
        if problem == errno.EACCES:
            denied = candidate
    if denied:
        raise _refused(f'exec: "{name}"', errno.EACCES, denied)
    hint = f"PATH in process.env is {path!r}" if path else "process.env has no PATH: add one, or give the whole path"
    raise LaunchFailed(f'exec: "{name}": executable file not found in $PATH', hint=hint, code="E043")


def with_home(environment: "Sequence[str]", uid: int) -> "list[str]":
    """The environment with a HOME: the user's own from the container's /etc/passwd if it has none, or an empty one."""
    given = [entry for entry in environment if entry.startswith("HOME=")]
    if given and given[-1] != "HOME=":
        return list(environment)
    return [entry for entry in environment if not entry.startswith("HOME=")] + ["HOME=" + home(uid)]


def _problem(path: str) -> int:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno or errno.ENOENT
    if st.S_ISDIR(status.st_mode):
        return errno.EISDIR
    # With the effective ids, that is with capabilities too: CAP_DAC_OVERRIDE executes what any execute bit is set on.
    if not st.S_ISREG(status.st_mode) or not os.access(path, os.X_OK, effective_ids=True):
        return errno.EACCES
    return 0


def _refused(doing: str, problem: int, path: str) -> LaunchFailed:
    hint = ""
    if problem == errno.EACCES:
        hint = f"{path!r} is not executable for the container's user"
    elif problem == errno.ENOENT:
        hint = "is it in the rootfs? `ctk check` looks at it from outside"
    return LaunchFailed(doing, because=os.strerror(problem).lower(), hint=hint, code="E043")


def explain(path: str, number: int) -> str:
    """Why execve(2) of a file that is there failed, from its first bytes: "" if there is nothing to add."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.read(fd, 512)
        finally:
            os.close(fd)
    except OSError:
        return ""
    if head.startswith(b"#!"):
        interpreter = head[2:].split(b"\n", 1)[0].strip().split(b" ", 1)[0].decode("utf-8", "replace")
        if number == errno.ENOENT:
            return f"it is a script, and its interpreter {interpreter!r} is not there"
    elif head.startswith(b"\x7fELF"):
        if number == errno.ENOENT:
            return "its ELF interpreter (the dynamic loader) is not in the rootfs"
        if number == errno.ENOEXEC:
            return f"it is an ELF file for another machine (e_machine {int.from_bytes(head[18:20], 'little')})"
    elif number == errno.ENOEXEC:
        return "it is neither an ELF file nor a script with `#!` in its first line"
    return ""


def home(uid: int) -> str:
    """The home folder of `uid` by the container's /etc/passwd, "/" if it has none.

    The file is read as text, a regular file of at most 1 MiB: no NSS module of the image is loaded (CVE-2019-14271),
    and no FIFO or endless file holds us up.
    """
    try:
        fd = os.open("/etc/passwd", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return "/"
    try:
        if not st.S_ISREG(os.fstat(fd).st_mode):
            return "/"
        text = os.read(fd, 1 << 20)
    except OSError:
        return "/"
    finally:
        os.close(fd)
    wanted = str(uid).encode()
    for line in text.split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 5 and fields[2] == wanted:
            return os.fsdecode(fields[5]) or "/"
    return "/"
