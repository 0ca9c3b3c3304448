"""`ctk run --image` and `ctk up IMAGE`: the store's layers become a container's root, and stay as they are."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.architecture.test_hot_path import imported
from tests.fixtures import images
from tests.fixtures.command import Command
from tests.fixtures.user import ID, prefix
from tests.fixtures.waiting import until
from toolkit.image import layout, name

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def busybox_layers(busybox_rootfs: Path) -> "tuple[bytes, bytes]":
    """busybox, and a layer that changes it: a file goes, a user comes, a folder is emptied."""
    (busybox_rootfs / "etc/base").write_text("base\n")
    tar = ["tar", "-C", str(busybox_rootfs), "--sort=name", "--owner=0", "--group=0", "-c", "."]
    lower = subprocess.run(tar, capture_output=True, check=True).stdout
    passwd = (busybox_rootfs / "etc/passwd").read_bytes() + b"web:x:33:44:web:/srv:/bin/sh\n"
    group = (busybox_rootfs / "etc/group").read_bytes() + b"web:x:44:\nmore:x:45:web\n"
    upper = images.layer(
        {"etc/": b"", "etc/passwd": passwd, "etc/group": group, "etc/.wh.base": b"", "srv/": b"", "srv/new": b"new\n"}
    )
    return lower, upper


def layout_of(folder: Path, layers: "tuple[bytes, ...]", **config: object) -> str:
    destination = layout.open_destination(name.locate(f"oci:{folder}/layout:it"))
    images.put(destination, images.image(*layers, **config), "it")
    destination.commit()
    destination.close()
    return f"oci:{folder}/layout:it"


@pytest.fixture
def store(ctk: Command, tmp_path: Path, busybox_layers: "tuple[bytes, bytes]") -> Path:
    """A store with the image `web`, which has no registry behind it."""
    run = {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["id; pwd; echo $GREETING; ls /etc/base /srv; echo x > /tmp/x"],
        "User": "web",
        "WorkingDir": "/srv",
        "Env": ["PATH=/bin", "GREETING=hello"],
        "Labels": {"org.example": "yes", "ctk.init": "true"},
    }
    ctk("copy", layout_of(tmp_path, busybox_layers, config=run), "store:web").ok()
    return tmp_path / "data/images"


def test_the_image_is_run_as_it_says(ctk: Command, store: Path, tmp_path: Path) -> None:
    name = ctk.id()
    told = ctk("run", "--rm", "--image", "web", name)
    assert told.rc == 0, told.err
    assert told.out.splitlines() == [
        "uid=33(web) gid=44(web) groups=45(more)",
        "/srv",
        "hello",
        "/srv:",
        "new",
    ]
    assert "ls: /etc/base: No such file" in told.err and "ctk.init" in told.err
    assert os.listdir(tmp_path / "data/bundles") == [] and os.listdir(store / "leases") == []
    for tree in store.glob("layers/*/tree"):
        assert not (tree / "tmp/x").exists()


def test_a_laid_out_image_is_run_without_what_lays_it_out(ctk: Command, store: Path) -> None:
    """These modules would take longer to import than the container takes to run."""
    ctk("run", "--rm", "--image", "web", ctk.id()).ok()
    code, names, said = imported(["run", "--rm", "--image", "web", ctk.id()], ctk.environment)
    assert code == 0, said
    not_needed = {"dataclasses", "inspect", "pickle", "shutil", "threading", "site", "toolkit.image.layer.apply"}
    assert names & not_needed == set()


def test_the_image_is_brought_as_by_up(ctk: Command, store: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "reject"}]}')
    for how in (["run", "--image", "web", ctk.id()], ["up", "web", ctk.id()]):
        told = ctk(*how, "--policy", policy)
        assert told.rc == 1 and f"the policy '{policy}' rejects it" in told.err
        told = ctk(*how, "--pull", "often")
        assert told.rc == 1 and "read --pull 'often': it is missing, always or never" in told.err
    assert not os.path.exists(tmp_path / "data/bundles") or os.listdir(tmp_path / "data/bundles") == []
    told = ctk("run", "--pull", "never", ctk.id())
    assert told.rc == 1 and "--pull is for --image, which is not there" in told.err


def test_layers_that_are_not_laid_out_are_a_stage(ctk: Command, store: Path) -> None:
    told = ctk("up", "web", ctk.id(), "--rm", "--no-tty", "--", "true").ok()
    stages = [line.split(":")[1].strip() for line in told.err.splitlines() if line.startswith("ctk: [")]
    assert stages == ["[1/3] Find the image", "[2/3] Unpack the layers", "[3/3] Write config.json"]


def test_what_is_written_stays_until_rm(ctk: Command, store: Path, tmp_path: Path) -> None:
    name = ctk.id()
    ctk("up", "web", name, "--no-tty", "--", "echo once > /tmp/note").ok()
    told = ctk("up", "web", name, "--no-tty", "--", "cat /tmp/note").ok()
    assert told.out == "once\n"
    bundle = tmp_path / "data/bundles" / name
    assert (bundle / "writable/upper/tmp/note").read_text() == "once\n" and os.listdir(bundle / "rootfs") == []
    # The store keeps what the bundle needs.
    ctk("image", "prune", "--all").ok()
    refused = ctk("image", "rm", "web")
    assert refused.rc == 1 and name in refused.err
    assert ctk("up", "web", name, "--no-tty", "--", "cat /tmp/note").ok().out == "once\n"
    other = ctk("up", "other:1", name, "--pull=never")
    assert other.rc == 1 and "ctk pull other:1" in other.err
    ctk("up", "-d", "--replace", "web", name, "--", "sleep 1000").ok()
    assert ctk("exec", name, "/bin/cat", "/tmp/note").ok().out == "once\n"
    ctk("rm", "-f", name).ok()
    assert not bundle.exists()
    ctk("image", "rm", "web").ok()
    ctk("image", "prune", "--all").ok()
    assert os.listdir(store / "layers") == []


def test_a_bundle_without_its_container(ctk: Command, store: Path, tmp_path: Path) -> None:
    """A run that was not to be kept has no record: gc says how its bundle goes, and that is how."""
    name = ctk.id()
    ctk("run", "--image", "web", name).ok()
    bundle = tmp_path / "data/bundles" / name
    assert bundle.exists()
    assert f"ctk rm -f {name}" in ctk("gc", "--dry-run").out
    ctk("rm", "-f", name).ok()
    assert not bundle.exists()


def test_nothing_is_left_of_what_can_not_be_run(
    ctk: Command, tmp_path: Path, busybox_layers: "tuple[bytes, bytes]"
) -> None:
    (tmp_path / "two").mkdir()
    ctk("copy", layout_of(tmp_path, busybox_layers), "store:empty").ok()
    ctk(
        "copy", layout_of(tmp_path / "two", busybox_layers, config={"User": "nobody-here", "Cmd": ["id"]}), "store:user"
    ).ok()
    for image, because in (("empty", "it names no command"), ("user", "no such user"), ("none", "no such image")):
        told = ctk("run", "--image", image, ctk.id()) if image != "none" else ctk("up", "--pull=never", "no/ne", "x")
        assert told.rc == 1 and because in told.err, image
    told = ctk("run", "--image", "empty", "--bundle", "x", ctk.id())
    assert told.rc == 1 and "--bundle" in told.err
    assert os.listdir(tmp_path / "data/bundles") == []


def test_ephemeral_and_detached(ctk: Command, store: Path, tmp_path: Path) -> None:
    name = ctk.id()
    ctk("up", "-d", "--ephemeral", "web", name, "--", "echo x > /tmp/x; sleep 1000").ok()
    assert not (tmp_path / "data/bundles" / name / "writable").exists()
    spec = json.loads((tmp_path / "data/bundles" / name / "config.json").read_text())
    assert spec["annotations"]["org.example"] == "yes" and "ctk.init" not in spec["annotations"]
    ctk("rm", "-f", name).ok()


def test_without_root(ctk: Command, home: Path, busybox_layers: "tuple[bytes, bytes]") -> None:
    """Layers get their owners from the user's subordinate ids; overlayfs is mounted in the container's namespaces."""
    place = layout_of(home, busybox_layers, config={"Cmd": ["id"], "User": "web", "Env": ["PATH=/bin"]})
    for path in home.rglob("*"):
        os.chown(path, ID, ID)
    kept = {key: value for key, value in ctk.environment.items() if not key.startswith(("CTK_", "XDG_"))}
    path = os.path.dirname(ctk.program) + ":/usr/bin:/bin:/usr/sbin:/sbin"
    script = (
        f"ctk copy {place} store:web && ctk run --rm --image web c1 && ctk up web c2 --no-tty -- sh -c 'id -u > /tmp/f'"
        " && cat $CTK_DATA/bundles/c2/writable/upper/tmp/f && ctk rm -f c2; ls $CTK_DATA/bundles"
    )
    told = subprocess.run(
        [*prefix(str(home)), "sh", "-c", script],
        cwd=home,
        env={
            **kept,
            "HOME": str(home),
            "PATH": path,
            "CTK_ROOT": f"{home}/run",
            "CTK_DATA": f"{home}/data",
            "CTK_CACHE": f"{home}/cache",
            "CTK_TEST_TAG": ctk.environment["CTK_TEST_TAG"],
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.stdout.splitlines()[:2] == ["uid=33(web) gid=44(web) groups=45(more)", "33"], told.stderr
    assert told.stdout.splitlines()[2:] == ["c2"], told.stdout  # rm's own; no bundle is left


def test_a_volume_of_the_image(ctk: Command, tmp_path: Path, busybox_layers: "tuple[bytes, bytes]") -> None:
    """Decision 0017: it lives as long as the bundle; on a read-only root it is a tmpfs with the image's files."""
    run = {"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"], "Volumes": {"/srv": {}}}
    place = layout_of(tmp_path, busybox_layers, config=run)
    ctk("copy", place, "store:volume").ok()
    name = ctk.id()
    for expected in ("new\n", "new\nwritten\n"):
        words = ("--", "/bin/sh", "-c", "ls /srv; echo x > /srv/written")
        assert ctk("up", "volume", name, "--no-tty", *words).ok().out == expected
    ctk("rm", "-f", name).ok()
    root = tmp_path / "root"
    root.mkdir()
    for layer in busybox_layers:
        subprocess.run(["tar", "-x", "-C", str(root)], input=layer, check=True)
    os.chown(root / "srv", 33, 44)  # its owner may write there, as before
    os.chmod(root / "srv", 0o750)
    words = [
        "--from-image",
        place.removeprefix("oci:"),
        "--rootfs",
        str(root),
        "--bundle",
        str(tmp_path),
        "--user",
        "33:44",
    ]
    ctk(
        "spec", *words, "--", "/bin/sh", "-c", "cat /srv/new; echo x > /srv/y; grep ' /srv ' /proc/mounts; echo x > /z"
    ).ok()
    told = ctk("run", "--bundle", str(tmp_path), ctk.id())
    assert told.out.startswith("new\nnone /srv tmpfs rw,nosuid,nodev"), (told.out, told.err)
    assert told.rc == 1 and "/z: Read-only file system" in told.out + told.err
    assert sorted(os.listdir(root / "srv")) == ["new"]


@pytest.mark.parametrize("verb", ["up", "run"])
def test_a_detached_one_that_is_not_to_stay_takes_its_bundle_along(
    verb: str, ctk: Command, store: Path, tmp_path: Path, busybox_layers: "tuple[bytes, bytes]"
) -> None:
    name = ctk.id()
    words = ["up", "--rm", "-d", "web", name, "--", "sleep 1000"]
    if verb == "run":
        (tmp_path / "sleep").mkdir()
        asleep = layout_of(tmp_path / "sleep", busybox_layers, config={"Cmd": ["/bin/sleep", "1000"]})
        ctk("copy", asleep, "store:sleep").ok()
        words = ["run", "--rm", "-d", "--image", "sleep", name]
    ctk(*words).ok()
    assert (tmp_path / "data/bundles" / name).exists()
    ctk("kill", name, "KILL").ok()
    bundle = tmp_path / "data/bundles" / name
    until(lambda: not bundle.exists() and not os.listdir(store / "leases"), "its removal")


def test_rm_takes_a_bundle_whose_container_did_not_start(ctk: Command, store: Path, tmp_path: Path) -> None:
    name = ctk.id()
    assert ctk("up", "web", name, "--no-tty", "--hook", "prestart=/none", "--", "id").rc
    ctk("rm", name).ok()
    assert os.listdir(tmp_path / "data/bundles") == [] and os.listdir(store / "leases") == []
    assert ctk("rm", name).rc == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("web", "x", "--arch", "arm64"), "--platform OS/ARCH"),
        (("web", "x", "--include", "vim"), "--include"),
        (("bookworm", "x", "--platform", "linux/arm64"), "--arch ARCH"),
        (("bookworm", "x", "--policy", "/none"), "--policy"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    words: "tuple[str, ...]", told: str, ctk: Command, store: Path, tmp_path: Path
) -> None:
    done = ctk("up", *words)
    assert done.rc == 1 and told in done.err
    assert not (tmp_path / "data/bundles").exists() or os.listdir(tmp_path / "data/bundles") == []


def test_a_policy_that_is_named_holds_for_what_is_there(ctk: Command, store: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "reject"}]}')
    done = ctk("up", "--policy", str(policy), "web", "x", "--no-tty", "--", "id")
    assert done.rc == 1 and "rejects it" in done.err and not (tmp_path / "data/bundles/x").exists()


def test_whatever_makes_the_store_larger_keeps_it_within_its_limit(
    ctk: Command, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them lets the laid-out layers of `web` go, which nobody uses."""
    (tmp_path / "context").mkdir()
    (tmp_path / "other").mkdir()
    other = layout_of(tmp_path / "other", (images.layer({"other": b""}),))
    (tmp_path / "context/Containerfile").write_text("FROM scratch\nLABEL a=b\nCOPY Containerfile /\n")
    for words in (
        ("pack", str(tmp_path / "context"), "packed"),
        ("copy", other, "store:more"),
        ("build", "-t", "built", str(tmp_path / "context")),
    ):
        ctk("run", "--rm", "--image", "web", ctk.id()).ok()
        assert os.listdir(store / "layers")
        monkeypatch.setitem(ctk.environment, "CTK_IMAGES_LIMIT", "1")
        assert "made room (CTK_IMAGES_LIMIT)" in ctk(*words).ok().err, words
        assert not os.listdir(store / "layers"), words
        monkeypatch.delitem(ctk.environment, "CTK_IMAGES_LIMIT")


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_archive_without_a_name_of_its_own_has_the_images(
    kind: str, ctk: Command, store: Path, tmp_path: Path
) -> None:
    """As of `podman save` and `docker save`: `load` would leave it nameless."""
    path = tmp_path / "out.tar"
    ctk("copy", "web", f"{kind}:{path}").ok()
    with tarfile.open(path) as archive:
        for name in ("index.json", "manifest.json"):
            member = archive.extractfile(name)
            assert member is not None and b'"docker.io/library/web:latest"' in member.read()
