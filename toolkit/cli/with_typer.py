"""The command line by typer: help, completion, mistakes, and whatever plain.py leaves to it."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from toolkit import __version__
from toolkit.cli import commands, declare, foreign_words, pages
from toolkit.errors import Usage
from toolkit.runtime.options import VERBS

# typer bundles its own copy of click since 0.20 and imported the installed one before; its public names lead to both.
_ClickError = typer.BadParameter.__mro__[2]
_INTERRUPTED = 130


def read(argv: Sequence[str], passed_on: list[str]) -> declare.Call | int:
    """What `argv` calls, or an exit code if typer has carried it out (--help). `passed_on` is for a Context.

    Raises Usage for a mistake, KeyboardInterrupt.
    """
    try:
        found = application(_called(argv))(list(argv), prog_name="ctk", standalone_mode=False, obj=passed_on)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if not isinstance(error, _ClickError):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(getattr(error, "message", ""))  # it is the help
            return 0
        raise _usage(error) from None
    if found == _INTERRUPTED:  # typer turns a KeyboardInterrupt into an exit code, or (before 0.20) into Abort
        raise KeyboardInterrupt
    return found if isinstance(found, declare.Call) else int(found or 0)


def _called(argv: Sequence[str]) -> str:
    """The command that `argv` or the words before a Tab call; a word that is none lists all; '' if it can't be told."""
    if "_CTK_COMPLETE" in os.environ:
        return _called_before_tab(os.environ)
    if len(argv) > 1 and argv[0].startswith("-"):
        return ""  # what follows `--` may be a command
    return argv[0] if argv else "--help"


def _called_before_tab(environment: Mapping[str, str]) -> str:
    # typer's variables: bash has the words in COMP_WORDS and COMP_CWORD, zsh and fish have them in the other.
    typed = environment.get("COMP_WORDS") or environment.get("_TYPER_COMPLETE_ARGS", "")
    words = typed.split()[1:]
    if environment.get("COMP_CWORD") == "1" or len(words) + typed[-1:].isspace() < 2:
        return "--help"  # it is the command that is being typed
    return words[0] if commands.known(words[0]) or words[0] in VERBS else ""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ctk version {__version__}")
        raise typer.Exit


def _global(
    _: Annotated[
        bool, typer.Option("--version", "-v", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def application(command: str = "") -> typer.Typer:
    """The command line with all its commands, or with as few as the one called `command` comes with.

    The parameters of other commands are left out; a `command` that there is not leaves out those of all.
    """
    app = declare.App(
        name="ctk",
        help="From a Debian or Ubuntu suite name to a running OCI container, and every layer in between.",
        epilog="Start here: sudo ctk up bookworm my-cont         (a shell in a new container)\n"
        "Learn:      sudo ctk recipe run first-container  (the same, step by step)",
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands.register(app, command)
    made = pages.application(app, command)
    made.callback()(_global)
    return made


def _usage(error: Exception) -> Usage:
    """typer's error about the command line, as one of ours."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "ctk"
    message = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    hint = f"see {where} --help"
    head, marker, rest = message.partition(" Did you mean ")
    if marker:
        message, hint = head.rstrip("."), f"did you mean {rest.rstrip('?')}? {hint}"
    head, marker, rest = message.partition(" (Possible options: ")
    if marker:
        message, hint = head, f"did you mean {rest.rstrip(')')}? {hint}"
    because = _lower(message)
    option = getattr(error, "option_name", "")
    if option and where == "ctk bootstrap":
        from toolkit.bootstrap.compat.foreign_options import instead

        hint = instead(option) or hint
    if option:
        hint = foreign_words.option(where.removeprefix("ctk").strip(), option) or hint
    if message.startswith("No such command "):
        word = message.removeprefix("No such command ").strip("'")
        hint = foreign_words.instead(word, where.removeprefix("ctk").strip()) or hint
        # runc's message, capital letter included: programs that drive a runtime look for it.
        if not sys.stderr.isatty():
            because += f" (No help topic for {message.removeprefix('No such command ')})"
    elif message.startswith("Missing argument ") and context is not None:
        example = (context.command.epilog or "").splitlines()[:1]
        hint = "".join(f"as in {one.removeprefix('Example: ')}; " for one in example if one.startswith("Ex")) + hint
    return Usage(f"read the command line of {where!r}", because=because, hint=hint)


def _lower(message: str) -> str:
    message = message.replace('"', "'")  # typer's own words use both
    return message[:1].lower() + message[1:]
