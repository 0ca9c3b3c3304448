"""Make directories and files in the root that a program has open, whatever links an image may contain.

The same as `make_directories` and `make_file` of toolkit/kernel/beneath.py, which a program can't call. What is there
already is opened by one call. What is not, a routine makes part by part: a link to something that does not exist is
followed inside the root, and what it names is made.
"""

import errno
import os

from toolkit.kernel import beneath
from toolkit.kernel.program.program import Cell, Label
from toolkit.kernel.program.routine import Routine
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.kernel.program.program import Exits, Program

_SIZE = 4096  # of a path (PATH_MAX)
_MAX_LINKS = 40  # the kernel's own limit (path_resolution(7))
_MODE = 0o755
_FOUND = 1 << 32  # results below it are descriptors, those above are errnos, negative
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


class Directories:
    """The paths of one program in the root that `root` is open on (O_PATH)."""

    def __init__(self, p: "Program", root: "int | Cell") -> None:
        self.p = p
        self.root = root
        # Path, its size, and whether the caller looks at an error itself.
        self._directory = Routine(p, 3, self._make_directory)
        self._file = Routine(p, 3, self._make_file)
        self._found = p.cell()

    def open(self, path: str, flags: int, result: Cell, on: "Exits" = ()) -> None:
        """Open what is there."""
        beneath.emit_open(self.p, self.root, path, flags, result, on=on)

    def make(self, path: str, result: Cell, *, made: "Label | None" = None) -> None:
        """Open the directory `path` (O_PATH), making its missing parts; if there were any, go on at `made`."""
        self._made(path, _DIRECTORY, result, self._directory, made)

    def make_file(self, path: str, result: Cell) -> None:
        """Open the file `path` (O_PATH), making an empty one and its folders if missing."""
        self._made(path.rstrip("/"), os.O_PATH, result, self._file, None)

    def make_if_writable(self, path: str, result: Cell, otherwise: Label) -> None:
        """`make`, but go on at `otherwise` on a read-only file system."""
        p = self.p
        missing, there, back = Label(), Label(), Label()
        self.open(path, _DIRECTORY, result, on=((errno.ENOENT, missing), (errno.EROFS, otherwise)))
        p.place(there)

        def make() -> None:
            p.place(missing)
            self._directory.call(p.text(path), len(os.fsencode(path)), 1, then=back)
            p.place(back)
            p.own("set", self._found, result=result)
            p.when("if_less", result, _FOUND, there)
            p.when("if_equal", result, -errno.EROFS, otherwise)
            p.own("subtract", 0, result, result=result)
            p.fail(result, f"mkdir -p {quote(path)}")

        p.aside(make)

    def _made(self, path: str, flags: int, result: Cell, routine: Routine, made: "Label | None") -> None:
        p = self.p
        missing, there, back = Label(), Label(), Label()
        self.open(path, flags, result, on=((errno.ENOENT, missing),))
        p.place(there)

        def make() -> None:
            p.place(missing)
            what = "mkdir -p" if routine is self._directory else "touch"
            routine.call(p.text(path), len(os.fsencode(path)), 0, then=back, said=f"{what} {quote(path)}")
            p.place(back)
            p.own("set", self._found, result=result)
            p.go(made or there)

        p.aside(make)

    def _make_directory(self) -> None:
        """`_found` becomes a descriptor of the directory, or (if the caller wants to know) an errno, negative."""
        p = self.p
        path, left, soft = self._directory.arguments
        current, result, links, at, end, last, same = (p.cell() for _ in range(7))
        text = p.room(2 * _SIZE)
        restart, following, word, missing, exists, reopen, opened, failed, told = (Label() for _ in range(9))
        too_long, finished = Label(), Label()

        def open_so_far(on: "Exits") -> None:
            beneath.emit_open(p, self.root, text, _DIRECTORY, result, on=on)

        p.when("if_less", 2 * _SIZE - 1, left, too_long)
        p.own("set", 0, result=links)
        p.own("copy", text, path, left)
        p.own("add", text, left, result=last)
        p.own("copy", last, p.text(""), 1)
        p.place(restart)
        p.call("openat", self.root, ".", _DIRECTORY | os.O_CLOEXEC, 0, result=current)
        p.own("set", text, result=at)
        p.place(following)
        p.when("if_equal", at, last, finished)
        p.own("same", at, p.text("/"), 1, result=same)
        p.when("if_equal", same, 0, word)
        p.own("add", at, 1, result=at)
        p.go(following)
        # The path up to here is opened by itself: it ends at the slash, which is put back later.
        p.place(word)
        p.own("find", at, last, ord("/"), ord("/"), result=end)
        p.own("copy", end, p.text(""), 1)
        open_so_far(((errno.ENOENT, missing), (0, failed)))
        p.place(opened)
        p.call("close", current)
        p.own("set", result, result=current)
        p.when("if_equal", end, last, finished)
        p.own("copy", end, p.text("/"), 1)
        p.own("add", end, 1, result=at)
        p.go(following)
        p.place(missing)
        p.call("mkdirat", current, at, _MODE, result=result, on=((errno.EEXIST, exists), (0, failed)))
        p.place(reopen)
        open_so_far(((0, failed),))
        p.go(opened)
        p.place(exists)  # another process made it, or it is a link to nothing
        self._follow(text, (current, at, end, last, links, result), reopen, failed, restart)
        p.place(too_long)
        p.own("set", -errno.ENAMETOOLONG, result=result)
        p.go(told)
        p.place(failed)
        p.call("close", current)
        p.place(told)
        p.own("set", result, result=self._found)
        p.when("if_equal", soft, 0, hard := Label())
        self._directory.back()
        p.place(hard)
        self._directory.fail(result)
        p.place(finished)
        p.own("set", current, result=self._found)
        self._directory.back()

    def _follow(self, text: int, cells: "tuple[Cell, ...]", reopen: Label, failed: Label, restart: Label) -> None:
        """The part of the path at `at` is a link to nothing: put its target into the path, and begin anew."""
        p = self.p
        current, at, end, last, links, result = cells
        left, same, out, size = (p.cell() for _ in range(4))
        target, joined = p.room(_SIZE), p.room(4 * _SIZE)
        absolute, last_word = Label(), Label()
        links_on = ((errno.EINVAL, reopen), (0, failed))
        p.call("readlinkat", current, at, target, _SIZE - 1, result=result, on=links_on)
        p.own("set", result, result=left)
        p.own("add", links, 1, result=links)
        p.own("set", -errno.ELOOP, result=result)
        p.when("if_less", _MAX_LINKS, links, failed)
        # The path becomes: what is above the link, if its target is relative; the target; what came behind the link.
        p.own("set", joined, result=out)
        p.own("same", target, p.text("/"), 1, result=same)
        p.when("if_equal", same, 1, absolute)
        p.own("subtract", at, text, result=size)
        _append(p, out, text, size)
        p.place(absolute)
        _append(p, out, target, left)
        p.when("if_equal", end, last, last_word)
        p.own("copy", end, p.text("/"), 1)
        p.own("subtract", last, end, result=size)
        _append(p, out, end, size)
        p.place(last_word)
        p.own("subtract", out, joined, result=size)
        p.own("set", -errno.ENAMETOOLONG, result=result)
        p.when("if_less", _SIZE, size, failed)
        p.own("copy", text, joined, size)
        p.own("add", text, size, result=last)
        p.own("copy", last, p.text(""), 1)
        p.call("close", current)
        p.go(restart)

    def _make_file(self) -> None:
        """The same for a file."""
        p = self.p
        path, left, _ = self._file.arguments
        folder, folder_size, soft = self._directory.arguments
        result, parent, links, last, slash, name, same, size = (p.cell() for _ in range(8))
        text, target = p.room(2 * _SIZE), p.room(_SIZE)
        restart, next_slash, split, made, reopen, exists, failed, absolute = (Label() for _ in range(8))
        p.own("set", 0, result=links)
        p.own("set", -errno.ENAMETOOLONG, result=result)
        p.when("if_less", _SIZE, left, failed)
        p.own("copy", text, p.text("/"), 1)  # so there is a slash in each path
        p.own("copy", text + 1, path, left)
        p.own("add", text + 1, left, result=last)
        p.place(restart)
        p.own("copy", last, p.text(""), 1)
        p.own("set", text, result=name)
        p.place(next_slash)
        p.own("find", name, last, ord("/"), ord("/"), result=size)
        p.when("if_equal", size, last, split)
        p.own("set", size, result=slash)
        p.own("add", size, 1, result=name)
        p.go(next_slash)
        p.place(split)
        p.own("set", text, result=folder)
        p.own("subtract", slash, text, result=folder_size)
        p.own("set", 1, result=soft)
        self._directory.call_in_place(made)
        p.place(made)
        p.own("set", self._found, result=parent)
        p.own("set", parent, result=result)
        p.when("if_less", _FOUND, parent, failed)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        p.call("openat", parent, name, flags, _MODE, result=result, on=((errno.EEXIST, exists), (0, failed)))
        p.call("close", result)
        p.place(reopen)
        p.call("close", parent)
        beneath.emit_open(p, self.root, text, os.O_PATH, result, on=((0, failed),))
        p.own("set", result, result=self._found)
        self._file.back()
        p.place(exists)
        links_on = ((errno.EINVAL, reopen), (0, failed))
        p.call("readlinkat", parent, name, target, _SIZE - 1, result=result, on=links_on)
        p.own("set", result, result=left)
        p.call("close", parent)
        p.own("add", links, 1, result=links)
        p.own("set", -errno.ELOOP, result=result)
        p.when("if_less", _MAX_LINKS, links, failed)
        p.own("same", target, p.text("/"), 1, result=same)
        p.when("if_equal", same, 1, absolute)
        p.own("subtract", name, text, result=size)
        p.own("add", size, left, result=size)
        p.own("set", -errno.ENAMETOOLONG, result=result)
        p.when("if_less", _SIZE, size, failed)
        p.own("copy", name, target, left)
        p.own("add", name, left, result=last)
        p.go(restart)
        p.place(absolute)
        p.own("copy", text, target, left)
        p.own("add", text, left, result=last)
        p.go(restart)
        p.place(failed)
        self._file.fail(result)


def _append(p: "Program", out: Cell, source: "int | Cell", size: Cell) -> None:
    p.own("copy", out, source, size)
    p.own("add", out, size, result=out)
