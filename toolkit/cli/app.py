"""The `ctk` command line. The runtime verbs are handled earlier (toolkit/__main__.py), but the help lists them too."""

import codecs
import errno
import gc
import io
import locale
import os
import sys
from typing import Annotated, NoReturn

import typer

from toolkit import __version__
from toolkit.cli import both_doors, commands, complete, foreign_words, output, pages, signals
from toolkit.errors import CtkError, HostLacks, Usage, reason
from toolkit.runtime.options import Options
from toolkit.ui import failure
from toolkit.ui import help as help_pages

# typer bundles its own copy of click since 0.20 and imported the installed one before; its public names lead to both.
_ClickError = typer.BadParameter.__mro__[2]
_Aborted = typer.Abort
_INTERRUPTED = 130
_LOST_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # errors of write(2) that lose output


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


def application(command: str = "") -> pages.App:
    """The command line with all its commands, or with as few as the one called `command` comes with."""
    app = pages.App(
        name="ctk",
        help="From a Debian or Ubuntu suite name to a running OCI container, and every layer in between.",
        epilog="Start here: sudo ctk up bookworm my-cont         (a shell in a new container)\n"
        "Learn:      sudo ctk recipe run first-container  (the same, step by step)",
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global)
    commands.register(app, command)
    return app


def main(told: Options | None = None) -> NoReturn:
    """Run the command line in `sys.argv` and exit; `told` has the options of a `run --explain`."""
    gc.enable()  # the runtime's door had switched it off
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Our text has characters, such as the check mark, that the locale's encoding may lack.
            stream.reconfigure(encoding=_of_terminals(), errors="replace")
    sys.exit(run(sys.argv[1:], told))


def _has_folder() -> bool:
    """Whether the current folder still exists. It asks for the name, because stat(".") works in a removed one too."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _of_terminals() -> str:
    encoding = locale.getencoding()
    return "utf-8" if codecs.lookup(encoding).name == "ascii" else encoding  # C, where Python itself says UTF-8


def run(argv: list[str], told: Options | None = None) -> int:
    """Run a command line and return its exit code. Errors are reported on stderr."""
    if not argv and "_CTK_COMPLETE" not in os.environ:
        output.out(help_pages.first_day(root=os.geteuid() == 0))
        return 0
    if argv[:1] in (["help"], ["h"]):
        argv = [*argv[1:], "--help"]
    caught = signals.Caught()
    try:
        argv, passed_on = both_doors.taken(argv)
        argv = complete.with_shell(argv)
        with signals.as_exceptions() as caught:
            if told is None:
                command = "" if "_CTK_COMPLETE" in os.environ else "".join(argv[:1])
                code = application(command)(argv, prog_name="ctk", standalone_mode=False, obj=passed_on)
            else:
                from toolkit.cli import explain

                code = explain.of_run(told)
            sys.stdout.flush()
        # typer turns a KeyboardInterrupt into an exit code, or (before 0.20) into Abort.
        return _interrupted(caught) if code == _INTERRUPTED else int(code or 0)
    except CtkError as error:
        both_doors.note(error)
        failure.show(error, stream=sys.stderr)
        from toolkit.cli import care

        care.advise(error)
        return error.exit_code
    except (KeyboardInterrupt, _Aborted):
        return _interrupted(caught)
    except BrokenPipeError:
        # The reader went away (`ctk recipe list | head`): nothing more to say, and nowhere to say it.
        _drop_output()
        return 141
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename is None and not _has_folder():
            gone = CtkError("find the current folder", because="it was removed", hint="cd to one that exists")
            failure.show(gone, stream=sys.stderr)
            return gone.exit_code
        if error.filename is not None or error.errno not in _LOST_OUTPUT:
            raise
        _drop_output()
        lost = CtkError("write the output", because=reason(error), hint="send it somewhere else")
        failure.show(lost, stream=sys.stderr)
        return lost.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("toolkit"):
            raise
        because = f"{sys.executable} has no Python package {error.name!r}"
        lacks = HostLacks(" ".join(["run ctk", *argv[:1]]), because=because, hint="ctk doctor --for bootstrap")
        failure.show(lacks, stream=sys.stderr)
        return lacks.exit_code
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:
        if not isinstance(error, _ClickError):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(getattr(error, "message", ""))  # it is the help
            return 0
        failure.show(_usage(error), stream=sys.stderr)
        return 1


def _drop_output() -> None:
    """Send standard output to /dev/null: Python flushes its buffer when it exits, and that must not fail again."""
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


def _interrupted(caught: signals.Caught) -> int:
    output.err("ctk: interrupted\n")
    return 128 + caught.number


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
