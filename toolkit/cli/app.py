"""The `ctk` command line. The runtime verbs are handled earlier (toolkit/__main__.py), but the help lists them too."""

import atexit
import codecs
import errno
import gc
import io
import os
import sys
from _locale import getencoding

from toolkit import preload
from toolkit.cli import both_doors, commands, declare, libraries, output, plain, signals
from toolkit.errors import CtkError, HostLacks, reason
from toolkit.runtime.options import Options
from toolkit.ui import failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_LOST_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # errors of write(2) that lose output


def main(told: Options | None = None) -> "NoReturn":
    """Run the command line in `sys.argv` and exit; `told` has the options of a `run --explain`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Our text has characters, such as the check mark, that the locale's encoding may lack.
            stream.reconfigure(encoding=_of_terminals(), errors="replace")
    _exit(run(sys.argv[1:], told))


def _exit(code: int) -> "NoReturn":
    """Exit; without taking the interpreter apart, which takes milliseconds, if nobody asked to be told of its end."""
    if preload.stale():
        from toolkit import precompile

        precompile.write()
    threading = sys.modules.get("threading")
    if atexit._ncallbacks() or (threading is not None and threading.active_count() > 1):
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                sys.exit(code)  # Python says what it says
    os._exit(code)


def _has_folder() -> bool:
    """Whether the current folder still exists. It asks for the name, because stat(".") works in a removed one too."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _of_terminals() -> str:
    encoding = getencoding()  # locale's own; that module imports re
    return "utf-8" if codecs.lookup(encoding).name == "ascii" else encoding  # C, where Python itself says UTF-8


def run(argv: list[str], told: Options | None = None) -> int:
    """Run a command line and return its exit code. Errors are reported on stderr."""
    if not argv and "_CTK_COMPLETE" not in os.environ:
        from toolkit.ui import help as help_pages

        output.out(help_pages.first_day(root=os.geteuid() == 0))
        return 0
    if argv[:1] in (["help"], ["h"]):
        argv = [*argv[1:], "--help"]
    caught = signals.Caught()
    try:
        argv, passed_on = both_doors.taken(argv)
        with signals.as_exceptions() as caught:
            try:
                code = _explained(told) if told is not None else _carried_out(argv, passed_on)
            except SystemExit as leaving:
                code = leaving.code if isinstance(leaving.code, int) else 1
            sys.stdout.flush()
        return code
    except CtkError as error:
        both_doors.note(error)
        failure.show(error, stream=sys.stderr)
        from toolkit.cli import care

        care.advise(error)
        return error.exit_code
    except (KeyboardInterrupt, EOFError):
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
        hint = "ctk doctor --for bootstrap"
        if error.name == "typer":
            # The launcher took another Python, because this user may not enter the folder that holds ours.
            hint = "install ctk for that Python, or let this user run the one that has it"
        lacks = HostLacks(" ".join(["run ctk", *argv[:1]]), because=because, hint=hint)
        failure.show(lacks, stream=sys.stderr)
        return lacks.exit_code


def _carried_out(argv: list[str], passed_on: list[str]) -> int:
    """Read the command line and run its command; the exit code, unless the command leaves by SystemExit."""
    found = _read(argv, passed_on)
    if isinstance(found, int):
        return found
    wanted = found.command.libraries
    if wanted is True or (wanted == declare.DRAWN and sys.stdout.isatty()):
        libraries.add()
    preload.load_for(found.command.function)
    gc.freeze()  # what has been imported stays
    gc.enable()
    found.command.function(**found.values)
    return 0


def _read(argv: list[str], passed_on: list[str]) -> declare.Call | int:
    if "_CTK_COMPLETE" not in os.environ and commands.known("".join(argv[:1])):
        app = declare.App()
        commands.register(app, argv[0])
        if found := plain.read(app, argv, passed_on):
            return found
    libraries.add()
    from toolkit.cli import complete, with_typer

    if "_CTK_COMPLETE" in os.environ:
        complete.leave_rich_out()
    return with_typer.read(complete.with_shell(argv), passed_on)


def _explained(told: Options) -> int:
    libraries.add()
    gc.enable()
    from toolkit.cli import explain

    return explain.of_run(told)


def _drop_output() -> None:
    """Send standard output to /dev/null: Python flushes its buffer when it exits, and that must not fail again."""
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


def _interrupted(caught: signals.Caught) -> int:
    output.err("ctk: interrupted\n")
    return 128 + caught.number
