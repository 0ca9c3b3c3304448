"""Load the modules of the hot path and of everyday commands from one file instead of looking them up one by one.

A runtime verb imports some fifty small modules, and Python's import system spends more on finding each one (listing
folders, stat, open, read, spec) than on running it. So their compiled code is kept together in `__pycache__` beside
this file, where the interpreter keeps its own compiled code, and with the same trust: the file is read only if nobody
can write there who can't write the sources. A module is taken from it only while its source has the size and the
modification time that it was compiled from, and only in the folder that it was compiled in: a copy of the installation
makes its own. If the file is missing or stale, the modules are imported as usual and precompile.py writes it again.
What it saves is in docs/performance.md.

For each verb that engines call all day there is an image: all that it needs, as one group. launch.py (the launcher's
Python half) takes this module from the head of the file and calls `begin`, so that the import system does nothing.

This file and its calls can go when Python's import system is fast enough (PEP 810 and the like).
"""

import gc
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
    Place = tuple[int, int]  # in the file: offset and length
    # In an image: a module that is loaded when something of it is wanted; its code alone, or the place of its group.
    Lazy = tuple[str, str, int, int, bool, tuple[CodeType] | tuple[Place] | Place]
    # The head of the file: (HERE, place of the index, places of the images, this module)
    Head = tuple[str, Place, dict[str, Place], Entry]

HERE = __file__.rpartition("/")[0]
FOLDERS = (
    "kernel", "kernel/program", "oci",
    "runtime", "runtime/cgroups", "runtime/comfort", "runtime/seccomp", "runtime/verbs",
    "network", "archive", "bundle", "children", "cli", "cli/images", "cli/networks", "fetch", "observe", "ui", "up",
    "image", "image/document", "image/layer", "image/layout", "image/registry", "image/store", "image/transfer",
    "image/trust",
)  # fmt: skip
SINGLE = ("__main__", "errors", "events", "lean_os", "places", "preload", "text")
FILE = f"{HERE}/__pycache__/hot.{sys.implementation.cache_tag}.bin"
HEAD_BYTES = 24576  # launch.py has this number, too
IMAGES = (
    "create", "delete", "events", "exec", "kill", "list", "pause", "ps", "resume", "run", "start", "state", "update",
)  # fmt: skip
MAIN = "toolkit.runtime.main"
SECOND = "toolkit.cli.app"
RUN = "toolkit.runtime.verbs.run"
RUN_IMAGE = "toolkit.cli.images.run"
NETWORK = "toolkit.network.attach"
_Module = type(sys)

# The place of a group of modules in the file: (offset, length). "+NAME" is a module with all that it imports, in the
# order in which they are needed; "+MODULE:FUNCTION" is what a function imports, before or without anything else; "NAME"
# is the module alone. A group is marshalled as one: its modules share strings.
# These are the module's own state, as sys.modules and sys.meta_path, which they serve, are the process's.
_index: "dict[str, tuple[int, int]]" = {}
_place = (0, 0)  # of the index
_identity = (0, 0, 0)
_held = -1
_stale = False
_away = False
_trusted: "set[str]" = set()


def begin(status: "posix.stat_result", head: "Head", verb: str) -> None:
    """Load the image of `verb`, on behalf of launch.py, which has read the head of the file and checked it."""
    global _identity, _place
    _, _place, images, _ = head
    _identity = (status.st_ino, status.st_size, status.st_mtime_ns)
    sys.meta_path.insert(0, _Finder)
    gc.disable()  # a verb runs for milliseconds; the second door switches it on again
    _load(_read(images[verb]))


def load(name: str) -> None:
    """Load `name` and its imports from the file as far as they are fresh; the rest is left to the import system."""
    if name in sys.modules:
        return
    if _Finder not in sys.meta_path:
        _open()
        sys.meta_path.insert(0, _Finder)
    _load(_group("+" + name))


def _load(entries: "Sequence[Entry | Lazy]") -> None:
    loaded = sys.modules
    for entry in entries:
        each, source, _, _, is_package, code = entry
        if each in loaded:
            continue
        lazy = type(code) is tuple
        parent, _, last = each.rpartition(".")
        if (parent not in loaded and parent) or (not lazy and not _fresh(entry)):
            return
        module = loaded[each] = _Module(each)
        path = module.__file__ = f"{HERE}/{source}"
        module.__package__ = each if is_package else parent
        namespace = module.__dict__
        namespace["__thaw__"] = _thaw
        if is_package:
            module.__path__ = [path.rpartition("/")[0]]
        if lazy:
            namespace["__getattr__"] = _waking(namespace, entry)
        else:
            try:
                exec(code, namespace)  # type: ignore[arg-type]
            except BaseException:
                del loaded[each]
                raise
        if parent:
            setattr(loaded[parent], last, module)


def _waking(namespace: "dict[str, Any]", entry: "Entry | Lazy") -> "Callable[[str], Any]":
    """The `__getattr__` of a module that is loaded when something of it is wanted."""

    def wake(attribute: str) -> "Any":
        if attribute == "__path__" or "__getattr__" not in namespace:
            raise AttributeError(attribute)
        del namespace["__getattr__"]
        exec(_code_of(entry), namespace)
        try:
            return namespace[attribute]
        except KeyError:
            raise AttributeError(f"module {entry[0]!r} has no attribute {attribute!r}") from None

    return wake


def _code_of(entry: "Entry | Lazy") -> "CodeType":
    where: Any = entry[5]
    if _fresh(entry):
        if len(where) == 1:
            where = where[0]
        if type(where) is not tuple:
            code: CodeType = where
            return code
        for whole in _read(where):
            return whole[5]  # type: ignore[no-any-return]
    return _compiled(f"{HERE}/{entry[1]}")


def load_for(function: "Callable[..., object]") -> None:
    """Load what the function imports, if the file has a group for it."""
    load(f"{function.__module__}:{function.__qualname__}")


def _thaw(offset: int, length: int, name: str) -> "Callable[..., Any]":
    """The function that is being called, from now on with its own code: a stand-in calls this (images_of_verbs.py)."""
    frame = sys._getframe(1)
    found: Any = frame.f_globals
    for part in name.split("."):
        found = (found if found is frame.f_globals else found.__dict__)[part]
    assert found.__code__ is frame.f_code, f"{name} is not the function that is called"
    found.__code__ = _read((offset, length)) or _compiled_function(frame.f_globals["__file__"], frame.f_code)
    function: Callable[..., Any] = found
    return function


def _compiled(path: str) -> "CodeType":
    """The code of a source: the file of compiled code has been replaced since it was opened first."""
    if _away:
        raise ImportError(f"{path!r} may be another file by now")
    with open(path, encoding="utf-8") as file:
        return compile(file.read(), path, "exec", dont_inherit=True, optimize=2)


def _compiled_function(path: str, stand_in: "CodeType") -> "CodeType":
    rest = [_compiled(path)]
    while rest:
        code = rest.pop()
        if (code.co_qualname, code.co_firstlineno) == (stand_in.co_qualname, stand_in.co_firstlineno):
            return code
        rest += [each for each in code.co_consts if isinstance(each, type(code))]
    raise ImportError(f"the installation was replaced meanwhile: {path!r} has no {stand_in.co_qualname!r} where it was")


def hold() -> None:
    """Keep the file open: this process is going to wait for long, and the file may be replaced meanwhile."""
    global _held
    if _held < 0 and _identity != (0, 0, 0):
        try:
            _held = posix.open(FILE, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            pass  # what is missing comes from the sources


def leave_files() -> None:
    """Load nothing more by its path: this process is going to have another root, other mounts, or fewer rights.

    What is left out of an image comes from the file that is open now; anything else is an error, where a path could
    lead to a file of a container's.
    """
    global _away
    __import__("toolkit.kernel.native")  # what makes system calls is loaded when the first one is made
    hold()
    _away = True
    sys.meta_path[:] = [each for each in sys.meta_path if each is _Finder]
    sys.path_hooks.clear()
    sys.path.clear()


class _Finder:
    """Finds later imports inside functions in the file too (importlib asks sys.meta_path's finders in turn)."""

    def __init__(self, code: "CodeType") -> None:
        self.code = code

    @staticmethod
    def find_spec(name: str, path: "Sequence[str] | None" = None, _target: object = None) -> "ModuleSpec | None":
        """The spec of a module of ours that the file has, if it is fresh."""
        if not name.startswith("toolkit."):
            return None
        group = _group(name)
        if not group:
            if path and not _away:
                _beware(path[0])
                _beware(f"{path[0]}/{name.rpartition('.')[2]}")  # if it is a package
            return None
        for entry in group:
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
        module.__dict__["__thaw__"] = _thaw
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
    global _identity, _place
    try:
        fd = posix.open(FILE, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            if not trusted(FILE, fd):
                raise ValueError("others may write to it")
            status = posix.fstat(fd)
            home, place, _, this = marshal.loads(posix.read(fd, HEAD_BYTES))
            there, here = posix.stat(home), posix.stat(HERE)
            # Compared by inode, not by name: the launcher's name for a folder depends on how it was called.
            if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
                raise ValueError("a copy from another installation")
            if _fresh(this):
                _identity = (status.st_ino, status.st_size, status.st_mtime_ns)
                _place = place
        finally:
            posix.close(fd)
    except (OSError, ValueError, EOFError, TypeError):
        _spoiled()


def _group(name: str) -> "Sequence[Entry]":
    global _place
    if _place != (0, 0):
        place, _place = _place, (0, 0)
        _index.update(_read(place) or {})
    return _read(_index[name]) if name in _index else ()


def _read(place: "tuple[int, int]") -> "Any":
    """What is at that place of the file, () if that can't be read."""
    offset, length = place
    try:
        fd = _held if _held >= 0 else posix.open(FILE, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            # Not kept open: the descriptor could be one that --preserve-fds names. So another process may have replaced
            # the file since we read the index.
            status = posix.fstat(fd)
            if _identity != (status.st_ino, status.st_size, status.st_mtime_ns):
                distrust_what_others_wrote(FOLDERS)
                return ()
            return marshal.loads(posix.pread(fd, length, offset))
        finally:
            if fd != _held:
                posix.close(fd)
    except (OSError, ValueError, EOFError, TypeError):
        _spoiled()
        return ()


def _fresh(entry: "Entry | Lazy") -> bool:
    if _away:
        return True
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
