"""What one run of a recipe has of its own: container records, cgroups, an environment, a clean start for its shells.

A page says `my-cont`, and so may a container of its reader's. Nothing that the page does, its clean-up least of all,
may reach that one: the records lie in a folder of the run's (CTK_ROOT), and its shells stand in a cgroup of the run's,
below or beside which `ctk` makes those of containers.

The player holds a lock (flock(2)) on both of its folders, that of the records and that of its launcher: the kernel
gives it up with the process, so `ctk gc` knows what a killed player left.
"""

import fcntl
import json
import os
import secrets
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

CGROUP = "ctk-recipe-"  # and the name of its folder of records
LAUNCHER = "ctk-bin-"  # and something random: a folder with nothing but `ctk` in it
_NOTE = ".recipe"  # no container's id begins with a dot
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What a step may know of its reader: who that is, where ctk keeps things, how the network is reached. Everything else
# (TMPDIR, LANG, BASH_ENV, functions, PYTHONPATH, …) would make a page mean something else for each reader.
_KEPT = frozenset(
    (
        *("HOME", "USER", "LOGNAME", "SUDO_UID", "SUDO_GID", "SUDO_USER", "TERM", "COLORTERM", "NO_COLOR"),
        *("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
        *("ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    )
)


class Group(Protocol):
    """A cgroup of the run's own; `place` finds it again. Where the host lets us make none, its methods do nothing."""

    place: dict[str, Any]

    def take(self, pid: int, /) -> None:
        """Put a process into it; it is made at the first call."""

    def end(self) -> None:
        """End what still runs in it or below it, and remove it."""


class NoGroup:
    """No cgroup: what a recipe without containers needs."""

    def __init__(self, _: str, place: dict[str, Any]) -> None:
        self.place = place

    def take(self, _: int, /) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


MakeGroup = Callable[[str, dict[str, Any]], Group]


def hold(folder: str) -> int:
    """A descriptor of `folder` that nobody else holds meanwhile. Raises BlockingIOError if it is held, OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def folder_of_rooms(root: str) -> str:
    """Where the runs of recipes have their records, for a reader whose own are in `root`."""
    return f"{root}-recipes"


def note(records: str) -> dict[str, Any]:
    """What a run wrote down in its folder: `recipe` (how it is called), `work`, `cgroup`, `stopped`; {} for nothing."""
    try:
        found = json_text.loads(reading.read(f"{records}/{_NOTE}", owners=(0, os.geteuid())), _NOTE)
    except (OSError, Invalid):
        return {}
    return found if isinstance(found, dict) else {}


def remove(records: str) -> None:
    """Take the folder of a run away, if no container has a record in it, and that of all runs with the last one."""
    if containers(records):
        return
    shutil.rmtree(records, ignore_errors=True)  # at most locks and a note of ours are left in it
    try:
        os.rmdir(os.path.dirname(records))
    except OSError:
        pass  # other runs have theirs in it


def containers(records: str) -> list[str]:
    """The ids that have a record in the folder `records`."""
    try:
        return sorted(entry.name for entry in os.scandir(records) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


class Room:
    """What a run has of its own, made anew or found again by the `facts()` of an earlier call.

    `recipe` is what it is called, `work` where it is played. `launcher` are the words that start ctk, `group` makes a
    cgroup; `undo` takes our folders away. Raises InUse if somebody plays in the same room, CtkError.
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
        self.records: str = facts.get("records") or f"{rooms}/{secrets.token_hex(4)}"
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
        """The shells' variables, with this very ctk first in PATH, and plain messages."""
        folder = tempfile.mkdtemp(prefix=LAUNCHER)
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(os.close, hold(folder))
        os.chmod(folder, 0o755)  # a step may run as somebody else
        path = os.path.join(folder, "ctk")
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in self._launcher)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {words} "$@"\n')
        os.chmod(path, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        kept = {name: text for name, text in os.environ.items() if name in _KEPT or name.startswith("CTK_")}
        # On the reader's terminal programs may draw; what is only compared should be lines.
        terminal = kept.get("TERM", "") if sys.stdout.isatty() else ""
        own = {"PATH": f"{folder}:{PATH}", "LC_ALL": "C", "TERM": terminal or "dumb", "CTK_ROOT": self.records}
        return {"SHELL": "/bin/bash", **kept, **own}

    def facts(self) -> dict[str, Any]:
        """What finds the same room again, as JSON can hold it."""
        return {"records": self.records, "cgroup": self.group.place}

    def keep(self) -> None:
        """Leave all as it is for a later call. Raises OSError."""
        self._note["stopped"] = True
        self._write_note()

    def close(self) -> list[str]:
        """Take everything away; the containers that were still there."""
        left = containers(self.records)
        for identity in left:
            words = [*self._launcher, "delete", "--force", identity]
            environment = {**os.environ, "CTK_ROOT": self.records}
            subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.group.end()
        remove(self.records)
        return left


def fresh() -> None:
    """In a shell that is about to start: nothing of how its reader's own is set up but its terminal."""
    os.umask(0o022)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)  # nohup(1) ignores the first, and what is ignored stays so in a program
