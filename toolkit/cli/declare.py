"""What a command takes, as its function's signature says it: read without typer (plain.py), or with it (pages.py).

The settings are typer's (`typer.Option`, `typer.Argument`, `typer.Typer`), which takes a tenth of a second to import.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


class Parameter:
    """One parameter: the `names` on the command line, and typer's settings for it."""

    def __init__(self, *names: str, **settings: Any) -> None:
        self.names = names
        self.settings = settings


class Option(Parameter):
    """An option; it has names: `--force`, `-f`, or `--init/--no-init`."""


class Argument(Parameter):
    """A word at its place."""


class Context(Protocol):
    """A parameter of this type gets the runtime's global options, to pass on to a ctk that the command starts."""

    @property
    def obj(self) -> list[str]:
        """The options, as words."""


class Command(NamedTuple):
    """A function that is a command, and typer's settings for it. `libraries`: it may import installed libraries."""

    function: Callable[..., Any]
    settings: dict[str, Any]
    libraries: bool


class App:
    """Commands and groups of commands by their names, in the order of the help, and typer's settings for the whole."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.commands: dict[str, Command] = {}
        self.groups: dict[str, tuple[App, dict[str, Any]]] = {}

    def command(self, name: str, *, libraries: bool = True, **settings: Any) -> Callable[[_F], _F]:
        """A decorator that adds a function as a command."""

        def add(function: _F) -> _F:
            self.commands[name] = Command(function, settings, libraries)
            return function

        return add

    def add_group(self, group: "App", *, name: str, **settings: Any) -> None:
        """Add a group of commands."""
        self.groups[name] = (group, settings)


class Call(NamedTuple):
    """A command line that was read: the command, and the values of its parameters."""

    command: Command
    values: dict[str, Any]
