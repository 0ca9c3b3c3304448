"""Load the modules of the hot path and of everyday commands from one file instead of looking them up one by one.

A runtime verb imports some fifty small modules, and Python's import system spends more on finding each one (listing
folders, stat, open, read, spec) than on running it. So their compiled code is kept together in `__pycache__` beside
this file, where the interpreter keeps its own compiled code, and with the same trust: the file is read only if nobody
can write there who can't write the sources. A module is taken from it only while its source has the size and the
modification time that it was compiled from, and only in the folder that it was compiled in: a copy of the installation
makes its own. If the file is missing or stale, the modules are imported as usual and precompile.py writes it again.
What it saves is in docs/performance.md.

This file and its calls can go when Python's import system is fast enough (PEP 810 and the like).
"""

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any

    # (name, path of the source below HERE, its size, its time of modification in ns, is it a package?, code)
    Entry = tuple[str, str, int, int, bool, CodeType]

HERE = __file__.rpartition("/")[0]
FOLDERS = (
    "kernel", "kernel/program", "oci",
    "runtime", "runtime/cgroups", "runtime/comfort", "runtime/seccomp", "runtime/verbs",
    "archive", "bundle", "children", "cli", "cli/images", "fetch", "observe", "ui", "up",
    "image", "image/document", "image/layer", "image/layout", "image/registry", "image/store", "image/transfer",
    "image/trust",
)  # fmt: skip
SINGLE = ("errors", "events", "places", "text")
FILE = f"{HERE}/__pycache__/hot.{sys.implementation.cache_tag}.bin"
INDEX_BYTES = 32768
MAIN = "toolkit.runtime.main"
SECOND = "toolkit.cli.app"
RUN = "toolkit.runtime.verbs.run"
RUN_IMAGE = "toolkit.cli.images.run"
_Module = type(sys)

# The place of a group of modules in the file: (offset, length). "+NAME" is a module with all that it imports, in the
# order in which they are needed; "+MODULE:FUNCTION" is what a function imports, before or without anything else; "NAME"
# is the module alone. A group is marshalled as one: its modules share strings.
# These three are the module's own state, as sys.modules and sys.meta_path, which they serve, are the process's.
_index: "dict[str, tuple[int, int]]" = {}
_identity = (0, 0, 0)
_stale = False
_trusted: "set[str]" = set()


def load(name: str) -> None:
    """Load `name` and its imports from the file as far as they are fresh; the rest is left to the import system."""
    if not _index and not _stale:
        _open()
        sys.meta_path.insert(0, _Finder)
    loaded = sys.modules
    for entry in _group("+" + name):
        each, source, _, _, is_package, code = entry
        if each in loaded:
            continue
        if not _fresh(entry):
            return
        module = loaded[each] = _Module(each)
        path = module.__file__ = f"{HERE}/{source}"
        parent, _, last = each.rpartition(".")
        module.__package__ = each if is_package else parent
        if is_package:
            module.__path__ = [path.rpartition("/")[0]]
        try:
            exec(code, module.__dict__)
        except BaseException:
            del loaded[each]
            raise
        setattr(loaded[parent], last, module)


def load_for(function: "Callable[..., object]") -> None:
    """Load what the function imports, if the file has a group for it."""
    load(f"{function.__module__}:{function.__qualname__}")


class _Finder:
    """Finds later imports inside functions in the file too (importlib asks sys.meta_path's finders in turn)."""

    def __init__(self, code: "CodeType") -> None:
        self.code = code

    @staticmethod
    def find_spec(name: str, path: "Sequence[str] | None" = None, _target: object = None) -> "ModuleSpec | None":
        """The spec of a module of ours that the file has, if it is fresh."""
        if name not in _index:
            if path and name.startswith("toolkit."):
                _beware(path[0])
                _beware(f"{path[0]}/{name.rpartition('.')[2]}")  # if it is a package
            return None
        for entry in _group(name):
            if not _fresh(entry):
                return None
            _, source, _, _, is_package, code = entry
            origin = f"{HERE}/{source}"
            make: Any = type(sys.__spec__)  # importlib's, without importing it
            spec: ModuleSpec = make(name, _Finder(code), origin=origin, is_package=is_package)
            spec.has_location = True
            if is_package:
                spec.submodule_search_locations = [origin.rpartition("/")[0]]
            return spec
        return None

    def create_module(self, _spec: object) -> None:
        """The import system's own kind of module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module's code."""
        exec(self.code, module.__dict__)


def _beware(folder: str) -> None:
    """The import system is going to look for compiled code in this folder of ours: see to it that it may."""
    if folder not in _trusted:
        _trusted.add(folder)
        distrust_what_others_wrote((folder[len(HERE) + 1 :],))


def _spoiled() -> None:
    """The file is missing or stale: import the usual way, and check Python's own compiled files, which are now read."""
    global _stale
    if not _stale:
        _stale = True
        distrust_what_others_wrote(FOLDERS)


def _open() -> None:
    global _index, _identity
    try:
        fd = posix.open(FILE, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            if not trusted(FILE, fd):
                raise ValueError("others may write to it")
            status = posix.fstat(fd)
            _identity = (status.st_ino, status.st_size, status.st_mtime_ns)
            home, index = marshal.loads(posix.read(fd, INDEX_BYTES))
            there, here = posix.stat(home), posix.stat(HERE)
            # Compared by inode, not by name: the launcher's name for a folder depends on how it was called.
            if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
                raise ValueError("a copy from another installation")
            _index = index
        finally:
            posix.close(fd)
    except (OSError, ValueError, EOFError, TypeError):
        _index = {}
        _spoiled()


def _group(name: str) -> "Sequence[Entry]":
    if name not in _index:
        return ()
    offset, length = _index[name]
    try:
        fd = posix.open(FILE, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            # Not kept open: the descriptor could be one that --preserve-fds names. So another process may have replaced
            # the file since we read the index.
            status = posix.fstat(fd)
            if _identity != (status.st_ino, status.st_size, status.st_mtime_ns):
                distrust_what_others_wrote(FOLDERS)
                return ()
            group: Sequence[Entry] = marshal.loads(posix.pread(fd, length, offset))
            return group
        finally:
            posix.close(fd)
    except (OSError, ValueError, EOFError, TypeError):
        _spoiled()
        return ()


def _fresh(entry: "Entry") -> bool:
    try:
        status = posix.stat(f"{HERE}/{entry[1]}")
    except OSError:
        _spoiled()
        return False
    if status.st_mtime_ns != entry[3] or status.st_size != entry[2]:
        _spoiled()
        return False
    return True


def stale() -> bool:
    """Whether the file was found missing or stale, and is ours to write (precompile.py)."""
    return _stale and ours()


def ours() -> bool:
    """Whether the caller owns the installation, and nobody else can write to the folder of compiled code."""
    if posix.stat(HERE).st_uid != posix.geteuid():
        return False
    try:
        return trusted(FILE.rpartition("/")[0])
    except OSError:
        return True  # not made yet


def trusted(path: str, fd: int = -1) -> bool:
    """Whether compiled code at `path` (or in the open file `fd`) is as safe as the sources: nobody else can write it.

    Raises OSError if there is none.
    """
    status = posix.fstat(fd) if fd >= 0 else posix.stat(path)
    if status.st_mode & 0o002 or (status.st_mode & 0o020 and status.st_gid not in (0, posix.getegid())):
        return False
    return status.st_uid in (0, posix.geteuid(), posix.stat(HERE).st_uid)


def distrust_what_others_wrote(folders: "Sequence[str]") -> None:
    """Don't use Python's own compiled files, if others can write to one of the `__pycache__` of `folders`.

    A caller whose umask lets others write makes such a `__pycache__` (importlib asks mkdir(2) for 0777).
    """
    for folder in folders:
        try:
            if trusted(f"{HERE}/{folder}/__pycache__"):
                continue
        except OSError:
            continue  # it does not exist
        sys.pycache_prefix = "/dev/null"  # no folder: nothing can be found or made below it
        sys.dont_write_bytecode = True
        return
