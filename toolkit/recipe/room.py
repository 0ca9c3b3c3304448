"""What each run of a recipe has for itself: container records, cgroups, an environment, shells with defaults.

A page may use the name `my-cont`, which may also be the name of one of the reader's containers. The page, and above all
its clean-up, must not reach that one. So each run has its own folder of records (CTK_ROOT), and its shells are in its
own cgroup, below or beside which `ctk` makes those of containers.

The player holds a lock (flock(2)) on both of its folders, that of the records and that of its launcher. The kernel
releases it when the process ends, so `ctk gc` recognises what a killed player left.
"""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from toolkit import places
from toolkit.errors import CtkError, InUse, Invalid, reason
from toolkit.kernel import atomic, ours, reading
from toolkit.oci import json_text

CGROUP = "ctk-recipe-"  # followed by the name of its folder of records
LAUNCHER = "ctk-bin-"  # followed by a random string: a folder with only `ctk` in it
_NOTE = ".recipe"  # a container id can't begin with a dot
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The variables of the reader that a step gets: the user, ctk's folders, proxies. All others (TMPDIR, LANG, BASH_ENV,
# functions, PYTHONPATH, …) would make a page behave differently for each reader.
_KEPT = frozenset(
    (
        *("HOME", "USER", "LOGNAME", "SUDO_UID", "SUDO_GID", "SUDO_USER", "TERM", "COLORTERM", "NO_COLOR"),
        *("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
        *("ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    )
)


class Group(Protocol):
    """A cgroup for the run; `place` finds it again. If none can be made, its methods do nothing."""

    place: dict[str, Any]

    def take(self, pid: int, /) -> None:
        """Move a process into it. The first call makes it."""

    def end(self) -> None:
        """End all processes in it or below it, and remove it."""


class NoGroup:
    """No cgroup, for a recipe without containers."""

    def __init__(self, _: str, place: dict[str, Any]) -> None:
        self.place = place

    def take(self, _: int, /) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


MakeGroup = Callable[[str, dict[str, Any]], Group]


def hold(folder: str) -> int:
    """A descriptor of `folder`, locked until it is closed. Raises BlockingIOError if it is locked already, OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def folder_of_rooms(root: str) -> str:
    """The folder with the records of recipe runs, for a reader whose own records are in `root`."""
    return f"{root}-recipes"


def note(records: str) -> dict[str, Any]:
    """The note that a run has written to its folder: `recipe` (its name), `work`, `cgroup`, `stopped`; {} if none."""
    try:
        found = json_text.loads(reading.read(f"{records}/{_NOTE}", owners=(0, os.geteuid())), _NOTE)
    except (OSError, Invalid):
        return {}
    return found if isinstance(found, dict) else {}


def remove(records: str) -> None:
    """Remove the folder of a run if it has no container's record, and after the last run the folder of all runs."""
    if containers(records):
        return
    shutil.rmtree(records, ignore_errors=True)  # only our locks and our note can be left in it
    try:
        os.rmdir(os.path.dirname(records))
    except OSError:
        pass  # other runs have folders in it


def containers(records: str) -> list[str]:
    """The ids of the containers with a record in the folder `records`."""
    try:
        return sorted(entry.name for entry in os.scandir(records) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


class Room:
    """What a run has for itself: made new, or found again by the `facts()` of an earlier call.

    `recipe` is its name, `work` the folder where it is played. `launcher` is the argv that starts ctk, `group` makes a
    cgroup, `undo` removes our folders. Raises InUse if another player uses the same room, CtkError.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        recipe: str,
        work: str,
        *,
        launcher: Sequence[str],
        group: MakeGroup,
        undo: ExitStack,
    ) -> None:
        rooms = folder_of_rooms(places.runtime_root())
        self.records: str = facts.get("records") or f"{rooms}/{os.urandom(4).hex()}"
        self._note = {"recipe": recipe, "work": work, "stopped": False}
        self._launcher = launcher
        doing = f"play {recipe!r}"
        try:
            self._hold(undo)
            self.group = group(CGROUP + os.path.basename(self.records), facts.get("cgroup") or {})
            self._write_note()
            self.environment = self._environment(undo)
        except BlockingIOError:
            raise InUse(doing, because="it is being played just now, in another terminal") from None
        except OSError as error:
            raise CtkError(doing, because=f"{error.filename or self.records!r}: {reason(error)}") from None

    def _hold(self, undo: ExitStack) -> None:
        undo.callback(self._unmake)
        ours.make_private(self.records)
        undo.callback(os.close, hold(self.records))

    def _unmake(self) -> None:
        if not self._note["stopped"]:
            remove(self.records)

    def _write_note(self) -> None:
        atomic.replace(f"{self.records}/{_NOTE}", json.dumps(self._note | {"cgroup": self.group.place}).encode())

    def _environment(self, undo: ExitStack) -> dict[str, str]:
        """The variables of the shells, with this ctk first in PATH, and untranslated messages."""
        folder = tempfile.mkdtemp(prefix=LAUNCHER)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(os.close, hold(folder))
        os.chmod(folder, 0o755)  # a step may run as another user
        path = os.path.join(folder, "ctk")
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in self._launcher)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {words} "$@"\n')
        os.chmod(path, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        kept = {name: text for name, text in os.environ.items() if name in _KEPT or name.startswith("CTK_")}
        # Programs may draw on the reader's terminal; output that is only compared should be plain lines.
        terminal = kept.get("TERM", "") if sys.stdout.isatty() else ""
        own = {"PATH": f"{folder}:{PATH}", "LC_ALL": "C", "TERM": terminal or "dumb", "CTK_ROOT": self.records}
        return {"SHELL": "/bin/bash", **kept, **own}

    def facts(self) -> dict[str, Any]:
        """The values by which a later call finds the same room, for JSON."""
        return {"records": self.records, "cgroup": self.group.place}

    def keep(self) -> None:
        """Leave all as it is for a later call. Raises OSError."""
        self._note["stopped"] = True
        self._write_note()

    def close(self) -> list[str]:
        """Remove everything. Returns the containers that were still there."""
        left = containers(self.records)
        for identity in left:
            words = [*self._launcher, "delete", "--force", identity]
            environment = {**os.environ, "CTK_ROOT": self.records}
            subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.group.end()
        remove(self.records)
        return left


def fresh() -> None:
    """Called in a shell before exec: resets what it would inherit from the reader, except the terminal."""
    os.umask(0o022)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)  # nohup(1) ignores SIGHUP, and an ignored signal is inherited
