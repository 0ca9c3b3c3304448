"""Unpack packages by the tree's own dpkg: those that it may have something to decide about (base_set.py)."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable

from toolkit.bootstrap.facts.model import Package
from toolkit.bootstrap.install.unpack import Unpacked, overwritten
from toolkit.bootstrap.sandbox.sandbox import Sandbox
from toolkit.events import Emit

OpenDeb = Callable[[Package], int]

# "… in package a 1" up to dpkg 1.21 (Debian 12), "… in package a (1)" from 1.22 (Debian 13) on.
_TAKEN = re.compile(r"trying to overwrite '/?(.*)', which is also in package (\S+) \(?([^\s()]+)\)?$")
_COPIED_AT_ONCE = 1 << 26  # bytes


class ByDpkg:
    """The dpkg of the tree below `rootfd`. `dpkg` runs it, `open_deb` gives a package's .deb as a descriptor."""

    def __init__(
        self, rootfd: int, sandbox: Sandbox, emit: Emit, *, dpkg: Callable[..., None], open_deb: OpenDeb
    ) -> None:
        self._rootfd = rootfd
        self._sandbox = sandbox
        self._emit = emit
        self._dpkg = dpkg
        self._open_deb = open_deb

    def unpack(self, packages: list[Unpacked], *options: str) -> None:
        """Unpack these packages in order; warn about files taken over without Replaces. Raises BuildFailed, OSError."""
        names = [f".ctk-{one.position}.deb" for one in packages]
        try:
            for one, name in zip(packages, names, strict=True):
                with open(self._open_deb(one.package), "rb") as deb:
                    self._copy(deb.fileno(), name)
            listed = ", ".join(one.package.name for one in packages)
            self._dpkg(*options, "--unpack", *(f"/{name}" for name in names), doing=f"unpack {listed}")
        finally:
            for name in names:
                self._remove(name)
        self._warn_taken()

    def _copy(self, deb: int, name: str) -> None:
        self._remove(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        out = os.open(name, flags, 0o600, dir_fd=self._rootfd)
        try:
            position = 0
            while count := os.sendfile(out, deb, position, _COPIED_AT_ONCE):
                position += count
        finally:
            os.close(out)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._rootfd)

    def _warn_taken(self) -> None:
        for (one, other), paths in taken(self._sandbox.output()).items():
            self._emit(overwritten(one, other, paths))


def taken(lines: Iterable[str]) -> dict[tuple[str, str], list[bytes]]:
    """The files that one package took from another, by dpkg's output: (name and version, the other's) -> paths."""
    found: dict[tuple[str, str], list[bytes]] = {}
    one = "a package"
    for line in lines:
        if line.startswith("Unpacking "):
            one = " ".join(line.split()[1:3]).replace("(", "").replace(")", "")
        if match := _TAKEN.search(line):
            found.setdefault((one, f"{match[2]} {match[3]}"), []).append(os.fsencode(match[1]))
    return found
