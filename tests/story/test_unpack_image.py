"""`ctk unpack`: the bundle that umoci makes of the same image, from any place, and nothing half-made."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures import images, registry, registry_faults, user
from tests.fixtures import layers as made
from tests.fixtures.command import Command, tool
from tests.fixtures.registry_faults import Server
from tests.fixtures.waiting import until
from toolkit.image import layout, name
from toolkit.image.document import media_types

pytestmark = pytest.mark.root

PASSWD = b"root:x:0:0::/:/bin/sh\nweb:x:33:44:web:/srv:/bin/sh\n"
GROUP = b"root:x:0:\nweb:x:44:\nmore:x:45:web\n"
LOWER = made.tar(
    [
        made.folder(".", 0o751),
        made.folder("etc"),
        made.file("etc/passwd", PASSWD),
        made.file("etc/group", GROUP),
        made.file("etc/gone", b"gone"),
        made.folder("srv", 0o2775, uid=33, gid=44),
        made.file("srv/setuid", b"#!", 0o4755, uid=1000, xattrs={"user.note": b"a\0\xff"}),
        made.hard_link("srv/again", "srv/setuid", 0o4755, uid=1000, xattrs={"user.note": b"a\0\xff"}),
        made.file("srv/secret", b"s", 0, uid=33, gid=33, mtime=1_700_000_000.25),
        made.symlink("srv/link", "../etc/passwd", uid=7),
        made.folder("old", 0o700),
        made.file("old/one", b"1"),
        made.node("pipe", b"6"),
        made.node("null", b"3", 1, 3, 0o666),
    ]
)
UPPER = made.tar(
    [
        made.folder("etc"),
        made.file("etc/.wh.gone", b""),
        made.folder("old", 0o711),
        made.file("old/.wh..wh..opq", b""),
        made.file("old/two", b"2"),
    ]
)
RUN = {
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["id"],
    "User": "web",
    "WorkingDir": "/srv",
    "Env": ["PATH=/bin", "A=b"],
}
IMAGE = images.image(LOWER, UPPER, config=RUN)


def put(folder: Path, one: images.Image) -> str:
    """A layout with this image; its place."""
    place = f"oci:{folder}/layout:it"
    destination = layout.open_destination(name.locate(place))
    images.put(destination, one, "it")
    destination.commit()
    destination.close()
    return place


@pytest.fixture(scope="module")
def busybox(busybox_rootfs: Path) -> images.Image:
    """busybox, and a layer above it."""
    tar = ["tar", "-C", str(busybox_rootfs), "--sort=name", "--owner=0", "--group=0", "-c", "."]
    lower = subprocess.run(tar, capture_output=True, check=True).stdout
    upper = made.tar([made.folder("srv", uid=33, gid=44), made.file("srv/note", b"hello\n", 0o600, uid=33, gid=44)])
    return images.image(lower, upper, config={"Cmd": ["cat", "/srv/note"], "Env": ["PATH=/bin"]})


def test_it_is_what_umoci_unpacks(ctk: Command, tmp_path: Path) -> None:
    place = put(tmp_path, IMAGE)
    told = ctk("unpack", place, "--bundle", str(tmp_path / "ours"), "--devices").ok()
    assert told.out == "" and IMAGE.digest in told.err
    umoci = [tool("umoci"), "unpack", "--image", place.removeprefix("oci:"), str(tmp_path / "theirs")]
    subprocess.run(umoci, check=True, capture_output=True)
    ours, theirs = made.look(tmp_path / "ours/rootfs"), made.look(tmp_path / "theirs/rootfs")
    assert ours == theirs
    assert "etc/gone" not in ours and "old/one" not in ours and ours["null"][4] == (1, 3)
    assert ours["srv/again"][-1] == ("srv/again", "srv/setuid")
    assert sorted(os.listdir(tmp_path / "ours")) == ["config.json", "image.json", "rootfs"]
    assert (tmp_path / "ours").stat().st_mode & 0o777 == 0o700
    spec, their = (json.loads((tmp_path / one / "config.json").read_text()) for one in ("ours", "theirs"))
    their["process"]["env"].remove("HOME=/srv")  # the runtime sets it, from the same etc/passwd
    for field in ("args", "env", "cwd", "user"):
        assert spec["process"][field] == their["process"][field], field
    assert spec["process"]["user"] == {"uid": 33, "gid": 44, "additionalGids": [45]}
    assert spec["root"] == their["root"] == {"path": "rootfs"}


@pytest.mark.parametrize("runtime", ["ctk", "runc"])
def test_it_runs(ctk: Command, tmp_path: Path, busybox: images.Image, runtime: str) -> None:
    bundle = str(tmp_path / "bundle")
    ctk("unpack", put(tmp_path, busybox), "-b", bundle).ok()
    ctk("spec", "--update", "-b", bundle, "--no-tty").ok()
    command = ctk if runtime == "ctk" else ctk.like(runtime)
    assert command("run", "-b", bundle, ctk.id()).ok().out == "hello\n"


def test_any_place_will_do(
    ctk: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The store by a bare name, archives, a registry: the tree is the same. Device nodes are left out, with a note."""
    home = registry.own_home(tmp_path, monkeypatch)
    env = {"HOME": str(home), "no_proxy": os.environ.get("no_proxy", "")}
    place = put(tmp_path, IMAGE)
    with registry.running(tmp_path_factory.mktemp("registry")) as running:
        there = ["store:web:1", f"oci-archive:{tmp_path}/o.tar:x", f"docker-archive:{tmp_path}/d.tar:mine:1"]
        there.append(f"docker://{running.host}/web:1")
        found = []
        for number, one in enumerate(there):
            ctk("copy", place, one, env=env).ok()
            bundle = tmp_path / str(number)
            told = ctk("unpack", one.removeprefix("store:"), "-b", str(bundle), env=env).ok()
            assert "1 device nodes of the image were left out; --devices" in told.err
            found.append(made.look(bundle / "rootfs"))
    assert "null" not in found[0] and all(one == found[0] for one in found)
    # Unpacking from elsewhere puts nothing into the store.
    assert len(ctk("images", "--quiet", env=env).ok().out.splitlines()) == 1


def test_a_policy_is_followed(ctk: Command, tmp_path: Path) -> None:
    """ctk's own is in force for all commands that fetch images; this one once took them as they were."""
    place = put(tmp_path, IMAGE)
    own = tmp_path / "config/ctk/policy.json"
    own.parent.mkdir(parents=True)
    own.write_text('{"default": [{"type": "reject"}]}')
    for how in ({"env": {"XDG_CONFIG_HOME": str(tmp_path / "config")}}, {}):
        words = [] if how else ["--policy", str(own)]
        told = ctk("unpack", place, "--bundle", str(tmp_path / "b"), *words, **how)
        assert told.rc == 1 and f"the policy '{own}' rejects it" in told.err
        assert not (tmp_path / "b").exists()


def test_nothing_is_left_of_what_can_not_be_unpacked(ctk: Command, tmp_path: Path) -> None:
    place = put(tmp_path, IMAGE)
    blobs = tmp_path / "layout/blobs/sha256"
    upper = blobs / IMAGE.layers[1].digest.partition(":")[2]
    whole = upper.read_bytes()
    upper.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine").write_text("mine")
    for words, because in (
        ((place, "-b", "new/deep"), "digest"),
        ((place, "-b", "there"), "digest"),
        ((place, "-b", "new", "--platform", "linux/arm64"), "it is for linux/amd64"),
        ((f"oci:{tmp_path}/layout:none", "-b", "new"), "no image in it is called 'none'"),
        (("none", "-b", "new"), "the store has no such image"),
        (("oci:none", "-b", "new"), "no OCI image layout"),
        ((place, "-b", "there/mine"), "not a directory"),
    ):
        told = ctk("unpack", *words, cwd=tmp_path)
        assert told.rc == 1 and because in told.err.lower().replace("oci i", "OCI i"), (words, told.err)
    unknown = images.image(LOWER, config={"User": "stranger"})
    (tmp_path / "two").mkdir()
    told = ctk("unpack", put(tmp_path / "two", unknown), "-b", "new", cwd=tmp_path)
    assert told.rc == 1 and "stranger" in told.err
    assert not (tmp_path / "new").exists() and os.listdir(tmp_path / "there") == ["mine"]
    upper.write_bytes(whole)
    ctk("unpack", place, "-b", "there", cwd=tmp_path).ok()
    before = made.look(tmp_path / "there/rootfs")
    for gone in ("config.json", ""):
        told = ctk("unpack", place, "-b", "there", cwd=tmp_path)
        assert told.rc == 1 and "there is a 'rootfs' in it already" in told.err
        assert made.look(tmp_path / "there/rootfs") == before
        if gone:
            (tmp_path / "there" / gone).unlink()
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec/config.json").write_text("{}")
    told = ctk("unpack", place, "-b", "spec", cwd=tmp_path)
    assert told.rc == 1 and "there is a 'config.json' in it already" in told.err
    assert os.listdir(tmp_path / "spec") == ["config.json"]


def begun(process: "subprocess.Popen[str]", bundle: Path) -> None:
    """Wait until it unpacks."""
    until((bundle / ".rootfs.unpacking").exists, "the unpacking", of=process)


def test_an_end_in_the_middle(ctk: Command, tmp_path: Path) -> None:
    """Ctrl-C leaves nothing; what a killed one leaves, the next removes; two at once don't disturb each other."""
    big = images.image(LOWER, made.tar([made.file("zeros", bytes(150_000_000))]), codec=media_types.PLAIN, config=RUN)
    place, bundle = put(tmp_path, big), tmp_path / "bundle"
    for number, rc in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        one = ctk.popen("unpack", place, "-b", str(bundle), stderr=subprocess.PIPE)
        begun(one, bundle)
        one.send_signal(number)
        told = one.communicate(timeout=30)[1]
        assert one.returncode == rc and "interrupted" in told and not bundle.exists()
    one = ctk.popen("unpack", place, "-b", str(bundle), stderr=subprocess.PIPE)
    begun(one, bundle)
    one.send_signal(signal.SIGSTOP)
    told = ctk("unpack", place, "-b", str(bundle))
    assert told.rc == 1 and "another ctk unpacks an image there now" in told.err
    one.kill()
    one.communicate(timeout=30)
    assert os.listdir(bundle) == [".rootfs.unpacking"]
    (bundle / ".rootfs.unpacking/left").write_text("over")
    ctk("unpack", place, "-b", str(bundle)).ok()
    assert sorted(os.listdir(bundle)) == ["config.json", "image.json", "rootfs"]
    assert not (bundle / "rootfs/left").exists()


def theirs(ctk: Command, home: Path) -> "tuple[list[str], dict[str, str]]":
    """The first words of a user's command line, and the environment."""
    kept = {key: value for key, value in ctk.environment.items() if not key.startswith(("CTK_", "XDG_"))}
    env = {"HOME": str(home), "CTK_ROOT": f"{home}/run", "CTK_DATA": f"{home}/data", "CTK_CACHE": f"{home}/cache"}
    env |= {"CTK_TEST_TAG": ctk.environment["CTK_TEST_TAG"], "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    return [*user.prefix(str(home)), ctk.program], kept | env


def test_without_root(ctk: Command, home: Path, busybox: images.Image) -> None:
    """Owners are the user's subordinate ids, config.json maps them, and the user can run it."""
    place = put(home, busybox)
    words, env = theirs(ctk, home)

    def run(*more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*words, *more], cwd=home, env=env, capture_output=True, text=True, timeout=60)

    done = run("unpack", place, "-b", "bundle")
    assert done.returncode == 0, done.stderr
    about = (home / "bundle/rootfs/srv/note").stat()
    assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (user.FIRST + 32, user.FIRST + 43, 0o600)
    assert (home / "bundle/config.json").stat().st_uid == user.ID
    spec = json.loads((home / "bundle/config.json").read_text())
    assert [one["hostID"] for one in spec["linux"]["uidMappings"]] == [user.ID, user.FIRST]
    run("spec", "--update", "-b", "bundle", "--no-tty")
    done = run("run", "-b", "bundle", "c1")
    assert done.stdout == "hello\n", done.stderr
    # An owner that no subordinate id stands for.
    far = images.image(made.tar([made.file("far", uid=718322462)]), config=RUN | {"User": ""})
    (home / "far").mkdir()
    place = put(home / "far", far)
    done = run("unpack", place, "-b", "new")
    assert done.returncode == 1 and "718322462" in done.stderr and "--squash-ids" in done.stderr
    assert not (home / "new").exists()
    done = run("unpack", place, "-b", "new", "--squash-ids")
    assert done.returncode == 0 and (home / "new/rootfs/far").stat().st_uid == user.ID, done.stderr


@pytest.mark.parametrize("who", ["root", "user"])
def test_ctrl_c_while_nothing_comes(
    ctk: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, busybox: images.Image
) -> None:
    """A registry that asks to wait for a minute is not waited for."""
    registry.own_home(tmp_path, monkeypatch)
    words, env = theirs(ctk, home) if who == "user" else ([ctk.program], dict(ctk.environment))
    env["no_proxy"] = "127.0.0.1"
    with registry.running(tmp_path / "registry") as running, Server(running.host).running() as server:
        ctk("copy", put(tmp_path, busybox), f"docker://{running.host}/one:1").ok()
        server.rule(f"GET .*/blobs/{busybox.layers[1].digest}", registry_faults.status(503, Retry_After="50"))
        bundle = home / "bundle"
        one = subprocess.Popen(
            [*words, "unpack", f"docker://{server.host}/one:1", "-b", str(bundle)],
            env=env,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: any(busybox.layers[1].digest in line for line in server.lines("GET")), "its GET", of=one)
        began = time.monotonic()
        one.send_signal(signal.SIGINT)
        told = one.communicate(timeout=30)[1]
        assert one.returncode == 130 and time.monotonic() - began < 5, told
    assert not bundle.exists()
