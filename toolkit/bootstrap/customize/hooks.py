"""The caller's hooks at four points of a build: programs, or special hooks that copy files.

    setup      before anything is downloaded; the root is nearly empty
    extract    the packages are unpacked, none of their scripts has run
    essential  the required packages are configured, the others not yet unpacked
    customize  all packages are configured; before the stage tidy

They are those of mmdebstrap (mmdebstrap(1), HOOKS). A program runs on the host with the root as $1, in mount and pid
namespaces of its own, in which the root has /proc, /sys and /dev: `chroot "$1" …` works, and leaves no mount and no
process behind.
"""

import os
import re
import shlex
from collections.abc import Callable
from typing import NamedTuple

from toolkit.bootstrap.customize.copy_in_out import Transfer
from toolkit.bootstrap.sandbox import host_program
from toolkit.errors import BuildFailed, CtkError, SystemCall, Usage, reason
from toolkit.kernel.host import HostFacts

# Nothing of the caller's environment is passed on, so that the tree does not depend on it.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "SHELL": "/bin/sh",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
}
_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)  # mmdebstrap's rule for a command that is run without a shell
_TOLD = 60

# name → (fewest arguments, most arguments; 0 is any number)
WORDS = {
    "copy-in": (2, 0),
    "copy-out": (2, 0),
    "sync-in": (2, 2),
    "sync-out": (2, 2),
    "upload": (2, 2),
    "download": (2, 2),
    "tar-in": (2, 2),
    "tar-out": (2, 2),
}


class Build(NamedTuple):
    """The build that the hooks of one stage belong to."""

    target: str
    rootfd: int
    facts: dict[str, str]  # variables for the environment: CTK_SUITE, …
    log_path: str
    emulate: bytes


def check(command: str) -> None:
    """Raise Usage for an invalid hook, before anything is made."""
    word, arguments = _word(command)
    if word:
        fewest, most = WORDS[word]
        if len(arguments) < fewest or (most and len(arguments) > most):
            raise Usage(
                "read the command line",
                because=f"the hook {command!r} has {len(arguments)} paths",
                hint=f"{word} takes " + ("two paths" if most else "the paths to copy, then the destination folder"),
            )
    if not command.strip():
        raise Usage("read the command line", because="a hook is empty")


def run(stage: str, command: str, build: Build, line: Callable[[str], None]) -> None:
    """Run one hook. `line` gets each line of its output. Raises BuildFailed."""
    shown = command if len(command) <= _TOLD else command[: _TOLD - 1] + "…"
    doing = f"run the {stage} hook {shown!r}"
    word, arguments = _word(command)
    if word:
        try:
            _transfer(word, arguments, build.rootfd)
        except CtkError as error:
            because = error.because if isinstance(error, SystemCall) else str(error)
            raise BuildFailed(doing, because=because, hint=error.hint, log=build.log_path) from None
        except RecursionError:
            raise BuildFailed(doing, because="folders are nested too deeply", log=build.log_path) from None
        except OSError as error:
            name = f"{os.fsdecode(error.filename)!r}: " if error.filename else ""
            because = name + reason(error)
            raise BuildFailed(doing, because=because, log=build.log_path) from None
        return
    argv = [command] if _PLAIN.fullmatch(command) or os.access(command, os.X_OK) else ["sh", "-c", command, "sh"]
    if len(argv) == 1 and "/" in command:
        argv = [os.path.abspath(command)]
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    extra = {"SOURCE_DATE_EPOCH": epoch} if epoch else {}
    host_program.run(
        [*argv, build.target],
        doing=doing,
        environment={**_ENVIRONMENT, **build.facts, **extra, "CTK_HOOK": stage, "MMDEBSTRAP_HOOK": stage},
        log_path=build.log_path,
        line=line,
        target="" if stage == "setup" else build.target,
        emulate=build.emulate,
    )


def _word(command: str) -> tuple[str, list[str]]:
    """A special hook and its arguments; "" for a program. Raises Usage for unbalanced quotes."""
    word = command.split(maxsplit=1)[0] if command.strip() else ""
    if word not in WORDS:
        return "", []
    try:
        return word, shlex.split(command)[1:]
    except ValueError as error:
        raise Usage("read the command line", because=f"the hook {command!r}: {str(error).lower()}") from None


def _transfer(word: str, paths: list[str], rootfd: int) -> None:
    transfer = Transfer(rootfd, owners=not HostFacts().in_user_namespace)
    *sources, target = paths
    act: Callable[[str, str], None] = getattr(transfer, word.replace("-", "_"))
    for source in sources:
        act(source, target)
