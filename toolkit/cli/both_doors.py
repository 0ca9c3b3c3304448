"""The runtime's global options before a command of ours: `ctk --root DIR logs ID`.

`--root` holds for this process and for every ctk that it starts. The other options are passed on by the commands that
make containers (`up`, `restart`). Errors are also written to `--log`, as the runtime does.
"""

import os

from toolkit.errors import CtkError, reason
from toolkit.runtime import argv as command_line
from toolkit.runtime import log, main
from toolkit.runtime.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PASSED_ON = ("debug", "log", "log-format", "systemd-cgroup", "cgroup-manager", "criu", "rootless")


def taken(argv: "Sequence[str]") -> tuple[list[str], list[str]]:
    """Apply the global options in `argv`; (the rest, from the command on; those to pass on to a ctk that we start).

    Raises CtkError for a bad value.
    """
    try:
        options, at = command_line.parse_global(argv)
    except (command_line.HelpWanted, command_line.WrongOption):
        return list(argv), []  # an option of our own, or a mistake that typer reports
    if not options.given or at == len(argv):
        return list(argv), []
    main.settle(options)
    if "root" in options.given:
        os.environ["CTK_ROOT"] = options.root
    if options.given & {"log", "log-format"}:
        try:
            log.configure(options)
        except OSError as error:
            raise CtkError(f"open {options.log!r}", because=reason(error)) from None
    return list(argv[at:]), _words(options)


def _words(options: Options) -> list[str]:
    return [f"--{name}={_text(options.value(name))}" for name in _PASSED_ON if name in options.given]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def note(error: CtkError) -> None:
    """Write the error to `--log FILE`, if one was given."""
    if log.to_file():
        log.error(str(error))
