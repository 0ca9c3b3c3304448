"""argv of the runtime verbs: parse, carry out, exit.

An engine calls this several times a container, so it imports only what the verb needs, switches the garbage collector
off (a verb runs for milliseconds) and exits by `os._exit`, which skips the interpreter's tear-down.

Errors are printed in runc's form, because engines parse it: a log line of level error on standard error or in
`--log FILE` (then the bare message on standard error too), exit code 1, or 255 for `exec`. A user at a terminal gets
ctk's own form with a hint instead.
"""

import gc
import os
import sys

from toolkit import preload
from toolkit.errors import CtkError, bounded, reason
from toolkit.runtime import argv as command_line
from toolkit.runtime import log
from toolkit.runtime.options import OF_IMAGE, VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from toolkit.runtime.options import Options

_advice: "Callable[[Exception], str] | None" = None
_from_image: "Callable[[Options], Callable[[], None]] | None" = None


def main(
    argv: "Sequence[str]",
    advice: "Callable[[Exception], str] | None" = None,
    from_image: "Callable[[Options], Callable[[], None]] | None" = None,
) -> "Options | None":
    """Carry out a runtime verb and exit; return if `argv` is not for the runtime.

    Returns the options of a `run` that is to be explained and not carried out (--explain), else None.
    `advice` returns text to print after an error on a terminal (what is wrong with the host). `from_image` makes the
    bundle for `run --image` and changes the options so that they name it; what it returns is called at the end.
    """
    global _advice, _from_image
    _advice, _from_image = advice, from_image
    # scripts/ctk passes its own argv[0] in this variable; no program that we start should see it.
    program = log.program_name(os.environ.pop("CTK_ARGV0", "") or sys.argv[0])
    alone = program == "runc"  # if we are called as runc, there is no second door
    try:
        options, verb_at = command_line.parse_global(argv)
        options.program = program
    except command_line.HelpWanted as wanted:
        if wanted.verb == "--version":
            _print_version(program)
        if not alone and argv[0] in ("--help", "-h"):
            return None  # an option of the whole command; after a runtime option it belongs to the runtime
        _help(program, "")
    except command_line.WrongOption as error:
        if not alone:
            return None
        _wrong_usage(error, program)
    if verb_at == len(argv):
        if not alone:
            return None
        _help(program, "")
    verb = argv[verb_at]
    if alone and not verb:
        _help(program, "")
    if verb not in VERBS:
        if verb in ("help", "h") and verb_at + 1 < len(argv) and argv[verb_at + 1] in VERBS:
            _help(program, argv[verb_at + 1])
        if not alone:
            return None
        if verb in ("help", "h") and verb_at + 1 == len(argv):
            _help(program, "")
        _unknown(argv[verb_at + 1] if verb in ("help", "h") else verb)
    try:
        command_line.parse_verb(options, argv, verb_at)
    except command_line.HelpWanted:
        if verb == "spec" and not alone:
            return None  # the other options of `spec` belong to the bundle builder
        _help(program, verb)
    except command_line.WrongOption as error:
        if verb == "spec" and not alone:
            return None
        _start_log(options)
        _wrong_usage(error, program)
    if verb == "spec" and verb_at == 0 and not alone and not options.rootless and os.geteuid():
        return None  # an ordinary user gets a rootless spec, from the bundle builder
    if verb == "run" and options.explain:
        return options
    _start_log(options)
    gc.freeze()
    return _exit(_carry_out(options))


def _carry_out(options: "Options") -> int:
    try:
        settle(options)
        if options.verb == "run" and (options.given & OF_IMAGE or options.image or (options.rm and options.lower)):
            return _run_image(options)
        preload.load("toolkit.runtime.verbs." + options.verb)
        module = __import__("toolkit.runtime.verbs." + options.verb, None, None, ("run",))
        code: int = module.run(options)
        return code
    except CtkError as error:
        return _failed(error, options)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # A file of the host could not be read or written: not a bug, though no verb expected it.
        if options.debug:
            sys.excepthook(type(error), error, error.__traceback__)
        return _failed(CtkError(_where(error), because=reason(error)), options)
    except Exception as error:
        log.error(f"internal error: {type(error).__name__}: {error}")
        sys.excepthook(type(error), error, error.__traceback__)
        return 255 if options.verb == "exec" else 1


def _run_image(options: "Options") -> int:
    from toolkit.errors import Usage

    preload.load(preload.RUN)
    from toolkit.runtime.verbs import run

    if _from_image is None:
        raise Usage("run an image", because="this program was called as a mere runtime", hint="call it as ctk")
    after = _from_image(options)
    try:
        return run.run(options)
    finally:
        after()


def _where(error: OSError) -> str:
    names = [os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes))]
    return " -> ".join(names) or "system call"


def settle(options: "Options") -> None:
    """Check the global options and fill in what depends on the environment. Raises CtkError."""
    if options.log_format not in ("", "text", "json"):
        raise CtkError(f"invalid log-format: {options.log_format}", hint="use 'text' or 'json'")
    if options.rootless not in ("", "auto", True, False) and options.rootless not in command_line.FLAGS:
        raise CtkError(f"invalid value {options.rootless!r} for --rootless", hint="use 'auto', 'true' or 'false'")
    manager = options.cgroup_manager
    if manager == "systemd":
        options.systemd_cgroup = True
    elif manager not in ("", "cgroupfs", "disabled"):
        raise CtkError(f"unknown cgroup manager {manager!r}", hint="use 'cgroupfs', 'systemd' or 'disabled'")
    if "root" in options.given:
        options.root = os.path.abspath(options.root)
        if options.root == "/":
            raise CtkError("option --root argument should not be set to /", hint="name a folder, as /run/ctk")
    else:
        from toolkit import places

        options.root = places.runtime_root()


def _start_log(options: "Options") -> None:
    try:
        log.configure(options)
    except OSError as error:
        because = reason(error)
        _exit(_failed(CtkError(f"open {options.log}", because=because), options))


def _failed(error: CtkError, options: "Options") -> int:
    """Report an expected failure; returns its exit code."""
    verb = options.verb
    message = str(error)
    code = error.exit_code
    if verb == "exec":
        message = "exec failed: " + message
        if code == 1:
            code = 255
    elif verb in ("create", "run"):
        if options.program == "runc" and message.startswith("mount "):
            # runc's exact words: a caller that uses this name may look for them.
            message = f"unable to start container process: error during container init: error mounting {message[6:]}"
        if log.structured():
            message = f"{options.program} {verb} failed: {message}"
        if options.id in VERBS and not os.path.exists(os.path.join(options.bundle or ".", "config.json")):
            error.hint = f"{options.id!r} is a verb: did you mean `{options.program} {options.id}`?"
    if log.structured():
        log.error(message)
        if log.to_file():
            log.say(message + "\n")
    else:
        log.say(f"{options.program}: {message}\n")
        if error.hint:
            log.say(f"hint: {bounded(error.hint)}\n")
        if _advice is not None:
            log.say(_advice(error))
    return code


def _wrong_usage(error: "command_line.WrongOption", program: str) -> "NoReturn":
    from toolkit.runtime import help as help_text

    if program != "runc" and (not log.structured() or help_text.is_another_tools(error)):
        # On a terminal runc's page of help would hide the error, and no engine uses Docker's options (-it).
        words = bounded(str(error).removeprefix(f"{program}: "))
        log.say(f"{program}: {words}\nhint: {help_text.advice(error, program)}\n")
        _exit(1)
    # A colon after a verb, a full stop before it: as in runc's command-line library.
    first = "Incorrect Usage.\n\n"
    if not error.arguments:
        first = f"Incorrect Usage{':' if error.verb else '.'} {bounded(str(error))}\n\n"
    _print(first + help_text.render(program, error.verb), program)
    log.error(str(error))
    if log.to_file():
        log.say(f"{bounded(str(error))}\n")
    _exit(1)


def _unknown(verb: str) -> "NoReturn":
    log.error(f"No help topic for '{verb}'")
    _exit(3)  # runc's, from its command-line library


def _help(program: str, verb: str) -> "NoReturn":
    from toolkit.runtime import help as help_text

    _print(help_text.render(program, verb, _columns(program)), program)
    _exit(0)


def _columns(program: str) -> int:
    """The width of a page of help; 0 for runc's own form, or if it does not go to a terminal."""
    if program == "runc" or not os.isatty(1):
        return 0
    try:
        return min(os.get_terminal_size(1).columns or 80, 100)
    except OSError:
        return 80


def _print_version(program: str) -> "NoReturn":
    from toolkit.runtime import help as help_text

    _print(help_text.version(program), program)
    _exit(0)


def _print(text: str, program: str) -> None:
    """Write the text of --help or --version; exits if that fails."""
    try:
        log.out(text)
    except CtkError as error:
        log.say(f"{program}: {error}\n")
        _exit(1)


def _exit(code: int) -> "NoReturn":
    if preload.stale():
        from toolkit import precompile

        precompile.write()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                pass
    os._exit(code)
