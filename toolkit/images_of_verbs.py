"""The images of precompile.py: what a verb needs, as one group of the file of compiled code, and no more than that.

New memory is most of what it costs to load code (0.8 ms for 100 kB), and a verb calls few of its modules' functions. So
hot_functions.py says which functions a verb usually calls. Of a module with none of them an image has only the place in
the file, where it is read when something of it is wanted; of the other modules it has the code, but not that of the
functions which are not called: their first call fetches it (`preload.thaw`).
"""

import _ast as ast
import marshal

from toolkit.hot_functions import FUNCTIONS, MODULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from toolkit.preload import Entry, Lazy, Place

_STAND_IN: "CodeType" = compile("def f(*a, **k):\n return __thaw__(-1, -2, 'name')(*a, **k)", "", "exec").co_consts[0]
_SHORT = 300  # bytes of marshalled code that are not worth it
_OPTIMIZED = 1  # CO_OPTIMIZED (inspect): a function, not a class


class Images:
    """Makes the images, and keeps what goes into the file behind the groups."""

    def __init__(
        self, modules: "dict[str, Entry]", names: "dict[str, frozenset[str]]", places: "dict[str, Place]"
    ) -> None:
        """`names`: `found_by_name` of each module. `places`: of the groups; each module has one, by its name."""
        self.modules = modules
        self.names = names
        self.places = places
        self.stored: list[bytes] = []
        self.end = max(offset + length for offset, length in places.values())
        self._known: dict[tuple[str, str], Place] = {}
        self._lean: dict[str, CodeType] = {}

    def store(self, data: bytes) -> "Place":
        """The place of `data` in the file."""
        place = (self.end, len(data))
        self.stored.append(data)
        self.end += len(data)
        return place

    def add(self, verb: str, order: "list[str]") -> "Place":
        """The place of the image of a verb that imports the modules of `order`."""
        usual = with_packages(MODULES.get(verb, "").split())
        later = [name for name in usual if name not in order and name in self.modules]
        lean = bool(usual)
        entries: list[Entry | Lazy] = []
        for name in (*order, *later):
            *facts, code = self.modules[name]
            kept: Any = code
            if lean and name in usual:
                if name not in self._lean:
                    self._lean[name] = self._cooled(name, code, frozenset(FUNCTIONS.get(name, "").split()))
                kept = self._lean[name]
            elif lean:
                kept = self.places[name]
            if lean and name in later:
                kept = (kept,)
            entries.append((*facts, kept))
        return self.store(marshal.dumps(tuple(entries)))

    def _cooled(self, module: str, code: "CodeType", hot: "frozenset[str]") -> "CodeType":
        """A module's code with stand-ins for the functions that are not hot.

        Only for functions that are found by their names, and that nothing has wrapped.
        """
        cold = self.names[module] - hot
        kind: type[CodeType] = type(code)

        def cool(outer: "CodeType") -> "CodeType":
            constants = []
            for each in outer.co_consts:
                if isinstance(each, kind) and each.co_qualname in cold and not each.co_freevars:
                    each = self._stand_in(module, each)
                elif isinstance(each, kind) and not each.co_flags & _OPTIMIZED and each.co_qualname.isidentifier():
                    each = cool(each)  # the body of a class
                constants.append(each)
            return outer.replace(co_consts=tuple(constants))

        return cool(code)

    def _stand_in(self, module: str, code: "CodeType") -> "CodeType":
        key = module, code.co_qualname
        if key not in self._known:
            data = marshal.dumps(code)
            if len(data) <= _SHORT:
                return code
            self._known[key] = self.store(data)
        offset, length = self._known[key]
        given = {-1: offset, -2: length, "name": code.co_qualname}
        return _STAND_IN.replace(
            co_consts=tuple(given.get(each, each) for each in _STAND_IN.co_consts), co_name=code.co_name,
            co_qualname=code.co_qualname, co_filename=code.co_filename, co_firstlineno=code.co_firstlineno,
        )  # fmt: skip


def with_packages(names: "list[str]") -> "list[str]":
    """The names, each behind those of the packages that it is in: the list may be older than the code."""
    found: dict[str, None] = {}
    for name in names:
        words = name.split(".")
        found.update(dict.fromkeys(".".join(words[:size]) for size in range(1, len(words) + 1)))
    return list(found)


def found_by_name(tree: ast.Module) -> "frozenset[str]":
    """The qualified names of a module's functions and methods that have no decorator, and no other of their name."""
    names: dict[str, int] = {}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            names[statement.name] = names.get(statement.name, 0) + 1 + bool(statement.decorator_list)
        elif isinstance(statement, ast.ClassDef):
            for inner in statement.body:
                if isinstance(inner, ast.FunctionDef):
                    name = f"{statement.name}.{inner.name}"
                    private = inner.name.startswith("__") and not inner.name.endswith("__")  # its name is mangled
                    wrapped = private or inner.decorator_list or statement.decorator_list
                    names[name] = names.get(name, 0) + 1 + bool(wrapped)
    return frozenset(name for name, count in names.items() if count == 1)
