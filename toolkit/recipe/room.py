"""What one run of a recipe has of its own: container records, cgroups, an environment, a clean start for its shells.

A page says `my-cont`, and so may a container of its reader's. Nothing that the page does, its clean-up least of all,
may reach that one: the records lie in a folder of the run's (CTK_ROOT), and its shells stand in a cgroup of the run's,
below or beside which `ctk` makes those of containers.
"""

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

_NAME = "ctk-recipe-"
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


class Room:
    """What a run has of its own, made anew or found again by the `facts()` of an earlier call.

    `launcher` are the words that start ctk, `group` makes a cgroup; `undo` takes the folder with our launcher away.
    """

    def __init__(self, facts: dict[str, Any], launcher: Sequence[str], group: MakeGroup, undo: ExitStack) -> None:
        name = secrets.token_hex(4)
        self.records: str = facts.get("records") or f"{places.runtime_root()}-recipes/{name}"
        self.group = group(_NAME + os.path.basename(self.records), facts.get("cgroup") or {})
        self._launcher = launcher
        self.environment = self._environment(undo)

    def _environment(self, undo: ExitStack) -> dict[str, str]:
        """The shells' variables, with this very ctk first in PATH, and plain messages."""
        folder = tempfile.mkdtemp(prefix="ctk-bin-")
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        os.chmod(folder, 0o755)  # a step may run as somebody else
        path = os.path.join(folder, "ctk")
        words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in self._launcher)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {words} "$@"\n')
        os.chmod(path, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        kept = {name: text for name, text in os.environ.items() if name in _KEPT or name.startswith("CTK_")}
        # On the reader's terminal programs may draw; what is only compared should be lines.
        terminal = kept.get("TERM", "") if sys.stdout.isatty() else ""
        ours = {"PATH": f"{folder}:{PATH}", "LC_ALL": "C", "TERM": terminal or "dumb", "CTK_ROOT": self.records}
        return {"SHELL": "/bin/bash", **kept, **ours}

    def facts(self) -> dict[str, Any]:
        """What finds the same room again, as JSON can hold it."""
        return {"records": self.records, "cgroup": self.group.place}

    def containers(self) -> list[str]:
        """The ids that have a record here."""
        try:
            return sorted(entry.name for entry in os.scandir(self.records) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def close(self) -> list[str]:
        """Take everything away; the containers that were still there."""
        left = self.containers()
        for identity in left:
            words = [*self._launcher, "delete", "--force", identity]
            environment = {**os.environ, "CTK_ROOT": self.records}
            subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.group.end()
        if not self.containers():
            shutil.rmtree(self.records, ignore_errors=True)  # at most locks of ours are left in it
            try:
                os.rmdir(os.path.dirname(self.records))
            except OSError:
                pass  # it was never made, or other runs have theirs in it
        return left


def fresh() -> None:
    """In a shell that is about to start: nothing of how its reader's own is set up but its terminal."""
    os.umask(0o022)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        signal.signal(number, signal.SIG_DFL)  # nohup(1) ignores the first, and what is ignored stays so in a program
