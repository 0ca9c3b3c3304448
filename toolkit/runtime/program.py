"""Find the program to start, inside the container and with its user's rights, and explain why it cannot be started.

The messages keep the words that engines match on (shared with runc and Go's os/exec): "executable file not found in
$PATH", "no such file or directory", "permission denied".
"""

import errno
import os
import stat as st

from toolkit.errors import LaunchFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find(name: str, environment: "Sequence[str]") -> str:
    """The path to execute for args[0], found in the container's PATH as by execvp(3). Raises LaunchFailed."""
    if "/" in name:
        problem = _problem(name)
        if problem == errno.ENOENT and " " in name:
            raise LaunchFailed(
                f'exec: "{name}": stat {name}', because=os.strerror(problem).lower(), hint=_words(name), code="E043"
            )
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
            # Go, and so runc, refuses a program found only by a relative PATH entry; execvp(3) would run it.
            return candidate
        if problem == errno.EACCES:
            denied = candidate
    if denied:
        raise _refused(f'exec: "{name}"', errno.EACCES, denied)
    hint = f"PATH in process.env is {path!r}" if path else "process.env has no PATH: add one, or give the whole path"
    if " " in name:
        hint = _words(name)
    elif path and not any(_has_files(folder) for folder in path.split(":")):
        hint += ", and all of these folders are empty or missing: is this a root file system?"
    raise LaunchFailed(f'exec: "{name}": executable file not found in $PATH', hint=hint, code="E043")


def _words(name: str) -> str:
    words = ", ".join(f'"{word}"' for word in name.split())
    return f"args[0] is a whole command line, but no shell parses it: did you mean [{words}]?"


def _has_files(folder: str) -> bool:
    try:
        return bool(os.listdir(folder or "."))
    except OSError:
        return False


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
    # With the effective ids, so with capabilities too: CAP_DAC_OVERRIDE can execute a file with any execute bit set.
    if not st.S_ISREG(status.st_mode) or not os.access(path, os.X_OK, effective_ids=True):
        return errno.EACCES
    return 0


def _refused(doing: str, problem: int, path: str) -> LaunchFailed:
    hint = ""
    if problem == errno.EACCES:
        hint = f"{path!r} is not executable for the container's user"
    elif problem == errno.ENOENT:
        hint = "is it in the rootfs? `ctk check` checks it from outside"
    return LaunchFailed(doing, because=os.strerror(problem).lower(), hint=hint, code="E043")


def explain(head: bytes, there: "Callable[[str], bool]") -> str:
    """The reason why execve(2) of a program that begins with `head` fails, "" if none is found.

    `there`: whether a path exists in the root. (elf(5), "e_machine"; execve(2), "Interpreter scripts")
    """
    if head.startswith(b"#!"):
        line = head[2:].split(b"\n", 1)[0].strip(b" \t")
        interpreter = line.split(b" ", 1)[0].decode("utf-8", "replace")
        if interpreter.endswith("\r"):
            return "its first line ends with a carriage return (a Windows text file): sed -i 's/\\r$//' FILE"
        return "" if there(interpreter) else f"it is a script, and its interpreter {interpreter!r} does not exist"
    if head.startswith(b"\x7fELF"):
        machine = int.from_bytes(head[18:20], "little")
        ours = {"x86_64": (62, 3), "aarch64": (183, 40)}.get(os.uname().machine)
        if ours and machine not in ours:
            name = {3: "i386", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64"}.get(
                machine, f"e_machine {machine}"
            )
            return f"it is a program for another machine ({name})"
        at = head.find(b"/lib")
        loader = head[at : head.find(b"\0", at)].decode("utf-8", "replace") if at > 0 else ""
        return f"its dynamic loader {loader!r} is not in the rootfs" if loader and not there(loader) else ""
    if head.lstrip().startswith(b"#!"):
        return "its first line is blank: `#!` must be the first two bytes"
    return "it is neither an ELF file nor a script with `#!` in its first line"


def home(uid: int) -> str:
    """The home folder of `uid` by the container's /etc/passwd, "/" if it has none.

    It is read only if it is a regular file of at most 1 MiB: no NSS module of the image is loaded (CVE-2019-14271), and
    no FIFO or endless file can block us.
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
