"""The hot path's modules in one file: read at once instead of looked up one by one.

A runtime verb imports some fifty small modules, and Python's import system spends more on finding each one (listing
folders, stat, open, read, spec) than on running it. So their compiled code is kept together in `__pycache__` beside
this file, where the interpreter keeps what it compiles too and with the same trust: who can write there can write the
sources. A module is taken from it only while its source has the size and the time of modification that it was compiled
from; where the file is missing or stale, the modules are imported as ever and the file is written anew.
What it saves is in docs/performance.md.

Way out: a faster import system (PEP 810 and its kin); then this file and its calls can go.
"""

import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType
    from typing import Any

    # (name, path of the source, its size, its time of modification in ns, is it a package?, code)
    Entry = tuple[str, str, int, int, bool, CodeType]

_HERE = __file__.rpartition("/")[0]
_FOLDERS = ("kernel", "oci", "runtime", "runtime/cgroups", "runtime/comfort", "runtime/seccomp", "runtime/verbs")
_SINGLE = ("errors", "places", "text")
_FILE = f"{_HERE}/__pycache__/hot.{sys.implementation.cache_tag}.bin"
_INDEX_BYTES = 16384
_MAIN = "toolkit.runtime.main"
_Module = type(sys)

# Where in the file a group of modules is: (offset, length). "+NAME" is a module with all that it imports, what is
# needed first first; "NAME" is the module alone. A group is marshalled as one: its modules share their strings.
_index: "dict[str, tuple[int, int]]" = {}
_identity = (0, 0, 0)
_stale = False


def load(name: str) -> None:
    """Run `name` and what it imports from the file, as far as it is fresh; the rest is left to the import system."""
    if not _index and not _stale:
        _open()
        if _index:
            sys.meta_path.insert(0, _Finder)
    loaded = sys.modules
    for entry in _group("+" + name):
        each, path, _, _, is_package, code = entry
        if each in loaded:
            continue
        if not _fresh(entry):
            return
        module = loaded[each] = _Module(each)
        module.__file__ = path
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


class _Finder:
    """What functions import later, from the file too (importlib asks the finders of sys.meta_path in turn)."""

    def __init__(self, code: "CodeType") -> None:
        self.code = code

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> "ModuleSpec | None":
        """The spec of a module of ours that the file has, if it is fresh."""
        if name not in _index:
            return None
        for entry in _group(name):
            if not _fresh(entry):
                return None
            _, path, _, _, is_package, code = entry
            make: Any = type(sys.__spec__)  # importlib's, without importing it
            spec: ModuleSpec = make(name, _Finder(code), origin=path, is_package=is_package)
            spec.has_location = True
            if is_package:
                spec.submodule_search_locations = [path.rpartition("/")[0]]
            return spec
        return None

    def create_module(self, _spec: object) -> None:
        """The import system's own kind of module."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module's code."""
        exec(self.code, module.__dict__)


def _open() -> None:
    global _index, _identity, _stale
    try:
        fd = posix.open(_FILE, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            status = posix.fstat(fd)
            _identity = (status.st_ino, status.st_size, status.st_mtime_ns)
            _index = marshal.loads(posix.read(fd, _INDEX_BYTES))
        finally:
            posix.close(fd)
    except (OSError, ValueError, EOFError, TypeError):
        _index = {}
        _stale = True


def _group(name: str) -> "Sequence[Entry]":
    global _stale
    if name not in _index:
        return ()
    offset, length = _index[name]
    try:
        fd = posix.open(_FILE, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            # Not kept open: the descriptor could be one that --preserve-fds names. So another process may have replaced
            # the file since we read the index.
            status = posix.fstat(fd)
            if _identity != (status.st_ino, status.st_size, status.st_mtime_ns):
                return ()
            group: Sequence[Entry] = marshal.loads(posix.pread(fd, length, offset))
            return group
        finally:
            posix.close(fd)
    except (OSError, ValueError, EOFError, TypeError):
        _stale = True
        return ()


def _fresh(entry: "Entry") -> bool:
    global _stale
    try:
        status = posix.stat(entry[1])
    except OSError:
        _stale = True
        return False
    if status.st_mtime_ns != entry[3] or status.st_size != entry[2]:
        _stale = True
        return False
    return True


def renew() -> None:
    """Write the file if it was missing or stale, all or nothing; a folder that we may not write to is left alone."""
    if not _stale:
        return
    import os

    modules: dict[str, Entry] = {}
    needs: dict[str, list[str]] = {}
    temporary = f"{_FILE}.{os.getpid()}"
    try:
        if os.stat(_HERE).st_uid != os.geteuid():
            return  # an installation of somebody else's: root's, mostly, whose own call will write it
        for name, path in _sources():
            status = os.stat(path)
            with open(path, encoding="utf-8") as file:
                source = file.read()
            code: CodeType = compile(source, path, "exec", dont_inherit=True, optimize=2)  # 2: without docstrings
            is_package = path.endswith("/__init__.py")
            modules[name] = (name, path, status.st_size, status.st_mtime_ns, is_package, code)
            needs[name] = _imports(source)
        groups = {name: marshal.dumps((entry,)) for name, entry in modules.items()}
        first = _order(_MAIN, needs, modules)
        for name in modules:
            if name == _MAIN or name.startswith("toolkit.runtime.verbs."):
                order = [each for each in _order(name, needs, modules) if name == _MAIN or each not in first]
                groups["+" + name] = marshal.dumps(tuple(modules[each] for each in order))
        index = {}
        offset = _INDEX_BYTES
        for name, group in groups.items():
            index[name] = (offset, len(group))
            offset += len(group)
        head = marshal.dumps(index)
        if len(head) > _INDEX_BYTES:
            return  # slower, and tests/architecture/test_preload.py fails
        os.makedirs(os.path.dirname(_FILE), exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "wb") as binary:
            binary.write(head.ljust(_INDEX_BYTES, b"\0"))
            for group in groups.values():
                binary.write(group)
        os.rename(temporary, _FILE)
    except (OSError, SyntaxError, ValueError):
        try:
            os.unlink(temporary)
        except OSError:
            pass


def _sources() -> "list[tuple[str, str]]":
    import os

    found = [("toolkit." + name, f"{_HERE}/{name}.py") for name in _SINGLE]
    for folder in _FOLDERS:
        package = "toolkit." + folder.replace("/", ".")
        found.append((package, f"{_HERE}/{folder}/__init__.py"))
        found += [
            (f"{package}.{entry[:-3]}", f"{_HERE}/{folder}/{entry}")
            for entry in sorted(os.listdir(f"{_HERE}/{folder}"))
            if entry.endswith(".py") and entry != "__init__.py"
        ]
    return found


def _imports(source: str) -> "list[str]":
    """What a module imports when it is run (not what is for the type checker, or left to a function), in order."""
    found = []
    for statement in source.replace("(\n", "").split("\nfrom toolkit")[1:]:
        package, _, names = statement.partition(" import ")
        # One line, or up to the closing bracket; the layout is the formatter's.
        first, _, _ = names.partition("\n")
        ends = names.partition(")")[0] if first.strip() == "" or first.endswith(",") else first
        found.append("toolkit" + package)
        found += [f"toolkit{package}.{name.split(' as ')[0].strip()}" for name in ends.split(",")]
    return found


def _order(name: str, needs: "dict[str, list[str]]", modules: "dict[str, Entry]") -> "list[str]":
    done: dict[str, None] = {}
    under_way: set[str] = set()

    def visit(each: str) -> None:
        if each not in modules or each in done or each in under_way:
            return
        under_way.add(each)
        visit(each.rpartition(".")[0])
        for needed in needs[each]:
            visit(needed)
        done[each] = None

    visit(name)
    return list(done)
