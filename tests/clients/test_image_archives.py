"""The one archive that we write is loaded by podman, docker and containerd, and what they save is read by us.

Images of ours that they run come from a registry, too.
"""

from pathlib import Path

import pytest

from tests.clients.conftest import Containerd, Docker, Ours, Podman
from tests.fixtures import images, layers
from toolkit.image import digest as digests
from toolkit.image import layout
from toolkit.image.document import config, manifest
from toolkit.image.document.manifest import Manifest
from toolkit.image.name import locate
from toolkit.image.store import compare
from toolkit.image.store.store import Store

pytestmark = pytest.mark.root

TARS = images.layer({"etc/": b"", "etc/one": b"1"}), images.layer({"two": b"2"})
ONE = images.image(*TARS, config={"Cmd": ["sh"]})
TWO = images.image(TARS[1], author="somebody")
NAMES = "docker.io/ctk/one:1", "docker.io/ctk/two:2"


def archive(folder: Path, kind: str) -> Path:
    """Both images in one."""
    path = folder / "image.tar"
    destination = layout.open_destination(locate(f"{kind}:{path}"))
    for one, name in zip((ONE, TWO), NAMES, strict=True):
        images.put(destination, one, name)
    destination.commit()
    destination.close()
    return path


def diff_ids(where: str) -> tuple[str, ...]:
    """Those of the image there, whose blobs are all what they are called."""
    source = layout.open_source(locate(where))
    try:
        raw = source.manifest()
        found = manifest.read(raw.data, raw.media_type, where)
        assert isinstance(found, Manifest)
        for descriptor in (found.config, *found.layers):
            assert digests.of(images.fetch(source, descriptor)) == descriptor.digest
        said = config.read(images.fetch(source, found.config), where)
        config.check_layers(said, len(found.layers), where)
        return said.diff_ids
    finally:
        source.close()


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_podman_loads_and_saves(kind: str, podman: Podman, tmp_path: Path) -> None:
    podman("load", "-i", str(archive(tmp_path, kind))).ok()
    try:
        for one, name in zip((ONE, TWO), NAMES, strict=True):
            assert podman("image", "inspect", name).json()[0]["Id"] == one.config.digest.removeprefix("sha256:")
        for form, transport in (
            ("docker-archive", "docker-archive"),
            ("oci-archive", "oci-archive"),
            ("oci-dir", "oci"),
        ):
            podman("save", "--format", form, "-o", str(tmp_path / form), NAMES[0]).ok()
            assert diff_ids(f"{transport}:{tmp_path / form}") == tuple(map(digests.of, TARS))
        podman("save", "--format", "docker-archive", "-m", "-o", str(tmp_path / "both"), *NAMES).ok()
        assert diff_ids(f"docker-archive:{tmp_path / 'both'}:ctk/two:2") == (digests.of(TARS[1]),)
    finally:
        podman("rmi", *NAMES)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_docker_loads_and_saves(kind: str, docker: Docker, tmp_path: Path) -> None:
    docker("load", "-i", str(archive(tmp_path, kind))).ok()
    try:
        for one, name in zip((ONE, TWO), NAMES, strict=True):
            found = docker("image", "inspect", name).json()[0]
            assert found["Id"] == one.config.digest
            assert found["RootFS"]["Layers"] == list(map(digests.of, TARS if one is ONE else TARS[1:]))
        docker("save", "-o", str(tmp_path / "saved"), *NAMES).ok()
        assert diff_ids(f"docker-archive:{tmp_path / 'saved'}:ctk/one:1") == tuple(map(digests.of, TARS))
        assert diff_ids(f"docker-archive:{tmp_path / 'saved'}:ctk/two:2") == (digests.of(TARS[1]),)
    finally:
        docker("rmi", *NAMES)


def test_containerd_imports_and_exports(containerd: Containerd, tmp_path: Path) -> None:
    containerd("image", "import", str(archive(tmp_path, "oci-archive"))).ok()
    try:
        listed = containerd("image", "ls").ok().out
        for one, name in zip((ONE, TWO), NAMES, strict=True):
            assert [line.split()[2] for line in listed.splitlines() if line.startswith(f"{name} ")] == [one.raw.digest]
        containerd("image", "export", str(tmp_path / "saved"), NAMES[0]).ok()
        for transport in ("oci-archive", "docker-archive"):
            assert diff_ids(f"{transport}:{tmp_path / 'saved'}") == tuple(map(digests.of, TARS))
    finally:
        containerd("image", "rm", *NAMES)


BASE = [
    layers.folder("etc"), layers.file("etc/passwd", b"1"), layers.file("etc/gone"), layers.folder("same"),
    layers.file("same/x"), layers.folder("old"), layers.file("old/x"), layers.folder("mode"), layers.folder("kind"),
]  # fmt: skip
TOP = [
    layers.folder("etc"), layers.file("etc/passwd", b"2"), layers.file("etc/new"), layers.file("etc/.wh.gone", b""),
    layers.folder("same"), layers.file("same/x"), layers.file(".wh.old", b""), layers.folder("mode", 0o700),
    layers.folder("new"), layers.file("new/x"), layers.symlink("link", "etc"), layers.file("kind", b"no folder"),
]  # fmt: skip


def test_podman_tells_the_same_of_a_topmost_layer(podman: Podman, tmp_path: Path) -> None:
    for one in TOP:
        if not one.info.isdir():
            one.info.mtime += 1  # podman looks at times and sizes, not at contents
    made = images.image(layers.tar(BASE), layers.tar(TOP))
    destination = layout.open_destination(locate(f"oci-archive:{tmp_path}/image.tar"))
    images.put(destination, made, "localhost/ctk/diff:1")
    destination.commit()
    destination.close()
    podman("load", "-q", "-i", str(tmp_path / "image.tar")).ok()
    try:
        theirs = podman("image", "diff", "localhost/ctk/diff:1").ok().out.splitlines()
    finally:
        podman("rmi", "localhost/ctk/diff:1")
    store = Store(str(tmp_path / "images"))
    place = store.destination()
    images.put(place, made, "localhost/ctk/diff:1")
    place.commit()
    place.close()
    ours = [f"{kind} {path}" for kind, path in compare.of_topmost(store, "localhost/ctk/diff:1")]
    assert "D /old" in ours and ours == sorted(theirs, key=lambda line: line[2:])


# Images that ctk made of a container and of packages, from a registry and from archives.


@pytest.mark.parametrize("kind", ["committed, registry", "committed, docker-archive", "bootstrapped, registry"])
def test_podman_runs_ours(kind: str, podman: Podman, ours: dict[str, Ours]) -> None:
    one = ours[kind]
    get = ("load", "-q", "-i", str(one.archive)) if one.archive else ("pull", "-q", "--tls-verify=false", one.name)
    podman(*get).ok()
    assert podman("run", "--rm", "--network", "none", one.name, *one.words).ok().out == one.says
    podman("rmi", one.name).ok()


# docker before 23 reads no zstd: "archive/tar: invalid tar header"
@pytest.mark.parametrize("kind", ["committed, registry", "bootstrapped, docker-archive", "bootstrapped, oci-archive"])
def test_docker_runs_ours(kind: str, docker: Docker, ours: dict[str, Ours]) -> None:
    one = ours[kind]
    docker(*(("load", "-q", "-i", str(one.archive)) if one.archive else ("pull", "-q", one.name))).ok()
    assert docker("run", "--rm", "--network", "none", one.name, *one.words).ok().out == one.says
    docker("rmi", one.name).ok()


@pytest.mark.parametrize(
    "kind",
    ["committed, registry", "bootstrapped, registry", "bootstrapped, docker-archive", "bootstrapped, oci-archive"],
)
def test_containerd_runs_ours(kind: str, containerd: Containerd, ours: dict[str, Ours]) -> None:
    one = ours[kind]
    containerd("image", *(("import", str(one.archive)) if one.archive else ("pull", "--plain-http", one.name))).ok()
    assert containerd.run("--rm", one.name, "ours", *one.words).ok().out == one.says
    containerd("image", "rm", "--sync", one.name).ok()
