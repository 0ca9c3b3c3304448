"""`ctk pack` and `ctk commit`: a root, and what a container has changed, become images that others read."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import layers as made
from tests.fixtures.command import Command, tool
from tests.fixtures.user import ID, prefix
from tests.fixtures.waiting import until

pytestmark = pytest.mark.root

CHANGE = (
    "echo new > /srv/new; rm /etc/base; rm -r /old; mkdir /old; echo 2 > /old/two; ln /srv/new /srv/again;"
    " chown 33:44 /srv/new; chmod 4711 /srv/new"
)
WHEN = 1_700_000_000


@pytest.fixture
def root(busybox_rootfs: Path) -> Path:
    (busybox_rootfs / "etc/base").write_text("base\n")
    for name in ("old", "srv"):
        (busybox_rootfs / name).mkdir(exist_ok=True)
    (busybox_rootfs / "old/one").write_text("1\n")
    return busybox_rootfs


@pytest.fixture
def web(ctk: Command, root: Path) -> str:
    """An image in the store."""
    ctk("pack", str(root), "web:1", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin GREETING=hello").ok()
    return "web:1"


def config(ctk: Command, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ctk("image", "inspect", image).ok().out)["config"]
    return found


def unpacked(ctk: Command, image: str, bundle: Path) -> dict[str, tuple[object, ...]]:
    ctk("unpack", image, "-b", str(bundle)).ok()
    return made.look(bundle / "rootfs")


def by_umoci(place: str, bundle: Path) -> dict[str, tuple[object, ...]]:
    words = [tool("umoci"), "unpack", "--image", place.removeprefix("oci:"), str(bundle)]
    subprocess.run(words, check=True, capture_output=True)
    return made.look(bundle / "rootfs")


def seconds(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """A layer has whole seconds."""
    return {path: (*facts[:3], int(str(facts[3])) // 10**9 * 10**9, *facts[4:]) for path, facts in found.items()}


def test_a_packed_root_is_what_umoci_unpacks(ctk: Command, root: Path, tmp_path: Path) -> None:
    place = f"oci:{tmp_path}/layout:it"
    told = ctk("pack", str(root), place, "-c", "ENTRYPOINT id -u", "-c", "USER 33", "-a", "me", "-m", "first").ok()
    assert told.out == ""
    assert by_umoci(place, tmp_path / "theirs") == seconds(made.look(root))
    said = json.loads(subprocess.run([tool("skopeo"), "inspect", "--config", place], capture_output=True).stdout)
    assert said["author"] == "me" and said["config"] == {"Entrypoint": ["/bin/sh", "-c", "id -u"], "User": "33"}
    assert said["history"][0]["comment"] == "first" and said["history"][0]["created_by"] == "ctk pack"
    assert not (tmp_path / "data/images/blobs/sha256").exists()  # nothing of it is in the store


def test_the_same_root_is_the_same_image_everywhere(
    ctk: Command, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"SOURCE_DATE_EPOCH": str(WHEN)}
    subprocess.run(["cp", "-a", root, tmp_path / "copy"], check=True)
    (tmp_path / "copy/etc").touch()
    ctk("pack", str(root), f"oci:{tmp_path}/a:x", env=env).ok()
    ctk("pack", str(tmp_path / "copy"), f"oci:{tmp_path}/b:x", env=env).ok()
    ctk("pack", str(root), f"oci-archive:{tmp_path}/c.tar:x", env=env).ok()
    ctk("pack", str(root), "x", env=env).ok()
    ctk("copy", f"oci-archive:{tmp_path}/c.tar:x", f"oci:{tmp_path}/c:x").ok()
    subprocess.run([tool("skopeo"), "copy", f"oci:{tmp_path}/a:x", f"oci:{tmp_path}/d:x"], check=True)
    ctk("copy", "store:x", f"oci:{tmp_path}/e:x").ok()
    indexes = {json.loads((tmp_path / name / "index.json").read_text())["manifests"][0]["digest"] for name in "abcde"}
    assert len(indexes) == 1
    assert config(ctk, "x")["created"] == "2023-11-14T22:13:20Z"
    blobs = [sorted(os.listdir(tmp_path / name / "blobs/sha256")) for name in "abcd"]
    assert all(one == blobs[0] for one in blobs) and len(blobs[0]) == 3


def test_a_bundle_brings_its_process(ctk: Command, root: Path, tmp_path: Path) -> None:
    bundle = str(tmp_path)
    words = ("--rootfs", str(root), "-b", bundle, "--cwd", "/srv", "--env", "A=b", "--user", "33:44")
    ctk("spec", *words, "--", "/bin/id", "-u").ok()
    ctk("pack", bundle, "it", "-c", "LABEL a=b c='d e'", "-c", "EXPOSE 80").ok()
    run = config(ctk, "it")["config"]
    assert run["Cmd"] == ["/bin/id", "-u"] and run["WorkingDir"] == "/srv" and run["User"] == "33:44"
    assert "A=b" in run["Env"] and run["Labels"] == {"a": "b", "c": "d e"} and run["ExposedPorts"] == {"80/tcp": {}}
    assert ctk("run", "--rm", "--image", "it", ctk.id()).ok().out == "33\n"


@pytest.mark.parametrize("codec", ["gzip", "zstd", "none"])
def test_a_commit_has_what_has_changed(ctk: Command, web: str, tmp_path: Path, codec: str) -> None:
    name = ctk.id()
    ctk("up", web, name, "--no-tty", "--", "sh", "-c", CHANGE).ok()
    ctk("commit", name, "web:2", "--compression", codec, "--message", "second", "-c", "ENV GREETING=bye").ok()
    inspected = json.loads(ctk("image", "inspect", "web:2").ok().out)
    first, second = inspected["layers"]
    assert first["digest"] == json.loads(ctk("image", "inspect", web).ok().out)["layers"][0]["digest"]
    assert second["size"] < 8192
    assert inspected["config"]["rootfs"]["diff_ids"] == [first["diffID"], second["diffID"]]
    assert [one["created_by"] for one in inspected["config"]["history"]] == ["ctk pack", "ctk commit"]
    assert inspected["config"]["config"]["Env"] == ["PATH=/bin", "GREETING=bye"]
    ctk("copy", "store:web:2", f"oci:{tmp_path}/layout:2").ok()
    blob = tmp_path / "layout/blobs/sha256" / second["digest"].partition(":")[2]
    plain = {"gzip": ["gzip", "-dc"], "zstd": ["zstd", "-dcq"], "none": ["cat"]}[codec]
    tar = subprocess.run(plain, input=blob.read_bytes(), capture_output=True, check=True).stdout
    listed = subprocess.run(["tar", "t"], input=tar, capture_output=True, check=True).stdout.decode().split()
    assert listed == [
        "./", "etc/", "etc/.wh.base", "old/", "old/.wh..wh..opq", "old/two", "srv/", "srv/again", "srv/new",
    ]  # fmt: skip
    ours = unpacked(ctk, "web:2", tmp_path / "ours")
    if codec != "zstd":  # which umoci 0.4.7 does not know
        assert by_umoci(f"oci:{tmp_path}/layout:2", tmp_path / "theirs") == ours
    assert "etc/base" not in ours and "old/one" not in ours
    assert ours["srv/again"][-1] == ours["srv/new"][-1] == ("srv/again", "srv/new")
    look = "cat /srv/new /old/*; ls /etc/base; stat -c '%a %u %g' /srv/again; echo $GREETING"
    told = ctk("up", "web:2", ctk.id(), "--rm", "--no-tty", "--", "sh", "-c", look)
    assert told.out == "new\n2\n4711 33 44\nbye\n" and "/etc/base" in told.err
    assert "no damage" in ctk("image", "check").ok().out
    ctk("rm", "-f", name).ok()


def test_nothing_has_changed(ctk: Command, web: str) -> None:
    """Only the mount points that the runtime has made; then a commit changes the configuration alone."""
    name = ctk.id()
    ctk("up", web, name, "--no-tty", "--", "true").ok()
    ctk("commit", name, "web:2", "--change", "CMD=id -u").ok()
    found = config(ctk, "web:2")
    assert len(found["rootfs"]["diff_ids"]) == 1 and found["history"][-1]["empty_layer"] is True
    assert found["config"]["Cmd"] == ["/bin/sh", "-c", "id -u"]
    assert ctk("run", "--rm", "--image", "web:2", ctk.id()).ok().out == "0\n"
    ctk("rm", "-f", name).ok()


def test_the_same_changes_are_the_same_image(ctk: Command, web: str, tmp_path: Path) -> None:
    env = {"SOURCE_DATE_EPOCH": str(WHEN)}
    digests = set()
    for number in range(2):
        name = ctk.id()
        ctk("up", web, name, "--no-tty", "--", "sh", "-c", CHANGE).ok()
        ctk("commit", name, f"web:{number}", "-m", "x", env=env).ok()
        digests.add(json.loads(ctk("image", "inspect", f"web:{number}").ok().out)["digest"])
        ctk("rm", "-f", name).ok()
    assert len(digests) == 1


def test_a_running_container_is_paused_and_goes_on(ctk: Command, web: str, tmp_path: Path) -> None:
    name = ctk.id()
    count = "i=0; mkdir /count; while :; do i=$((i+1)); echo $i > /count/a; echo $i > /count/b; done"
    ctk("up", "-d", web, name, "--", "sh", "-c", count).ok()
    counted = tmp_path / "data/bundles" / name / "writable/upper/count/b"
    try:
        until(counted.exists, "the first count")
        told = ctk("commit", name, "web:2").ok()
        assert "pause" not in told.err
        assert json.loads(ctk("state", name).ok().out)["status"] == "running"
        root = tmp_path / "two"
        ctk("unpack", "web:2", "-b", str(root)).ok()
        a, b = (int((root / "rootfs/count" / one).read_text() or -1) for one in "ab")
        assert -1 in (a, b) or a - b in (0, 1)
        was = counted.read_text()
        until(lambda: counted.read_text() not in (was, ""), "the next count")
        ctk("pause", name).ok()
        ctk("commit", name, "web:3").ok()
        assert json.loads(ctk("state", name).ok().out)["status"] == "paused"
        ctk("resume", name).ok()
        told = ctk("commit", "--no-pause", name, "web:4")
        assert "goes on running" in told.err
    finally:
        ctk("rm", "-f", name)


def test_what_can_not_be_is_refused(ctk: Command, web: str, root: Path, tmp_path: Path) -> None:
    name = ctk.id()
    ctk("up", web, name, "--no-tty", "--", "sh", "-c", "echo x > /srv/x").ok()
    memory = ctk.id()
    ctk("up", web, memory, "--ephemeral", "--no-tty", "--", "true").ok()
    spoiled = tmp_path / "spoiled"
    (spoiled / "etc").mkdir(parents=True)
    (spoiled / "etc/.wh.x").write_text("")
    before = ctk("images", "--json").ok().out
    for words, because in (
        (("commit", "none", "x:1"), "no such container"),
        (("commit", memory, "x:1"), "--ephemeral"),
        (("commit", name, "X:1"), "is not a repository"),
        (("commit", name, "x@sha256:" + "0" * 64), "digest is not known"),
        (("commit", name, "x:1", "--compression", "xz"), "gzip, zstd, none"),
        (("commit", name, "x:1", "-c", "RUN id"), "can be changed"),
        (("commit", name, f"oci:{tmp_path}/none/deep:1"), "make the folder above"),
        (("pack", "none", "x:1"), "neither such a folder nor a bundle"),
        (("pack", name, "x:1"), "ctk commit"),
        (("pack", str(spoiled), f"oci:{tmp_path}/layout"), ".wh."),
        (("pack", str(spoiled), f"oci-archive:{tmp_path}/archive"), ".wh."),
        (("pack", str(root), "x:1", "--platform", "a/b/c/d"), "a/b/c/d"),
    ):
        told = ctk(*words)
        assert told.rc == 1 and because in told.err, (words, told.err)
        assert "Traceback" not in told.err
    assert ctk("images", "--json").ok().out == before
    assert not (tmp_path / "layout").exists() and not (tmp_path / "archive").exists()
    assert os.listdir(tmp_path / "data/images/parts") == []
    for one in (name, memory):
        ctk("rm", "-f", one).ok()


def test_without_root(ctk: Command, home: Path, root: Path) -> None:
    """Owners are those in the container, and whiteouts are found in the user's form of them."""
    subprocess.run(["cp", "-r", root, home / "root"], check=True)
    for path in (home / "root", *(home / "root").rglob("*")):
        os.chown(path, ID, ID, follow_symlinks=False)
    kept = {key: value for key, value in ctk.environment.items() if not key.startswith(("CTK_", "XDG_"))}
    path = os.path.dirname(ctk.program) + ":/usr/bin:/bin:/usr/sbin:/sbin"
    script = (
        "ctk pack root web:1 -c 'ENV PATH=/bin' && ctk up web:1 c1 --no-tty -- sh -c '" + CHANGE + "'"
        " && ctk commit c1 web:2 && ctk commit c1 oci:layout:2"
        " && ctk up web:2 c2 --rm --no-tty -- sh -c 'ls /etc/base; cat /old/*; stat -c \"%a %u %g\" /srv/again'"
        "; ctk rm -f c1"
    )
    env = {
        **kept,
        "HOME": str(home),
        "PATH": path,
        "CTK_ROOT": f"{home}/run",
        "CTK_DATA": f"{home}/data",
        "CTK_CACHE": f"{home}/cache",
        "CTK_TEST_TAG": ctk.environment["CTK_TEST_TAG"],
    }
    told = subprocess.run(
        [*prefix(str(home)), "sh", "-c", script],
        cwd=home, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert told.stdout.splitlines()[:2] == ["2", "4711 33 44"], told.stderr
    found = by_umoci(f"oci:{home}/layout:2", home / "theirs")
    assert "etc/base" not in found and "old/one" not in found and "old/two" in found
    assert found["srv/new"][1:3] == (33, 44)
