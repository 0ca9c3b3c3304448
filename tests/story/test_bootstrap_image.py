"""`ctk bootstrap … x.oci`, its archives, and `--tag`: an image that others read, with the tree's files in it."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Command, tool
from tests.fixtures.small import HOOKED, World
from tests.fixtures.trees import facts
from tests.fixtures.user import ID, prefix
from toolkit.bootstrap.output import prune

pytestmark = pytest.mark.root

NAMES = ("fs.oci", "fs.oci.tar", "fs.docker.tar")
TRANSPORT = {"fs.oci": "oci", "fs.oci.tar": "oci-archive", "fs.docker.tar": "docker-archive"}
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture
def world(tmp_path: Path, ctk: Command) -> Iterator[World]:
    made = World(tmp_path, ctk)
    made.publish_shell()
    made.env["CTK_IMAGES"] = str(tmp_path / "images")
    yield made
    made.server.close()


def skopeo(world: World, *words: str) -> str:
    done = subprocess.run([tool("skopeo"), "--insecure-policy", *words], cwd=world.folder, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("name", NAMES)
def test_the_image_has_the_tree(name: str, world: World, ctk: Command) -> None:
    """umoci lays out what is in the folder of the same build; skopeo shows the configuration."""
    world.build("dir", *HOOKED, env=EPOCH).ok()
    world.build(name, *HOOKED, env=EPOCH).ok()
    where = f"{TRANSPORT[name]}:{name}"
    config = json.loads(skopeo(world, "inspect", "--config", where))
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["config"]["Cmd"] == ["/bin/sh"] and config["config"]["Env"][0].startswith("PATH=/usr/local/sbin:")
    assert config["config"]["Labels"]["org.opencontainers.image.version"] == "bookworm"
    (step,) = config["history"]
    assert step["created_by"] == "ctk bootstrap bookworm --variant extract --arch amd64"
    if name != "fs.oci":
        skopeo(world, "copy", where, "oci:copy.oci:bookworm")
    layout = "fs.oci" if name == "fs.oci" else "copy.oci"
    umoci = [tool("umoci"), "raw", "unpack", "--image", f"{layout}:bookworm", "out"]
    subprocess.run(umoci, cwd=world.folder, check=True, capture_output=True)
    assert facts(world.folder / "out") == facts(world.folder / "dir")
    left = {path.name for path in world.folder.iterdir()} - {"archive", "cache", "dir", "copy.oci", "out"}
    assert left == {".dir.ctk.json", name, f".{name}.ctk.json"}
    assert list((world.folder / "cache/trees.new").iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_twice_the_same_is_the_same(name: str, world: World) -> None:
    digests = []
    for target in (name, f"again-{name}", f"third-{name}"):
        cache = ["--no-cache"] if target.startswith("again") else []
        last = world.build(target, "--json", *cache, env=EPOCH).ok().out.splitlines()[-1]
        digests.append(json.loads(last)["result"]["digest"])
    assert len(set(digests)) == 1
    said = json.loads(skopeo(world, "inspect", f"{TRANSPORT[name]}:{name}"))
    assert said["Created"] == "2023-11-14T22:13:20Z"
    if TRANSPORT[name] != "docker-archive":  # skopeo makes a manifest of its own of docker's
        assert said["Digest"] == digests[0]
    if name != "fs.oci":
        assert (world.folder / name).read_bytes() == (world.folder / f"again-{name}").read_bytes()


def test_a_name_goes_into_the_archive(world: World, ctk: Command) -> None:
    world.build("fs.docker.tar", "--tag", "mine/deb:12").ok()
    assert skopeo(world, "inspect", "docker-archive:fs.docker.tar:docker.io/mine/deb:12")
    world.build("fs.oci", "--tag", "mine/deb:12").ok()
    assert skopeo(world, "inspect", "oci:fs.oci:12")
    piped = world.build("fs.oci.tar", "--tag", "mine/deb:12", env=EPOCH).ok()
    assert "podman load -i" in piped.err
    words = ["--variant=extract", "--arch=amd64", "--include=alpha", f"--keyring={world.archive.keyring}"]
    base = ctk.argv("bootstrap", "bookworm", "-", world.server.url, *words, "--format=oci-archive", "--tag=mine/deb:12")
    done = subprocess.run(base, env={**ctk.environment, **world.env, **EPOCH}, capture_output=True, check=True)
    assert done.stdout == (world.folder / "fs.oci.tar").read_bytes()


def test_podman_loads_and_runs_it(world: World) -> None:
    world.build("fs.oci.tar", "--tag", "mine/deb:12", *HOOKED).ok()
    with tempfile.TemporaryDirectory(prefix="pod") as short:  # podman's --runroot has at most 50 characters
        there = [tool("podman"), "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
        load = subprocess.run([*there, "load", "-i", world.folder / "fs.oci.tar"], capture_output=True, text=True)
        assert load.returncode == 0 and "docker.io/mine/deb:12" in load.stdout, load.stderr
        made = subprocess.run([*there, "create", "docker.io/mine/deb:12"], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        mounted = subprocess.run([*there, "mount", made.stdout.strip()], capture_output=True, text=True, check=True)
        root = Path(mounted.stdout.strip())
        about = (root / "etc/alpha").stat()
        assert (about.st_uid, about.st_gid, about.st_nlink) == (7, 3000, 2)
        assert (root / "bin/su").stat().st_mode & 0o7777 == 0o4755
        subprocess.run([*there, "rm", "-f", made.stdout.strip()], capture_output=True, check=True)


def test_a_tag_is_an_image_of_the_store_that_runs_at_once(world: World, ctk: Command) -> None:
    said = world.build("", "--tag", "deb:12", *HOOKED).ok()
    assert "bookworm (extract, amd64) is the image deb:12 of the store: sha256:" in said.err
    assert "ctk up deb:12 NAME" in said.err
    assert sorted(os.listdir(world.folder)) == ["archive", "cache", "images"]
    ctk("run", "--rm", "--image", "deb:12", ctk.id(), env=world.env).ok()  # its shell, which has nothing to read
    script = "cat /etc/beta; echo $PATH; test -u /bin/su && echo suid"
    words = ("deb:12", ctk.id(), "--rm", "--no-tty", "--", "/bin/sh", "-c", script)
    ran = ctk("up", *words, env=world.env).ok()
    assert ran.out.splitlines() == ["alpha", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "suid"]
    assert ctk("image", "check", env=world.env).ok().out == "no damage\n"
    assert os.listdir(world.folder / "images/leases") == []


def test_the_same_tag_again_is_the_same_image(world: World, ctk: Command) -> None:
    found = []
    for words in ((), ("--no-cache",), ()):
        last = world.build("", "--tag", "deb:12", "--json", *words, env=EPOCH).ok().out.splitlines()[-1]
        found.append(json.loads(last)["result"]["digest"])
    assert len(set(found)) == 1
    listed = json.loads(ctk("images", "--json", env=world.env).ok().out)
    assert [one["name"] for one in listed] == ["deb:12"]


def test_a_tag_keeps_the_store_within_its_limit(world: World) -> None:
    layers = world.folder / "images/layers"
    world.build("", "--tag", "one:1", *HOOKED).ok()
    before = os.listdir(layers)
    told = world.build("", "--tag", "two:2", env={"CTK_IMAGES_LIMIT": "1"}).ok()
    assert "1 laid-out layer that nobody uses made room (CTK_IMAGES_LIMIT)" in told.err
    assert len(before) == len(os.listdir(layers)) == 1 and os.listdir(layers) != before


def test_the_cached_tree_is_the_blob_and_the_tree_the_layer(world: World, ctk: Command) -> None:
    """One file with two names, counted once; and no file of the tree is made twice."""
    world.build("", "--tag", "deb:12").ok()
    (kept,) = world.trees()
    blobs = list((world.folder / "images/blobs/sha256").iterdir())
    assert [path.name for path in blobs if path.samefile(kept)], "the cache's file is the blob"
    (layer,) = (world.folder / "images/layers").iterdir()
    world.build("dir").ok()
    assert facts(layer / "tree") == facts(world.folder / "dir")
    found = [one for one in prune.items(str(world.folder / "cache")) if one.kind == "trees"]
    assert [one.size_bytes for one in found] == [0]
    assert ctk("image", "check", env=world.env).ok().out == "no damage\n"
    # The layer goes, and is laid out again from the blob; the image goes, and the cached tree stays.
    shutil.rmtree(layer)
    ctk("run", "--rm", "--image", "deb:12", ctk.id(), env=world.env).ok()
    skopeo(world, "copy", "oci:images:docker.io/library/deb:12", "oci:copy.oci:12")
    ctk("image", "rm", "deb:12", env=world.env).ok()
    assert kept.stat().st_nlink == 1 and list((world.folder / "images/blobs/sha256").iterdir()) == []
    assert "files of a cached tree" in world.build("", "--tag", "deb:12").ok().err
    ctk("cache", "prune", "--limit", "0", env=world.env).ok()
    ctk("run", "--rm", "--image", "deb:12", ctk.id(), env=world.env).ok()


def test_a_user_without_root_makes_the_same_image(
    world: World, ctk: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In a user namespace with mapped ids, to the byte."""
    last = world.build("", "--tag", "deb:12", "--json", env=EPOCH).ok().out.splitlines()[-1]
    home = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    os.chown(home, ID, ID)
    keyring = home / "keyring.pgp"
    shutil.copy(world.archive.keyring, keyring)
    words = ["--variant=extract", "--arch=amd64", "--include=alpha", f"--keyring={keyring}", "--tag=deb:12", "--json"]
    environment = {**os.environ, **EPOCH, "HOME": str(home), "CTK_CACHE": str(home / "cache"), "LC_ALL": "C.UTF-8"}

    def user(*words: str) -> "subprocess.CompletedProcess[str]":
        argv = [*prefix(str(home)), ctk.program, *words]
        return subprocess.run(argv, cwd=home, env=environment, capture_output=True, text=True, timeout=200)

    try:
        done = user("bootstrap", "bookworm", f"--mirror={world.server.url}", *words)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])["result"]
        assert found["digest"] == json.loads(last)["result"]["digest"]
        checked = user("image", "check")
        assert (checked.returncode, checked.stdout) == (0, "no damage\n"), checked.stderr
    finally:
        shutil.rmtree(home)


def test_b13_a_damaged_cached_tree_becomes_no_image(world: World, ctk: Command) -> None:
    world.build("dir").ok()
    (tree,) = world.trees()
    data = bytearray(tree.read_bytes())
    data[len(data) // 3] ^= 1
    tree.write_bytes(data)
    assert "cached tree was damaged" in world.build("", "--tag", "deb:12").ok().err
    assert ctk("image", "check", env=world.env).ok().out == "no damage\n"


def test_what_is_there_is_not_replaced_unasked(world: World, ctk: Command) -> None:
    world.build("fs.oci", env=EPOCH).ok()
    again = world.build("fs.oci")
    assert again.rc == 1 and "--force replaces all of it" in again.err
    world.build("fs.oci", "--force", "--tag", "other:1").ok()
    index = json.loads((world.folder / "fs.oci/index.json").read_text())
    assert len(index["manifests"]) == 1 and len(os.listdir(world.folder / "fs.oci/blobs/sha256")) == 3
    (world.folder / "mine.oci").mkdir()
    (world.folder / "mine.oci/letter").write_text("dear")
    refused = world.build("mine.oci", "--force")
    assert refused.rc == 1 and "other files in it" in refused.err
    assert (world.folder / "mine.oci/letter").read_text() == "dear"
    ctk("bootstrap", "--remove", str(world.folder / "fs.oci")).ok()
    assert not (world.folder / "fs.oci").exists() and not (world.folder / ".fs.oci.ctk.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("dir", "--tag", "x"), "it is for an image, and"),
        (("fs.tar", "--tag", "x"), "is a tar"),
        (("fs.oci", "--tag", "x:a__b"), "is no name of an image in a layout"),
        (("fs.oci.tar", "--tag", "x:a__b"), "is no name of an image in a layout"),
        (("", "--tag", "Upper"), "read the image's name 'Upper'"),
        (("", "--tag", "x@sha256:" + "0" * 64), "its digest is not known"),
        (("", "--tag", "x", "--format", "oci"), "there is no TARGET, which 'oci' needs"),
    ],
)
def test_names_that_can_not_be(words: "tuple[str, ...]", told: str, world: World) -> None:
    wrong = world.build(*words)
    assert wrong.rc == 1 and told in wrong.err, wrong.err
    assert sorted(os.listdir(world.folder)) == ["archive"]


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_leaves_nothing(name: str, world: World) -> None:
    disk = world.folder / "disk"
    disk.mkdir()
    subprocess.run([tool("mount"), "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        said = world.build(f"disk/{name}")
        assert said.rc == 1 and "no space left" in said.err.lower(), said.err
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run([tool("umount"), disk], check=True)
    assert list((world.folder / "cache/trees.new").iterdir()) == []
