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
import sys
from posix import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    # Name: (path of the source, its size, its time of modification in ns, is it a package?, marshalled code)
    Modules = dict[str, tuple[str, int, int, bool, bytes]]

_HERE = __file__.rpartition("/")[0]
_FOLDERS = ("kernel", "oci", "runtime", "runtime/cgroups", "runtime/seccomp", "runtime/verbs")
_SINGLE = ("errors", "places")
_FILE = f"{_HERE}/__pycache__/hot.{sys.implementation.cache_tag}.bin"
_Module = type(sys)

_modules: "Modules" = {}
# For a module that is asked for first (main, a verb): itself and all that it imports, what is needed first first.
_orders: "dict[str, list[str]]" = {}
_stale = False


def load(name: str) -> None:
    """Run `name` and what it imports from the file, as far as it is fresh; the rest is left to the import system."""
    global _stale
    if not _modules and not _stale:
        _read()
    loaded = sys.modules
    for each in _orders.get(name, ()):
        if each in loaded:
            continue
        path, size, modified, is_package, code = _modules[each]
        try:
            status = stat(path)
        except OSError:
            _stale = True
            return
        if status.st_mtime_ns != modified or status.st_size != size:
            _stale = True
            return
        module = loaded[each] = _Module(each)
        module.__file__ = path
        parent, _, last = each.rpartition(".")
        module.__package__ = each if is_package else parent
        if is_package:
            module.__path__ = [path.rpartition("/")[0]]
        try:
            exec(marshal.loads(code), module.__dict__)
        except BaseException:
            del loaded[each]
            raise
        setattr(loaded[parent], last, module)


def _read() -> None:
    global _modules, _orders, _stale
    try:
        with open(_FILE, "rb", buffering=0) as file:
            _modules, _orders = marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        _modules, _orders = {}, {}
        _stale = True


def renew() -> None:
    """Write the file if it was missing or stale, all or nothing; a folder that we may not write to is left alone."""
    if not _stale:
        return
    import os

    modules: Modules = {}
    needs: dict[str, list[str]] = {}
    temporary = f"{_FILE}.{os.getpid()}"
    try:
        if os.stat(_HERE).st_uid != os.geteuid():
            return  # an installation of somebody else's: root's, mostly, whose own call will write it
        for name, path in _sources():
            status = os.stat(path)
            with open(path, encoding="utf-8") as file:
                source = file.read()
            code: CodeType = compile(source, path, "exec", dont_inherit=True)
            is_package = path.endswith("/__init__.py")
            modules[name] = (path, status.st_size, status.st_mtime_ns, is_package, marshal.dumps(code))
            needs[name] = _imports(source)
        roots = [name for name in modules if name.startswith("toolkit.runtime.verbs.")]
        orders = {name: _order(name, needs, modules) for name in ("toolkit.runtime.main", *roots)}
        os.makedirs(os.path.dirname(_FILE), exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "wb") as binary:
            binary.write(marshal.dumps((modules, orders)))
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


def _order(name: str, needs: "dict[str, list[str]]", modules: "Modules") -> "list[str]":
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
