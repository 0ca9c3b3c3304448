"""The fast command line parser of the runtime verbs, driven by the table in options.py.

As in runc, an option may be written `--name value`, `--name=value`, `-name value`, and a flag `--name=false`; `--` ends
the options. Options may follow the container's id, except for `exec` and `ps`: their words after the id are for another
program.
"""

from toolkit.errors import Usage
from toolkit.runtime.options import GLOBAL, VERBS, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.runtime.options import Option


class WrongOption(Usage):
    """An option or argument that the verb does not take; `verb` is '' for a global one."""

    def __init__(self, message: str, verb: str = "", *, arguments: bool = False) -> None:
        super().__init__(message)
        self.verb = verb
        self.arguments = arguments  # True: the number of arguments is wrong, not an option


class HelpWanted(Exception):
    """`--help` was among the options of `verb` ('': the global options)."""

    def __init__(self, verb: str = "") -> None:
        super().__init__(verb)
        self.verb = verb


def parse_global(argv: "Sequence[str]") -> "tuple[Options, int]":
    """The global options of `argv` and the index of its verb (len(argv): none). Raises WrongOption, HelpWanted."""
    options = Options()
    rest: list[int] = []
    _parse(options, GLOBAL, argv, 0, "", False, rest)
    return options, rest[0] if rest else len(argv)


def parse_verb(options: Options, argv: "Sequence[str]", verb_at: int) -> None:
    """Read the verb at `argv[verb_at]` and its words into `options`. Raises WrongOption, HelpWanted."""
    verb = argv[verb_at]
    _summary, _arguments, fewest, most, mixed, table = VERBS[verb]
    options.verb = verb
    options.take(table)
    where: list[int] = []
    _parse(options, table, argv, verb_at + 1, verb, mixed, where)
    words = [argv[i] for i in where]
    count = len(words)
    if fewest == most and count != fewest:
        raise WrongOption(f'{options.program}: "{verb}" requires exactly {fewest} argument(s)', verb, arguments=True)
    if count < fewest:
        raise WrongOption(
            f'{options.program}: "{verb}" requires a minimum of {fewest} argument(s)', verb, arguments=True
        )
    if 0 <= most < count:
        raise WrongOption(f'{options.program}: "{verb}" requires a maximum of {most} argument(s)', verb, arguments=True)
    if fewest:
        options.id = words[0]
        options.args = words[1:]
        if not mixed and options.args and options.args[0] == "--":
            del options.args[0]


def _parse(
    options: Options,
    table: "tuple[Option, ...]",
    argv: "Sequence[str]",
    at: int,
    verb: str,
    mixed: bool,
    words: "list[int]",
) -> None:
    """Read options from `argv[at:]`; append the indexes of the other words to `words`."""
    end = len(argv)
    while at < end:
        word = argv[at]
        if len(word) < 2 or word[0] != "-" or (verb == "kill" and words and word[1:].isdigit()):
            words.append(at)
            at += 1
            if mixed:
                continue
            break
        at += 1
        if word == "--":
            break
        name, equals, text = word[2 if word[1] == "-" else 1 :].partition("=")
        for option in table:
            if name == option[0] or (name == option[1] and name):
                break
        else:
            if not verb and name in ("version", "v"):
                raise HelpWanted("--version")
            if name in ("help", "h"):
                raise HelpWanted(verb)
            raise WrongOption(f"flag provided but not defined: -{name}", verb)
        kind = option[2]
        if not equals and kind != "flag":
            if at == end:
                raise WrongOption(f"flag needs an argument: -{name}", verb)
            text = argv[at]
            at += 1
        _set(options, option, text if equals or kind != "flag" else "true", verb)
    words.extend(range(at, end))


def _set(options: Options, option: "Option", text: str, verb: str) -> None:
    name, _short, kind, _default, _metavar, _help = option
    attribute = name.replace("-", "_")
    values = options.__dict__
    options.given.add(name)
    if kind == "value":
        values[attribute] = text
        return
    if kind == "list":
        values[attribute].append(text)
        return
    try:
        if kind == "flag":
            values[attribute] = FLAGS[text]
        elif kind == "int":
            values[attribute] = integer(text)
        elif kind == "ints":
            values[attribute].append(integer(text))
        else:
            values[attribute] = seconds(text)
    except (KeyError, ValueError):
        what, of = ("boolean value", "") if kind == "flag" else ("value", "flag ")
        raise WrongOption(f'invalid {what} "{text}" for {of}-{name}: parse error', verb) from None


FLAGS = {
    "1": True, "t": True, "T": True, "true": True, "TRUE": True, "True": True,
    "0": False, "f": False, "F": False, "false": False, "FALSE": False, "False": False,
}  # fmt: skip
"""A flag's values, as Go's strconv.ParseBool accepts them."""


def integer(text: str) -> int:
    """A decimal integer in ASCII; Python's own int() also accepts "1_000", " 5" and the digits of other scripts."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise ValueError(text)
    return int(text)


_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A duration as Go writes it ("300ms", "1m30s", "0") in seconds. Raises ValueError."""
    sign, rest = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text)
    if rest == "0":
        return 0.0
    total = 0.0
    while rest:
        length = 0
        while length < len(rest) and rest[length] in "0123456789.":
            length += 1
        number, rest = rest[:length], rest[length:]
        length = 0
        while length < len(rest) and rest[length] not in "0123456789.":
            length += 1
        unit, rest = rest[:length], rest[length:]
        if unit not in _UNITS:
            raise ValueError(text)
        total += float(number) * _UNITS[unit]
    if not text:
        raise ValueError(text)
    return sign * total
