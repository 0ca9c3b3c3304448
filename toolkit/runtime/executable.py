"""Find the program to start, inside the container and with its user's rights, and explain why it cannot be started.

The messages keep the words that engines match on (shared with runc and Go's os/exec): "executable file not found in
$PATH", "no such file or directory", "permission denied".
"""

import errno
import os

from toolkit.errors import LaunchFailed
from toolkit.kernel.program import structures
from toolkit.kernel.program.program import MEMORY, Cell, Label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from toolkit.errors import SystemCall
    from toolkit.kernel.program.program import Exits, Program

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
_AT_EACCESS = 0x200
_S_IFMT, _S_IFREG, _S_IFDIR = 0o170000, 0o100000, 0o040000

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Found:
    """Where a program keeps the path that was found: the address of its text, and its length."""

    __slots__ = ("length", "path")

    def __init__(self, p: "Program") -> None:
        self.path = p.cell()
        self.length = p.cell()

    def put(self, p: "Program", path: str) -> None:
        """It is `path`."""
        address = p.text(path)
        p.own("set", address, result=self.path)
        p.own("set", len(os.fsencode(path)), result=self.length)


def search(p: "Program", name: str, environment: "Sequence[str]", there: "Callable[[str], bool]") -> Found:
    """Emit the search for args[0], in the container's PATH as by execvp(3), with the rights of the process by then.

    `there`: whether a folder of the root has files, for the hint of an error.
    """
    found = Found(p)
    if "/" in name:
        p.owned_by(lambda error: _unusable(name, error))
        found.put(p, name)
        _examine(p, name, None, None)
        return found
    path = ""
    for entry in environment:
        if entry.startswith("PATH="):
            path = entry[5:]
    # Go, and so runc, refuses a program found only by a relative PATH entry; execvp(3) would run it.
    candidates = [f"{folder or '.'}/{name}" for folder in path.split(":")] if path else []
    denied = p.cell()  # the number of the last one that may not be executed, and one more
    done = Label()
    for index, candidate in enumerate(candidates):
        following, refused = Label(), Label()
        found.put(p, candidate)
        _examine(p, candidate, following, refused)
        p.go(done)
        p.place(refused)
        p.own("set", _DENIED + index, result=denied)
        p.place(following)
    p.owned_by(lambda error: _not_found(name, path, candidates, error.errno, there))
    p.own("fail", denied)
    p.place(done)
    p.owned_by(None)
    return found


_DENIED = 8192


def _examine(p: "Program", path: str, missing: "Label | None", refused: "Label | None") -> None:
    """Go on at `missing` unless there is a file, at `refused` if it can't be executed; without them fail."""
    status = p.room(structures.STAT_SIZE)
    mode_at, _, _ = structures.stat(p.machine)
    kind = p.cell()
    exits: "Exits" = ()
    if missing is not None and refused is not None:
        exits = ((errno.EACCES, refused), (0, missing))
    p.call("newfstatat", AT_FDCWD, path, status, 0, on=exits)
    p.own("and", Cell(status - MEMORY + mode_at, 4), _S_IFMT, result=kind)
    regular, denied, fine = Label(), Label(), Label()
    p.when("if_equal", kind, _S_IFREG, regular)
    if missing is not None:
        p.when("if_equal", kind, _S_IFDIR, missing)
    else:
        p.when("if_equal", kind, _S_IFDIR, folder := Label())
    p.go(denied)
    if missing is None:
        p.place(folder)
        p.fail(errno.EISDIR)
    p.place(regular)
    # With the effective ids, so with capabilities too: CAP_DAC_OVERRIDE can execute a file with any execute bit set. An
    # outer seccomp filter may not know the call: then execve(2) will say.
    p.call("faccessat2", AT_FDCWD, path, os.X_OK, _AT_EACCESS, on=((errno.ENOSYS, fine), (0, denied)))
    p.go(fine)
    p.place(denied)
    if refused is not None:
        p.go(refused)
    else:
        p.fail(errno.EACCES)
    p.place(fine)


def _unusable(name: str, error: "SystemCall") -> LaunchFailed:
    problem = error.errno
    if problem == errno.ENOENT and " " in name:
        because = os.strerror(problem).lower()
        return LaunchFailed(f'exec: "{name}": stat {name}', because=because, hint=_words(name), code="E043")
    return _refused(f'exec: "{name}": stat {name}' if problem == errno.ENOENT else f'exec: "{name}"', problem, name)


def _not_found(
    name: str, path: str, candidates: "Sequence[str]", number: int, there: "Callable[[str], bool]"
) -> LaunchFailed:
    if number >= _DENIED:
        return _refused(f'exec: "{name}"', errno.EACCES, candidates[number - _DENIED])
    hint = f"PATH in process.env is {path!r}" if path else "process.env has no PATH: add one, or give the whole path"
    if " " in name:
        hint = _words(name)
    elif path and not any(there(folder or ".") for folder in path.split(":")):
        hint += ", and all of these folders are empty or missing: is this a root file system?"
    return LaunchFailed(f'exec: "{name}": executable file not found in $PATH', hint=hint, code="E043")


def _words(name: str) -> str:
    words = ", ".join(f'"{word}"' for word in name.split())
    return f"args[0] is a whole command line, but no shell parses it: did you mean [{words}]?"


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


_PASSWD_LIMIT = 1 << 20


def needs_home(environment: "Sequence[str]") -> bool:
    """Whether the environment has no HOME, or an empty one: then the process gets its user's own."""
    given = [entry for entry in environment if entry.startswith("HOME=")]
    return not given or given[-1] == "HOME="


def find_home(p: "Program", uid: int) -> "Cell":
    """Emit the search for the home folder of `uid` in the container's /etc/passwd; "/" if it has none.

    The cell gets the address of "HOME=…". The file is read only if it is a regular file, and at most 1 MiB of it: no
    NSS module of the image is loaded (CVE-2019-14271), and no FIFO or endless file can block us.
    """
    entry, fd, size, end = p.cell(), p.cell(), p.cell(), p.cell()
    mode_at, _, _ = structures.stat(p.machine)
    status = p.room(structures.STAT_SIZE)
    kind = p.cell()
    needle = f"{uid}:"
    room = p.room(_PASSWD_LIMIT + 64)  # zeros behind the text: a comparison may look further than it goes
    done, close, line, following = Label(), Label(), Label(), Label()
    colon, newline = ord(":"), ord("\n")
    p.own("set", p.text("HOME=/"), result=entry)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    p.call("openat", AT_FDCWD, "/etc/passwd", flags, 0, result=fd, on=((0, done),))
    p.call("newfstatat", fd, "", status, AT_EMPTY_PATH, on=((0, close),))
    p.own("and", Cell(status - MEMORY + mode_at, 4), _S_IFMT, result=kind)
    p.own("set", 0, result=size)
    p.when("if_equal", kind, _S_IFREG, regular := Label())
    p.place(close)
    p.call("close", fd)
    p.go(done)
    p.place(regular)
    p.call("read", fd, room, _PASSWD_LIMIT, result=size, on=((0, close),))
    p.call("close", fd)
    p.own("add", room, size, result=end)
    start, at, same = p.cell(), p.cell(), p.cell()

    def field(after: "Cell | int") -> None:
        """`at` becomes the end of the field that begins at `after`, which a colon must end; else the next line."""
        p.own("find", after, end, colon, newline, result=at)
        p.own("same", at, p.text(":"), 1, result=same)
        p.when("if_equal", same, 0, following)

    def next_one() -> None:
        p.own("add", at, 1, result=at)

    p.own("set", room, result=start)
    p.place(line)
    p.when("if_less", start, end, more := Label())
    p.go(done)
    p.place(more)
    field(start)  # name
    next_one()
    field(at)  # password
    next_one()
    p.own("same", at, p.text(needle), len(needle), result=same)
    p.when("if_equal", same, 0, following)
    for _ in range(3):  # uid, gid, comment
        field(at)
        next_one()
    home, last = p.cell(), p.cell()
    p.own("find", at, end, colon, newline, result=last)
    p.when("if_equal", at, last, done)  # an empty one
    p.own("subtract", at, 5, result=home)
    p.own("copy", home, p.text("HOME="), 5)
    p.own("copy", last, p.text("\0"), 1)
    p.own("set", home, result=entry)
    p.go(done)
    p.place(following)
    p.own("find", start, end, newline, newline, result=at)
    p.own("add", at, 1, result=start)
    p.go(line)
    p.place(done)
    return entry
