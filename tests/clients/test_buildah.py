"""buildah, with ctk as its runtime: it calls `create`, `start`, polls `state`, and deletes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.room import Room
from tests.fixtures.command import Result

pytestmark = pytest.mark.root


class Buildah:
    def __init__(self, room: Room) -> None:
        self.room = room
        folder = room.folder / "buildah"
        self.leading = ("buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run"))

    def __call__(self, *arguments: str, input: str = "") -> Result:
        return self.room.run(*self.leading, *arguments, input=input)


@pytest.fixture(scope="session")
def buildah(room: Room) -> Buildah:
    return Buildah(room)


@pytest.fixture
def container(buildah: Buildah, image: dict[str, Path]) -> Iterator[str]:
    """A working container of the image. buildah's own default limits are above what every host allows."""
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    name = buildah("from", "--pull-never", *limits, f"oci:{image['layout']}:1").ok().out.strip()
    yield name
    buildah("rm", name).ok()


def test_run(buildah: Buildah, container: str) -> None:
    run = ("run", "--runtime", buildah.room.runtime, container)
    assert buildah(*run, "sh", "-c", "id -u; echo made > /made; ls /proc/self/fd").ok().out.split() == list("00123")
    assert buildah(*run, "cat", "/made").ok().out == "made\n"
    assert buildah(*run, "sh", "-c", "exit 42").rc == 42
    assert "not found" in buildah(*run, "missing").err


def test_commit_of_what_ran(buildah: Buildah, container: str) -> None:
    buildah("run", "--runtime", buildah.room.runtime, container, "touch", "/ran").ok()
    target = buildah.room.folder / "committed"
    buildah("commit", "-q", container, f"oci:{target}:1").ok()
    unpacked = buildah.room.folder / "committed-bundle"
    buildah.room.run("umoci", "unpack", "--image", f"{target}:1", str(unpacked)).ok()
    assert (unpacked / "rootfs/ran").exists()


def test_build(buildah: Buildah, image: dict[str, Path]) -> None:
    folder = buildah.room.folder / "bud"
    folder.mkdir()
    (folder / "Containerfile").write_text(f"FROM oci:{image['layout']}:1\nRUN cat /proc/1/comm && echo built > /made\n")
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    told = buildah("bud", "--runtime", buildah.room.runtime, *limits, "-t", "built", str(folder)).ok()
    assert "\ncat\n" in told.out or "\nsh\n" in told.out
    (folder / "Containerfile").write_text("FROM built\nRUN test -e /made && exit 7\n")
    assert "exit status 7" in buildah("bud", "--runtime", buildah.room.runtime, *limits, str(folder)).err
    buildah("rmi", "--all", "--force").ok()
