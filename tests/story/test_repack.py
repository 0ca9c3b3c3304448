"""`ctk pack` of an unpacked bundle: one more layer with what has changed, on those of its image, as umoci repack."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.fixtures import layers as made
from tests.fixtures.command import Command, tool
from tests.fixtures.user import prefix
from tests.story.test_unpack_image import IMAGE, put

pytestmark = pytest.mark.root


def change(root: Path) -> None:
    """One of each: files, folders, links and nodes are removed, changed or new."""
    (root / "etc/group").unlink()
    shutil.rmtree(root / "old")
    (root / "srv/setuid").write_bytes(b"#!new")
    os.setxattr(root / "srv/secret", "user.more", b"1")
    (root / "srv/link").unlink()
    (root / "srv/link").symlink_to("elsewhere")
    (root / "new/deep").mkdir(parents=True)
    (root / "new/deep/file").write_text("1\n")
    os.link(root / "new/deep/file", root / "new/again")
    (root / "pipe").unlink()
    (root / "pipe").mkdir()
    os.chmod(root / "etc", 0o711)


def layers(layout: Path, tag: str) -> list[dict[str, Any]]:
    """As the image's manifest in the layout has them."""
    listed = json.loads((layout / "index.json").read_text())["manifests"]
    (digest,) = [one["digest"] for one in listed if one["annotations"]["org.opencontainers.image.ref.name"] == tag]
    blob = layout / "blobs/sha256" / digest.partition(":")[2]
    found: list[dict[str, Any]] = json.loads(blob.read_text())["layers"]
    return found


def members(layout: Path, layer: dict[str, Any]) -> list[str]:
    """The names in a gzip layer, in order."""
    blob = layout / "blobs/sha256" / layer["digest"].partition(":")[2]
    return subprocess.run(["tar", "tzf", blob], capture_output=True, check=True, text=True).stdout.split()


@pytest.fixture
def bundle(ctk: Command, tmp_path: Path) -> Path:
    ctk("unpack", put(tmp_path, IMAGE), "-b", str(tmp_path / "bundle"), "--devices").ok()
    return tmp_path / "bundle"


def test_what_has_changed_is_one_more_layer(ctk: Command, bundle: Path, tmp_path: Path) -> None:
    root = bundle / "rootfs"
    change(root)
    ctk("pack", str(bundle), f"oci:{tmp_path}/layout:2", "-c", "ENV B=c", "-m", "second").ok()
    found = layers(tmp_path / "layout", "2")
    assert [one["digest"] for one in found[:-1]] == [one["digest"] for one in layers(tmp_path / "layout", "it")]
    assert members(tmp_path / "layout", found[-1]) == [
        "./", ".wh.old", "etc/", "etc/.wh.group", "new/", "new/again", "new/deep/", "new/deep/file", "pipe/",
        "srv/", "srv/again", "srv/link", "srv/secret", "srv/setuid",
    ]  # fmt: skip
    ctk("unpack", f"oci:{tmp_path}/layout:2", "-b", str(tmp_path / "ours"), "--devices").ok()
    umoci = [tool("umoci"), "unpack", "--image", f"{tmp_path}/layout:2", str(tmp_path / "theirs")]
    subprocess.run(umoci, check=True, capture_output=True)
    ours = made.look(tmp_path / "ours/rootfs", times=False)
    assert ours == made.look(tmp_path / "theirs/rootfs", times=False) == made.look(root, times=False)
    told = subprocess.run([tool("skopeo"), "inspect", "--config", f"oci:{tmp_path}/layout:2"], capture_output=True)
    config = json.loads(told.stdout)
    assert config["config"]["Env"] == ["PATH=/bin", "A=b", "B=c"] and config["config"]["User"] == "web"
    assert [one.get("comment") for one in config["history"]][-1] == "second"


def test_nothing_has_changed(ctk: Command, bundle: Path, tmp_path: Path) -> None:
    os.utime(bundle / "rootfs/srv/setuid")
    told = ctk("pack", str(bundle), f"oci:{tmp_path}/layout:2").ok()
    assert "nothing has changed" in told.err
    assert len(layers(tmp_path / "layout", "2")) == len(IMAGE.layers)


def test_devices_that_were_left_out_were_not_removed(ctk: Command, tmp_path: Path) -> None:
    ctk("unpack", put(tmp_path, IMAGE), "-b", str(tmp_path / "bundle")).ok()
    assert not (tmp_path / "bundle/rootfs/null").exists()
    (tmp_path / "bundle/rootfs/etc/group").unlink()
    ctk("pack", str(tmp_path / "bundle"), f"oci:{tmp_path}/layout:2").ok()
    assert members(tmp_path / "layout", layers(tmp_path / "layout", "2")[-1]) == ["./", "etc/", "etc/.wh.group"]


def test_mount_points_of_the_runtime_are_no_change(ctk: Command, busybox_rootfs: Path, tmp_path: Path) -> None:
    for name in ("proc", "sys", "dev"):
        shutil.rmtree(busybox_rootfs / name, ignore_errors=True)
    ctk("pack", str(busybox_rootfs), "base:1", "-c", 'CMD ["sh", "-c", "echo 1 > /new"]', "-c", "ENV PATH=/bin").ok()
    bundle = str(tmp_path / "bundle")
    ctk("unpack", "base:1", "-b", bundle).ok()
    ctk("spec", "--update", "-b", bundle, "--no-tty").ok()
    ctk("run", "-b", bundle, ctk.id()).ok()
    assert (tmp_path / "bundle/rootfs/proc").is_dir()
    ctk("pack", bundle, f"oci:{tmp_path}/layout:2").ok()
    assert members(tmp_path / "layout", layers(tmp_path / "layout", "2")[-1]) == ["./", "new"]


def test_the_image_may_have_lost_its_name_but_not_its_layers(ctk: Command, bundle: Path, tmp_path: Path) -> None:
    ctk("copy", f"oci:{tmp_path}/layout:it", "store:web:1").ok()
    shutil.rmtree(bundle)
    ctk("unpack", "web:1", "-b", str(bundle)).ok()
    (bundle / "rootfs/etc/new").write_text("1\n")
    ctk("pack", str(bundle), "web:2").ok()
    ctk("image", "tag", "web:2", "web:1").ok()  # now another image's
    ctk("pack", str(bundle), "web:3").ok()
    ctk("copy", "store:web:3", f"oci:{tmp_path}/three:3").ok()
    assert len(layers(tmp_path / "three", "3")) == len(IMAGE.layers) + 1
    shutil.rmtree(tmp_path / "data/images")
    lost = ctk("pack", str(bundle), f"oci:{tmp_path}/other:1")
    assert lost.rc == 1 and "web:1" in lost.err and "--squash" in lost.err
    assert not (tmp_path / "other").exists()
    ctk("pack", "--squash", str(bundle), f"oci:{tmp_path}/other:1").ok()
    assert len(layers(tmp_path / "other", "1")) == 1


def test_another_image_under_its_name(ctk: Command, bundle: Path, tmp_path: Path) -> None:
    (bundle / "rootfs/etc/new").write_text("1\n")
    ctk("pack", str(bundle), f"oci:{tmp_path}/layout:it").ok()
    told = ctk("pack", str(bundle), f"oci:{tmp_path}/layout:it")
    assert told.rc == 1 and f"the bundle was made of {IMAGE.digest}" in told.err and "--squash" in told.err


@pytest.mark.parametrize("text", ["", "[]", '{"image": 1}', '{"image": "x", "digest": "y", "platform": ""}'])
def test_a_damaged_record_is_one_error(ctk: Command, bundle: Path, tmp_path: Path, text: str) -> None:
    (bundle / "image.json").write_text(text)
    told = ctk("pack", str(bundle), f"oci:{tmp_path}/other:1")
    assert told.rc == 1 and "image.json" in told.err and "--squash" in told.err
    assert not (tmp_path / "other").exists()


def scribble(top: Path, random: Random) -> None:
    """Make, change, replace and remove some of what is in a tree."""
    for _ in range(25):
        folders = [top, *(path for path in top.rglob("*") if path.is_dir() and not path.is_symlink())]
        path = random.choice(folders) / random.choice("abc")
        kind = random.choice(["file", "file", "folder", "link", "hard", "node", "gone", "mode"])
        if kind == "mode" and path.exists() and not path.is_symlink():
            os.chmod(path, random.choice([0o700, 0o755, 0o4711]))
        elif kind == "folder" and path.is_dir() and not path.is_symlink():
            os.chown(path, random.randrange(3), 0)
        else:
            others = [one for one in top.rglob("*") if one.is_file() and not one.is_symlink() and one != path]
            if path.is_dir() and not path.is_symlink():
                others = [one for one in others if path not in one.parents]
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            if kind == "file":
                path.write_text(random.choice("xyz"))
            elif kind == "folder":
                path.mkdir()
            elif kind == "link":
                path.symlink_to(random.choice(["a", "../b", "/c"]))
            elif kind == "node":
                os.mkfifo(path)
            elif kind == "hard" and others:
                os.link(random.choice(others), path)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_was_done_to_the_root_is_in_the_image(ctk: Command, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    (tmp_path / "root").mkdir()
    scribble(tmp_path / "root", random)
    ctk("pack", str(tmp_path / "root"), f"oci:{tmp_path}/layout:1").ok()
    for number in (1, 2):
        bundle = tmp_path / f"bundle{number}"
        ctk("unpack", f"oci:{tmp_path}/layout:{number}", "-b", str(bundle)).ok()
        scribble(bundle / "rootfs", random)
        ctk("pack", str(bundle), f"oci:{tmp_path}/layout:{number + 1}").ok()
    ctk("unpack", f"oci:{tmp_path}/layout:3", "-b", str(tmp_path / "last")).ok()
    theirs = ["umoci", "unpack", "--image", f"{tmp_path}/layout:3", str(tmp_path / "theirs")]
    subprocess.run([tool(theirs[0]), *theirs[1:]], check=True, capture_output=True)
    want, found, also = (made.look(tmp_path / one / "rootfs", times=False) for one in ("bundle2", "last", "theirs"))
    del want["."], found["."], also["."]  # what happens to the root alone is no change
    assert _unlinked(found) == _unlinked(want) and _unlinked(also) == _unlinked(want)


def _unlinked(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Without the other names of a file: that two files have become one is no change."""
    return {path: facts[: 5 if facts[0].startswith("d") else -1] for path, facts in found.items()}  # type: ignore[attr-defined]


def test_without_root(ctk: Command, home: Path) -> None:
    put(home, IMAGE)
    kept = {key: value for key, value in ctk.environment.items() if not key.startswith(("CTK_", "XDG_"))}
    path = os.path.dirname(ctk.program) + ":/usr/bin:/bin:/usr/sbin:/sbin"
    env = {**kept, "HOME": str(home), "PATH": path, "CTK_TEST_TAG": ctk.environment["CTK_TEST_TAG"]}
    env |= {"CTK_ROOT": f"{home}/run", "CTK_DATA": f"{home}/data", "CTK_CACHE": f"{home}/cache"}
    script = "ctk unpack oci:layout:it -b bundle && echo 1 > bundle/rootfs/new && ctk pack bundle oci:mine:2"
    told = subprocess.run(
        [*prefix(str(home)), "sh", "-c", script],
        cwd=home, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert members(home / "mine", layers(home / "mine", "2")[-1]) == ["./", "new"]
