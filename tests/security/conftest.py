"""What the attacks share: a place outside the root that must stay as it is, links that race, containers that run.

The rows (S1 …, E1 …) are those of docs/security.md.
"""

import contextlib
import hashlib
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command, Result, tool

RENAME_EXCHANGE = 2


def facts(top: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below `top`: type and mode, owner, size, times, contents."""
    found = {}
    for folder, directories, files in os.walk(
        top
    ):  # plain text: of a root's links, Path would make a third of the time
        for path in (folder, *(f"{folder}/{name}" for name in (*directories, *files))):
            status = os.lstat(path)
            digest = ""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path[len(str(top)) + 1 :]] = (
                status.st_mode,
                status.st_uid,
                status.st_gid,
                status.st_size,
                status.st_mtime_ns,
                status.st_ino,
                digest,
            )
    return found


class Canary:
    """A folder of the host, beside the bundle, that no container may change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "marker").write_text("of the host\n")
        (path / "ptmx").write_text("of the host\n")
        (path / "folder").mkdir()
        self.before = facts(path)

    def __str__(self) -> str:
        return str(self.path)

    def changes(self) -> list[str]:
        now = facts(self.path)
        return sorted(name for name in now.keys() | self.before.keys() if now.get(name) != self.before.get(name))


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """A host folder; the test fails if anything in it changed."""
    kept = Canary(tmp_path / "canary")
    yield kept
    assert kept.changes() == []


@contextlib.contextmanager
def race(*pairs: tuple[Path, Path]) -> Iterator[None]:
    """While the block runs, a process exchanges each pair of paths again and again (renameat2, RENAME_EXCHANGE)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid == 0:
        names = [(os.fsencode(a), os.fsencode(b)) for a, b in pairs]
        while True:
            for a, b in names:
                libc.renameat2(-100, a, -100, b, RENAME_EXCHANGE)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def running(command: Command, bundle: Bundle, *options: str, created: bool = False) -> Iterator[str]:
    """A container of the bundle, running (or only created) in the background; its id."""
    name = command.id()
    if created:
        command("create", "--bundle", str(bundle), *options, name).ok()
    else:
        command("run", "-d", "--bundle", str(bundle), *options, name).ok()
    try:
        yield name
    finally:
        command("delete", "--force", name)


def pid_of(command: Command, name: str) -> int:
    pid: int = command("state", name).json()["pid"]
    return pid


def run(command: Command, bundle: Bundle, *options: str, **keywords: Any) -> Result:
    """`run` in the foreground, gone afterwards whatever happened."""
    name = command.id()
    try:
        return command("run", "--bundle", str(bundle), *options, name, **keywords)
    finally:
        command("delete", "--force", name)


@pytest.fixture
def runc(ctk: Command) -> Command:
    """The distribution's runc: a test that it is known to fail is first tried on it, and has to bite."""
    return ctk.like("runc")


@pytest.fixture
def bundle(busybox_bundle: Bundle) -> Bundle:
    """A busybox bundle with a writable root."""

    def writable(config: dict[str, Any]) -> None:
        config["root"]["readonly"] = False

    return busybox_bundle.edit(writable)


def mounts(bundle: Bundle, *more: dict[str, Any], only: "tuple[str, ...] | None" = None) -> Bundle:
    """Add mounts; `only`: keep just these of the default ones."""

    def change(config: dict[str, Any]) -> None:
        if only is not None:
            config["mounts"] = [entry for entry in config["mounts"] if entry["destination"] in only]
        config["mounts"] += more

    return bundle.edit(change)


def bind(source: "Path | str", destination: str, *options: str, kind: str = "bind") -> dict[str, Any]:
    return {"source": str(source), "destination": destination, "type": "bind", "options": [kind, *options]}


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that makes the system calls it is told to (probe.c)."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    flags = ["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie", "-O1"]
    source = Path(__file__).parent / "probe.c"
    subprocess.run([tool("gcc"), *flags, "-o", str(program), str(source)], check=True)
    return program
