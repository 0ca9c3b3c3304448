"""Command lines that are read without typer: those that are right and use no rare form.

For any other (a mistake, --help, short options in one word, an option with a callback) `read` returns None, and typer
reads it, so that nobody sees a difference but in the time: importing typer and making its commands takes a tenth of a
second, more than `ctk logs` does (tests/unit/test_plain_words.py compares the two).
"""

from toolkit.cli import declare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

# What a value may be, by its annotation: how it is converted, and whether there can be several.
_KINDS: "dict[object, tuple[Callable[[str], Any], bool]]" = {
    str: (str, False),
    int: (int, False),
    float: (float, False),
    str | None: (str, False),
    bool: (bool, False),
    bool | None: (bool, False),
    list[str]: (str, True),
    list[str] | None: (str, True),
}
_NONE = object()


class _Parameter:
    def __init__(self, name: str, convert: "Callable[[str], Any]", several: bool, declared: declare.Parameter) -> None:
        self.name = name
        self.convert = convert
        self.several = several
        self.declared = declared

    def value(self, word: str) -> "Any":
        """The word's value. Raises ValueError if it has none."""
        found = self.convert(word)
        least = self.declared.settings.get("min")
        if least is not None and not found >= least:
            raise ValueError
        return found


def read(app: declare.App, argv: "Sequence[str]", passed_on: list[str]) -> declare.Call | None:
    """The command that `argv` calls, with its values; None if typer has to read it. `passed_on` is for a Context."""
    at = 0
    while at < len(argv) and argv[at] in app.groups:
        app, _ = app.groups[argv[at]]
        at += 1
    command = app.commands.get(argv[at]) if at < len(argv) else None
    if command is None:
        return None
    values: dict[str, Any] = {}
    options: dict[str, tuple[_Parameter, Any]] = {}
    arguments: list[_Parameter] = []
    needed: set[str] = set()
    for name, annotation, default in _parameters(command.function):
        if annotation is declare.Context:
            values[name] = declare.Context(passed_on)
            continue
        kind, declared = annotation.__origin__, annotation.__metadata__[0]
        if kind not in _KINDS:
            return None
        one = _Parameter(name, *_KINDS[kind], declared)
        if default is _NONE:
            needed.add(name)
        else:
            values[name] = one.convert(default) if isinstance(default, int) and one.convert is float else default
        if isinstance(declared, declare.Argument):
            arguments.append(one)
        elif "callback" not in declared.settings:
            _name(one, options)
    try:
        words = _take_options(argv[at + 1 :], options, values)
        whole = _take_arguments(words, arguments, values) and values.keys() >= needed
        return declare.Call(command, values) if whole else None
    except (LookupError, ValueError, StopIteration):
        return None


def _parameters(function: "Callable[..., Any]") -> "Iterator[tuple[str, Any, Any]]":
    """(name, annotation, default) of each; a function made for the options of a table has a signature of its own."""
    if signature := getattr(function, "__signature__", None):
        for one in signature.parameters.values():
            yield one.name, one.annotation, _NONE if one.default is one.empty else one.default
        return
    code, hints = function.__code__, function.__annotations__
    names = code.co_varnames[: code.co_argcount]
    defaults = getattr(function, "__defaults__", None) or ()
    by_name = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    for name in names:
        yield name, hints[name], by_name.get(name, _NONE)


def _name(one: _Parameter, options: "dict[str, tuple[_Parameter, Any]]") -> None:
    """Enter the option's names: those of a flag with the value that they stand for, others with None."""
    for names in one.declared.names:
        on, _, off = names.partition("/")
        options[on] = (one, True if one.convert is bool else None)
        if off:
            options[off] = (one, False)


def _take_options(
    argv: "Sequence[str]", options: "dict[str, tuple[_Parameter, Any]]", values: "dict[str, Any]"
) -> list[str]:
    """Set the values of the options in `argv`; the other words. Raises an error for what is not plain."""
    words: list[str] = []
    rest = iter(argv)
    given: set[str] = set()
    for word in rest:
        if word == "--":
            return [*words, *rest]
        if word[:1] != "-" or word == "-":
            words.append(word)
            continue
        name, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
        one, value = options[name]
        if value is None:
            value = one.value(text if equals else next(rest))
        elif equals:
            raise ValueError
        if one.several:
            value = [*(values[one.name] if one.name in given else ()), value]
        values[one.name] = value
        given.add(one.name)
    return words


def _take_arguments(words: list[str], arguments: list[_Parameter], values: "dict[str, Any]") -> bool:
    """Set the values of the arguments; whether no word is left over."""
    for one in arguments:
        if words:
            values[one.name] = list(map(one.value, words)) if one.several else one.value(words[0])
            words = [] if one.several else words[1:]
    return not words
