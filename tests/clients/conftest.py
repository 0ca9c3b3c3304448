"""One room, one image and one daemon each for all tests with real engines."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.clients.room import Room, wait_for
from tests.fixtures import registry
from tests.fixtures.command import Command, Result, installed_ctk, make_busybox_root, own_ctk
from tests.fixtures.small import HOOKED, World
from toolkit.kernel import mountinfo

IMAGE = "localhost/bb:1"
PAUSE = "localhost/bb:pause"
# Parents that engines make for their containers' cgroups and keep.
ENGINE_CGROUPS = ("docker", "default", "libpod_parent", "k8s.io", "kubepods", "buildah")


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """The namespaces that all engines of this session live in."""
    had = _engine_cgroups()
    one = Room(tmp_path_factory.mktemp("clients"), installed_ctk())
    yield one
    one.close()
    _remove_parents(had)


@pytest.fixture(scope="session")
def image(room: Room, busybox_rootfs: Path) -> dict[str, Path]:
    """One busybox image in three forms: an OCI layout, the same as a tar, and a tar of the files alone."""
    layout = room.folder / "oci"
    room.run("umoci", "init", "--layout", str(layout)).ok()
    room.run("umoci", "new", "--image", f"{layout}:1").ok()
    room.run("umoci", "insert", "--image", f"{layout}:1", str(busybox_rootfs), "/").ok()
    room.run("umoci", "config", "--image", f"{layout}:1", "--config.env", "PATH=/bin", "--config.cmd", "sh").ok()
    pause = f"{layout}:pause"
    room.run("umoci", "tag", "--image", f"{layout}:1", "pause").ok()
    room.run("umoci", "config", "--image", pause, "--config.cmd", "sleep", "--config.cmd", "100000").ok()
    archive = room.folder / "oci.tar"
    room.run("tar", "-C", str(layout), "-cf", str(archive), ".").ok()
    files = room.folder / "files.tar"
    room.run("tar", "-C", str(busybox_rootfs), "-cf", str(files), ".").ok()
    return {"layout": layout, "archive": archive, "files": files}


class Ours(NamedTuple):
    """An image that ctk made: in an archive, or without one in a registry that the room reaches.

    Run with `words`, it says `says`.
    """

    name: str
    archive: "Path | None"
    words: tuple[str, ...]
    says: str


@pytest.fixture(scope="session")
def ours(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ours]]:
    """What a container has changed, committed; and what was built of packages, whose layer is zstd in a registry."""
    folder = tmp_path_factory.mktemp("ours")
    ctk = own_ctk(folder, str(folder / "state"), str(folder / "cache"))
    into = ("nsenter", "--target", str(room.pid), "--net", "--")
    with registry.running(folder / "registry", within=into) as running:
        made = _committed(ctk, folder, running.host) | _bootstrapped(ctk, folder, running.host)
        inside = Command(into[0], ctk.root, ctk.environment, (*into[1:], ctk.program))
        for one in made.values():
            if one.archive is None:
                inside("push", one.name).ok()
        yield made


def _committed(ctk: Command, folder: Path, host: str) -> dict[str, Ours]:
    root, container, name = make_busybox_root(folder / "below"), ctk.id(), f"{host}/ctk/committed:2"
    (root / "etc/gone").write_text("of the layer below\n")
    ctk("pack", str(root), "below:1").ok()
    change = "rm /etc/gone; mkdir /srv; echo changed > /srv/new; chown 33:44 /srv/new; ln -s new /srv/link"
    ctk("up", "below:1", container, "--", "sh", "-c", change).ok()
    try:
        look = "cat /srv/link; stat -c %u:%g /srv/new; ls -a /etc | grep -E 'gone|passwd'; echo $GREETING"
        command = f"CMD {json.dumps(['sh', '-c', look])}"
        ctk("commit", container, name, "--change", command, "--change", "ENV PATH=/bin GREETING=hello").ok()
    finally:
        ctk("rm", "-f", container)
    says, archived = "changed\n33:44\npasswd\nhello\n", "localhost/ctk/committed:archived"
    ctk("copy", f"store:{name}", f"docker-archive:{folder}/archive:{archived}").ok()
    return {
        "committed, registry": Ours(name, None, (), says),
        "committed, docker-archive": Ours(archived, folder / "archive", (), says),
    }


def _bootstrapped(ctk: Command, folder: Path, host: str) -> dict[str, Ours]:
    look = ("/bin/sh", "-c", "cat /etc/beta; stat -c %u:%g:%h /etc/beta; test -u /bin/su && echo suid; echo $PATH")
    says = "alpha\n7:3000:2\nsuid\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    (folder / "world").mkdir()
    world = World(folder / "world", ctk)
    try:
        world.publish_shell()
        name = f"{host}/ctk/bootstrapped:1"
        world.build("", "--tag", name, *HOOKED).ok()
        made = {"bootstrapped, registry": Ours(name, None, look, says)}
        for form in ("docker-archive", "oci-archive"):
            name = f"localhost/ctk/bootstrapped:{form}"
            world.build(form, "--format", form, "--tag", name, *HOOKED).ok()
            made[f"bootstrapped, {form}"] = Ours(name, world.folder / form, look, says)
        return made
    finally:
        world.server.close()


@pytest.fixture(autouse=True)
def nothing_left_in_the_room(room: Room, leaks: None) -> Iterator[None]:
    """Before the host is looked at: the room has no mount more, ctk no record more, and no engine an empty cgroup."""
    before = _mounts(room)
    had = _engine_cgroups()
    yield

    def records() -> list[str]:
        return os.listdir(f"/proc/{room.pid}/root/run/ctk") if os.path.isdir(f"/proc/{room.pid}/root/run/ctk") else []

    wait_for("the end of the containers' records", lambda: not records())
    try:
        wait_for("", lambda: _mounts(room) == before, 5)
    except pytest.fail.Exception:
        left = set(_mounts(room)) - set(before)
        pytest.fail(f"mounts of a container that has ended: {sorted(left)}", pytrace=False)
    _remove_parents(had)


def _mounts(room: Room) -> list[str]:
    """The room's mounts without those of podman's and buildah's stores, which come and go by their own rules."""
    return [point for point in room.mounts() if not point.endswith("/root/overlay")]


def _engine_cgroups() -> set[str]:
    """The engines' parents, and within them what the engine names for itself: its conmons' and its pods' cgroups.

    A container's cgroup that stayed is none of these: it keeps its parent, and both are reported. podman forgets its
    pods' (64 hexadecimal digits) in the hierarchies that have no controller; its containers' are called libpod-ID.
    """
    trees = ["/sys/fs/cgroup", *(tree.path for tree in os.scandir("/sys/fs/cgroup") if tree.is_dir())]
    found = {path for tree in trees for name in ENGINE_CGROUPS if os.path.isdir(path := os.path.join(tree, name))}
    for path in list(found):
        own = re.compile(r"conmon|buildkit|libpod-conmon-.*|[0-9a-f]{64}" if "libpod" in path else "buildkit")
        found |= {entry.path for entry in os.scandir(path) if entry.is_dir() and own.fullmatch(entry.name)}
    return found


def _remove_parents(had: set[str]) -> None:
    """Remove the engines' own cgroups that were not there before, where they are empty; the inner ones first."""
    end = time.monotonic() + 5
    # The processes in them may still be ending: rmdir(2) says EBUSY until they are gone.
    while (new := _engine_cgroups() - had) and time.monotonic() < end:
        for path in sorted(new, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        time.sleep(0.05)


class Podman:
    """podman with storage, state and configuration of its own, and ctk as its runtime."""

    def __init__(self, room: Room) -> None:
        self.room = room
        folder = room.folder / "podman"
        folder.mkdir()
        (folder / "containers.conf").write_text(
            f"""
[containers]
# podman's own defaults are above this host's hard limits where CAP_SYS_RESOURCE is missing
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "ctk"
runtime_supports_json = ["ctk"]
tmp_dir = "{folder}/tmp"
[engine.runtimes]
ctk = ["{room.runtime}"]
"""
        )
        self.environment = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            # podman 5 binds the root of a container with ids of its own there, and those ids must get at it: pytest's
            # folders are closed to them. The room's /run is open.
            "TMPDIR": "/run",
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",  # podman 5 would say so on every command's standard error
        }
        # The room's own /run: podman takes no more than 50 characters, and a worker's folder has a long name.
        self.leading = ("podman", "--root", str(folder / "root"), "--runroot", "/run/podman-test")

    def argv(self, *arguments: str) -> list[str]:
        """The whole command line, for a terminal."""
        return self.room.argv("env", *(f"{k}={v}" for k, v in self.environment.items()), *self.leading, *arguments)

    def __call__(self, *arguments: str, input: str = "", timeout: float = 60) -> Result:
        return self.room.run(*self.leading, *arguments, input=input, timeout=timeout, env=self.environment)

    def inspect(self, name: str) -> "dict[str, object]":
        found: dict[str, object] = self("inspect", name).json()[0]
        return found


@pytest.fixture
def cgroups_by_path() -> None:
    """For what podman looks up by a process's cgroup path (proc(5)) below /sys/fs/cgroup.

    A container on cgroup v1 without a cgroup namespace has only the end of those paths there.
    """
    for _, _, root, point, _, kind, _, _ in mountinfo.mounts(mountinfo.read()):
        if kind in ("cgroup", "cgroup2") and root != "/":
            pytest.skip(f"{point} shows the cgroup {root} alone, but processes' paths are whole: podman finds none")


@pytest.fixture(scope="session")
def podman(room: Room, image: dict[str, Path]) -> Podman:
    """podman, with the image."""
    one = Podman(room)
    one("import", "-q", "-c", "ENV PATH=/bin", "-c", 'CMD ["sh"]', str(image["files"]), IMAGE).ok()
    one("run", "--rm", IMAGE, "true").ok()  # makes what podman mounts once for all
    return one


class Docker:
    """dockerd with ctk beside its own runtime, and Debian's docker client."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.folder = room.folder / "docker"
        self.folder.mkdir()
        # BuildKit calls `runc` by that name from dockerd's PATH.
        names = self.folder / "bin"
        names.mkdir()
        (names / "runc").symlink_to(room.runtime)
        self.socket = "unix:///run/docker.sock"
        self.daemon = room.start(
            "dockerd.log", "env", f"PATH={names}:{room.environment['PATH']}", "dockerd",
            "--data-root", str(self.folder / "data"), "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
            "--host", self.socket, "--add-runtime", f"ctk={room.runtime}", "--default-runtime", "ctk",
        )  # fmt: skip
        self.leading = ("docker", "--host", self.socket)

    def argv(self, *arguments: str) -> list[str]:
        return self.room.argv(*self.leading, *arguments)

    def __call__(self, *arguments: str, input: str = "", timeout: float = 60) -> Result:
        return self.room.run(*self.leading, *arguments, input=input, timeout=timeout)

    def inspect(self, name: str) -> "dict[str, object]":
        found: dict[str, object] = self("inspect", name).json()[0]
        return found


@pytest.fixture(scope="session")
def docker(room: Room, image: dict[str, Path]) -> Iterator[Docker]:
    """A running dockerd, with the image."""
    one = Docker(room)
    try:
        wait_for("dockerd", lambda: one("version").rc == 0, 60)
        one("import", "-c", "ENV PATH=/bin", "-c", 'CMD ["sh"]', str(image["files"]), IMAGE).ok()
        yield one
    finally:
        stop(one.daemon)


class Containerd:
    """containerd with the CRI plugin set to ctk, and `ctr`."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.folder = room.folder / "containerd"
        (self.folder / "cni").mkdir(parents=True)
        self.socket = "/run/containerd-test.sock"
        self._configure()
        self.daemon = room.start("containerd.log", "containerd", "--config", str(self.folder / "config.toml"))

    def _configure(self) -> None:
        (self.folder / "config.toml").write_text(
            f"""
version = 2
root = "{self.folder}/root"
state = "/run/containerd-test"
[grpc]
address = "{self.socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{self.folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
disable_apparmor = true
sandbox_image = "{PAUSE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{self.folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "ctk"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.ctk]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.ctk.options]
BinaryName = "{self.room.runtime}"
"""
        )
        network = {
            "cniVersion": "0.4.0",
            "name": "ctktest",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "ctktest0",
                    "isGateway": True,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": f"{self.folder}/ipam",
                        "ranges": [[{"subnet": "10.250.0.0/24"}]],
                    },
                },
                {"type": "loopback"},
            ],
        }
        (self.folder / "cni" / "10-test.conflist").write_text(json.dumps(network))

    def __call__(self, *arguments: str, input: str = "", timeout: float = 60) -> Result:
        return self.room.run("ctr", "--address", self.socket, *arguments, input=input, timeout=timeout)

    def argv(self, *arguments: str) -> list[str]:
        return self.room.argv("ctr", "--address", self.socket, *arguments)

    def run(self, *arguments: str) -> Result:
        """`ctr run` through ctk."""
        return self("run", "--runc-binary", self.room.runtime, *arguments)


@pytest.fixture(scope="session")
def containerd(room: Room, image: dict[str, Path]) -> Iterator[Containerd]:
    """A running containerd, with the image."""
    one = Containerd(room)
    try:
        wait_for("containerd", lambda: one("version").rc == 0, 60)
        for namespace in ("default", "k8s.io"):
            base = ("--base-name", IMAGE.rpartition(":")[0])
            one("--namespace", namespace, "image", "import", *base, str(image["archive"])).ok()
        yield one
    finally:
        stop(one.daemon)


def stop(daemon: "subprocess.Popen[bytes]") -> None:
    """End a daemon as an init system would."""
    daemon.terminate()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
