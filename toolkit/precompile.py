"""Write the file of compiled code that preload.py reads: by `python -m toolkit.precompile`, or when it is found stale.

An installer can't run our code (pip has no such hook, and a wheel's files get new times), so the first call by the
owner of the installation writes the file, as Python does with its own compiled code; scripts/venv writes it at once.
It is never written for another user's installation, nor by a caller whose umask lets others write.
"""

import _ast as ast  # built in; importing the module `ast` would cost 5 ms in the call that finds the file stale
import marshal
import os
import sys

from toolkit import preload
from toolkit.images_of_verbs import Images, found_by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.preload import Entry

# The commands of the second door whose modules are read as one: those that people call all day.
EVERYDAY = {
    "toolkit.cli.container_commands": ("logs", "attach", "stop", "restart", "rm", "cp"),
    "toolkit.cli.observe": ("inspect", "stats", "top"),
    "toolkit.cli.images.store": ("images",),
    "toolkit.cli.images.transfer": ("pull", "push", "copy"),
}
_COMMANDS = "toolkit.cli.commands"  # each of its functions imports one module of commands


def write() -> None:
    """Write the file, all or nothing; do nothing if the folder is not ours or not writable."""
    try:
        if preload.ours():  # it mostly belongs to root, whose next call will write it
            _replace(_compiled())
    except (OSError, SyntaxError, ValueError):
        pass


def _compiled() -> bytes:
    """The contents of the file: the index in a block of its own, then the groups."""
    modules: dict[str, Entry] = {}
    needs: dict[str, list[str]] = {}
    functions: dict[str, list[str]] = {}
    names: dict[str, frozenset[str]] = {}
    for name, path in _sources():
        whole = f"{preload.HERE}/{path}"
        status = os.stat(whole)
        with open(whole, encoding="utf-8") as file:
            source = file.read()
        # 2: without docstrings, which are the help of our commands. The name is for tracebacks only; preload uses the
        # file only where that name is right.
        optimize = 0 if name.startswith("toolkit.cli.") else 2
        code = compile(source, whole, "exec", dont_inherit=True, optimize=optimize)
        is_package = path.endswith("__init__.py")
        modules[name] = (name, path, status.st_size, status.st_mtime_ns, is_package, code)
        tree = _parsed(source)
        names[name] = found_by_name(tree)
        needs[name] = list(_imports(tree.body, name))
        for one in tree.body if name in EVERYDAY or name == _COMMANDS else ():
            if isinstance(one, ast.FunctionDef):
                functions[f"{name}:{one.name}"] = list(_imports(one.body, name))
    groups = {name: marshal.dumps((entry,)) for name, entry in modules.items()}
    first = _order(preload.MAIN, needs, modules)
    run = [*first, *_order(preload.RUN, needs, modules)]
    before = {preload.MAIN: [], preload.RUN_IMAGE: run, preload.NETWORK: run}
    before |= {name: first for name in modules if name.startswith("toolkit.runtime.verbs.")}
    for name, there in before.items():  # what is loaded already
        order = [each for each in _order(name, needs, modules) if each not in there]
        groups["+" + name] = marshal.dumps(tuple(modules[each] for each in order))
    groups |= _of_the_second_door(first, needs, functions, modules)
    index = {}
    offset = preload.HEAD_BYTES
    for name, group in groups.items():
        index[name] = (offset, len(group))
        offset += len(group)
    images = Images(modules, names, index)
    places = {}
    for verb in preload.IMAGES:
        order = ["toolkit", "toolkit.lean_os", *first, "toolkit.__main__"]
        order += [each for each in _order(f"toolkit.runtime.verbs.{verb}", needs, modules) if each not in order]
        places[verb] = images.add(verb, order)
    last = images.store(marshal.dumps(index))
    head = marshal.dumps((preload.HERE, last, places, modules["toolkit.preload"]))
    if len(head) > preload.HEAD_BYTES:
        raise ValueError("preload.py is too large for the head")  # tests/reliability/test_preload.py fails
    return b"".join([head.ljust(preload.HEAD_BYTES, b"\0"), *groups.values(), *images.stored])


def _of_the_second_door(
    first: "list[str]", needs: "dict[str, list[str]]", functions: "dict[str, list[str]]", modules: "dict[str, Entry]"
) -> "dict[str, bytes]":
    """Its own group, one for each module of everyday commands, and one for what each of these commands imports."""
    groups: dict[str, bytes] = {}

    def add(name: str, wanted: "list[str]", there: "set[str]") -> "set[str]":
        order = [each for each in _order_of(wanted, needs, modules) if each not in there]
        if order:
            groups["+" + name] = marshal.dumps(tuple(modules[each] for each in order))
        return there | set(order)

    always = add(preload.SECOND, [preload.SECOND], set(first))
    for name, wanted in functions.items():
        module, _, _ = name.partition(":")
        if module == _COMMANDS:
            there = add(name, wanted, always)
            for command_module in EVERYDAY.keys() & set(wanted):
                for command in EVERYDAY[command_module]:
                    add(f"{command_module}:{command}", functions[f"{command_module}:{command}"], there)
    return groups


def _replace(data: bytes) -> None:
    # kernel/atomic.py does the same, but it is one of the modules being compiled here.
    folder = os.path.dirname(preload.FILE)
    try:
        os.mkdir(folder, 0o755)  # whatever the umask: others must never be able to write to it
    except FileExistsError:
        pass
    temporary = f"{preload.FILE}.{os.urandom(8).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, preload.FILE)
    except BaseException:
        os.unlink(temporary)
        raise


def _sources() -> "Iterator[tuple[str, str]]":
    """(name, path below the package's folder) of each module that goes into the file."""
    yield "toolkit", "__init__.py"
    for name in preload.SINGLE:
        yield f"toolkit.{name}", f"{name}.py"
    for folder in preload.FOLDERS:
        package = "toolkit." + folder.replace("/", ".")
        yield package, f"{folder}/__init__.py"
        for entry in sorted(os.listdir(f"{preload.HERE}/{folder}")):
            if entry.endswith(".py") and entry != "__init__.py":
                yield f"{package}.{entry[:-3]}", f"{folder}/{entry}"


def _parsed(source: str) -> ast.Module:
    tree = compile(source, "", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def _imports(body: "list[ast.stmt]", module: str) -> "Iterator[str]":
    """The modules of ours that a module imports when it runs, in order; not those in TYPE_CHECKING or in functions."""
    for statement in body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names if alias.name.startswith("toolkit."))
        elif isinstance(statement, ast.ImportFrom) and (statement.module or "").partition(".")[0] == "toolkit":
            assert statement.module and not statement.level, f"{module}: we write imports out"
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)
        elif (
            isinstance(statement, ast.If)
            and isinstance(statement.test, ast.Name)
            and statement.test.id == "TYPE_CHECKING"
        ):
            yield from _imports(statement.orelse, module)
        elif isinstance(statement, (ast.If, ast.Try, ast.With)):
            for part in ("body", "handlers", "orelse", "finalbody"):
                for each in getattr(statement, part, ()):
                    yield from _imports(each.body if isinstance(each, ast.ExceptHandler) else [each], module)


def _order(name: str, needs: "dict[str, list[str]]", modules: "dict[str, Entry]") -> "list[str]":
    return _order_of([name], needs, modules)


def _order_of(names: "list[str]", needs: "dict[str, list[str]]", modules: "dict[str, Entry]") -> "list[str]":
    done: dict[str, None] = {}
    under_way: set[str] = set()

    def visit(each: str) -> None:
        if each not in modules or each in done or each in under_way:
            return
        under_way.add(each)
        package = each.rpartition(".")[0]
        visit(package)
        if package in modules and package not in done:
            return  # the package itself imports it when it runs
        for needed in needs[each]:
            visit(needed)
        done[each] = None

    for name in names:
        visit(name)
    return list(done)


if __name__ == "__main__":
    write()
    sys.exit(not os.path.exists(preload.FILE))
