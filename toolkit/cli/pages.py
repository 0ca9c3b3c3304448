"""The help pages of typer's commands, in our own layout: typer cuts names at 80 columns and draws wide boxes."""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer import core

from toolkit.cli import declare
from toolkit.runtime.options import GLOBAL
from toolkit.ui import help as help_pages


def page(context: Any) -> help_pages.Page:
    """The help page of the context's command, from typer's description of it."""
    command = context.command
    sections: dict[str, list[tuple[str, str]]] = {}
    arguments = [one for one in command.get_params(context) if one.param_type_name == "argument"]
    words = [_argument(one) for one in arguments]
    if shown := [(word, _about(one)) for word, one in zip(words, arguments, strict=True) if one.help]:
        sections["Arguments"] = shown
    inner = [] if not hasattr(command, "list_commands") else command.list_commands(context)
    for name in inner:
        one = command.get_command(context, name)
        if one is not None and not one.hidden:
            title = getattr(one, "rich_help_panel", None)
            summary = " ".join((one.help or "").split("\n\n")[0].split())
            sections.setdefault(title if isinstance(title, str) else "Commands", []).append((name, summary))
    options: dict[str, list[tuple[str, str]]] = {}
    for one in command.get_params(context):
        if one.param_type_name == "option" and not one.hidden:
            title = getattr(one, "rich_help_panel", None)
            options.setdefault(title if isinstance(title, str) else "Options", []).append((names(one), _about(one)))
    last = {"Options": options.pop("Options")} if "Options" in options else {}
    if context.parent is None and inner:
        last["Before the command"] = [(_runtimes(one), one[5][:1].upper() + one[5][1:] + ".") for one in GLOBAL]
    rows = [*sections.items(), *options.items(), *last.items()]
    return help_pages.Page(
        usage=" ".join([context.command_path, "[OPTIONS]", *words, *(["COMMAND …"] if inner else [])]),
        text=command.help or "",
        sections=tuple(help_pages.Section(title, tuple(found)) for title, found in rows),
        example=command.epilog or "",
    )


def _runtimes(option: Any) -> str:
    name, short, _, _, metavar, _ = option
    return f"--{name}" + (f", -{short}" if short else "") + (f" {metavar}" if metavar else "")


def names(option: Any) -> str:
    """'--volume, -v SRC:DST[:ro]': all names of an option, and its value."""
    flag = getattr(option, "is_flag", False) or getattr(option, "count", False)
    value = "" if flag else " " + (option.metavar or option.name.upper())
    # The long name first, as everywhere: click keeps --help's names in a set, whose order changes from run to run.
    opts = sorted(option.opts, key=lambda name: not name.startswith("--"))
    return ", ".join([*opts, *option.secondary_opts]) + value


def _argument(argument: Any) -> str:
    word = str(argument.metavar or argument.name.upper())
    if not argument.required and not word.startswith("["):
        word = f"[{word}]"
    return word + ("…" if argument.nargs == -1 and "…" not in word else "")


def _about(parameter: Any) -> str:
    text = parameter.help or ""
    default = _default(parameter)
    return f"{text} [default: {default}]" if default else text


def _default(parameter: Any) -> str:
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    default = parameter.default
    if not parameter.show_default or parameter.required or callable(default) or default in (None, "", (), []):
        return ""
    if isinstance(default, bool):
        on, off = parameter.opts, parameter.secondary_opts
        return (on if default else off)[0].lstrip("-") if off else ""
    return str(default)


def _text(context: Any) -> str:
    bold = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    return help_pages.rendered(page(context), help_pages.width(), bold=bold)


class Command(core.TyperCommand):
    """A command with our help page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(_text(ctx))


class Group(core.TyperGroup):
    """A group of commands with our help page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page."""
        formatter.write(_text(ctx))


def application(app: declare.App, called: str = "") -> typer.Typer:
    """The same for typer. What it returns for a command line is a declare.Call.

    If only one command is `called`, the others have no parameters: typer takes long to make those, and a list of
    commands does not show them.
    """
    made = typer.Typer(cls=Group, rich_markup_mode=None, **app.settings)
    for name, command in app.commands.items():
        make = _returning_call if called in ("", name) else _listed
        made.command(name, cls=Command, **command.settings)(make(command))
    for name, (group, settings) in app.groups.items():
        made.add_typer(application(group, "" if called == name else called), name=name, cls=Group, **settings)
    return made


def _listed(command: declare.Command) -> Callable[[], None]:
    """A function with the command's description, and without its parameters."""

    def call() -> None:
        raise AssertionError(f"{command.function.__name__!r} was called, and not made")

    call.__doc__, call.__name__ = command.function.__doc__, command.function.__name__
    return call


def _returning_call(command: declare.Command) -> Callable[..., declare.Call]:
    """A function with the signature of the command's, for typer."""
    function = command.function

    def call(**values: Any) -> declare.Call:
        return declare.Call(command, values)

    signature = inspect.signature(function)
    every = [
        one.replace(kind=one.KEYWORD_ONLY, annotation=_typers(one.annotation)) for one in signature.parameters.values()
    ]
    call.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in every}
    call.__doc__, call.__name__ = function.__doc__, function.__name__
    return call


def _typers(annotation: Any) -> Any:
    """The annotation with typer's option or argument, or typer's context."""
    if annotation is declare.Context:
        return typer.Context
    declared = annotation.__metadata__[0]
    made = typer.Option if isinstance(declared, declare.Option) else typer.Argument
    return Annotated[annotation.__origin__, made(*declared.names, **declared.settings)]
