"""What a command takes, as its function's signature says it: read without typer (plain.py), or with it (pages.py).

The settings are typer's (`typer.Option`, `typer.Argument`, `typer.Typer`), which takes a tenth of a second to import.
Nor is `typing` imported for an everyday command: with re, enum, functools and collections it takes as long as Python's
own start.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Annotated as Annotated
    from typing import Any, TypeVar

    _F = TypeVar("_F", bound=Callable[..., Any])
else:

    class Annotated:
        """`typing.Annotated` as far as a declaration needs it: `Annotated[TYPE, OPTION]`, with the same attributes."""

        def __init__(self, origin, *metadata):
            self.__origin__ = origin
            self.__metadata__ = metadata

        def __class_getitem__(cls, words):
            return cls(*words)


class Parameter:
    """One parameter: the `names` on the command line, and typer's settings for it."""

    def __init__(self, *names: str, **settings: "Any") -> None:
        self.names = names
        self.settings = settings


class Option(Parameter):
    """An option; it has names: `--force`, `-f`, or `--init/--no-init`."""


class Argument(Parameter):
    """A word at its place."""


class Context:
    """A parameter of this type gets the runtime's global options, to pass on to a ctk that the command starts."""

    def __init__(self, obj: list[str]) -> None:
        self.obj = obj  # typer's name for it: its own context has the options there, too


DRAWN = "drawn"


class Command:
    """A function that is a command, and typer's settings for it.

    `libraries`: it may import installed libraries; DRAWN: it does so for a terminal only.
    """

    def __init__(self, function: "Callable[..., Any]", settings: "dict[str, Any]", libraries: bool | str) -> None:
        self.function = function
        self.settings = settings
        self.libraries = libraries


class App:
    """Commands and groups of commands by their names, in the order of the help, and typer's settings for the whole."""

    def __init__(self, **settings: "Any") -> None:
        self.settings = settings
        self.commands: dict[str, Command] = {}
        self.groups: dict[str, tuple[App, dict[str, Any]]] = {}

    def command(self, name: str, *, libraries: bool | str = True, **settings: "Any") -> "Callable[[_F], _F]":
        """A decorator that adds a function as a command."""

        def add(function: "_F") -> "_F":
            self.commands[name] = Command(function, settings, libraries)
            return function

        return add

    def add_group(self, group: "App", *, name: str, **settings: "Any") -> None:
        """Add a group of commands."""
        self.groups[name] = (group, settings)


class Call:
    """A command line that was read: the command, and the values of its parameters."""

    def __init__(self, command: Command, values: "dict[str, Any]") -> None:
        self.command = command
        self.values = values
