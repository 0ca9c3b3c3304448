"""`ctk pull`, `push` and `copy` with Debian's registry: nothing changes on the way, and nothing is moved twice."""

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import images, registry, user
from tests.fixtures.command import Command, tool
from tests.fixtures.registry import PASSWORD, USER, DebianRegistry
from toolkit.image import layout, name
from toolkit.image.store.store import Store

pytestmark = pytest.mark.root

ONE = images.image(
    images.layer({"etc/": b"", "etc/one": os.urandom(300_000), "etc/gone": b"1"}),
    images.layer({"etc/": b"", "etc/.wh.gone": b"", "etc/two": b"2"}),
    config={"Cmd": ["sh"]},
)
OTHER = images.image(images.layer({"arm": b"arm"}), platform=images.ARM64)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRegistry]:
    with registry.running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own, and a user without settings."""
    registry.own_home(tmp_path, monkeypatch)
    return tmp_path / "images"


@pytest.fixture
def ours(ctk: Command, store: Path) -> Callable[..., "object"]:
    """ctk, with that store."""

    def call(*words: str, limit: str = "", **named: object) -> object:
        env = {key: os.environ[key] for key in ("HOME", "XDG_RUNTIME_DIR", "CONTAINERS_REGISTRIES_CONF", "no_proxy")}
        env |= {"CTK_IMAGES": str(store), "CTK_IMAGES_LIMIT": limit}
        return ctk(*words, env=env, **named)  # type: ignore[arg-type]

    return call


@pytest.fixture(scope="module")
def shelf(running: DebianRegistry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The repository `two`, which has an index of ONE and OTHER; skopeo put it there."""
    folder = tmp_path_factory.mktemp("shelf")
    destination = layout.open_destination(name.locate(f"oci:{folder}/layout:it"))
    for one in (ONE, OTHER):
        images.put(destination, one)
    destination.put_manifest(images.index(ONE, OTHER, platforms=(images.AMD64, images.ARM64)), "it")
    destination.commit()
    destination.close()
    where = f"{running.host}/two"
    registry.skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{folder}/layout:it", f"docker://{where}:1")
    return where


def requests(running: DebianRegistry, method: str) -> int:
    """How many it has answered, once its log says no more."""
    length = -1
    while length != len(running.log):
        length = len(running.log)
        time.sleep(0.3)
    return sum(f"http.request.method={method} " in line and "response completed" in line for line in running.log)


def test_an_image_comes_whole_and_once(ours: Command, store: Path, running: DebianRegistry, shelf: str) -> None:
    told = ours("pull", "--json", f"{shelf}:1").ok().out
    done = json.loads(told.splitlines()[-1])["result"]
    index = registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{shelf}:1")
    assert done["digest"] == images.digests.of(index)
    assert done["bytes"] >= sum(layer.size_bytes for layer in ONE.layers)
    # Another program reads the store: it is an OCI layout.
    kept = registry.skopeo("inspect", "--raw", f"oci:{store}:{shelf}:1")
    assert kept == index
    trees = {path.name.partition(".")[0]: path / "tree" for path in (store / "layers").iterdir()}
    assert set(trees) == {one.partition(":")[2] for one in ONE.diff_ids}
    lower, upper = (trees[one.partition(":")[2]] for one in ONE.diff_ids)
    assert sorted(os.listdir(lower / "etc")) == ["gone", "one"]
    whiteout = os.lstat(upper / "etc/gone")
    assert stat.S_ISCHR(whiteout.st_mode) and whiteout.st_rdev == 0
    before = {method: requests(running, method) for method in ("GET", "HEAD")}
    again = json.loads(ours("pull", "--json", f"{shelf}:1").ok().out.splitlines()[-1])
    assert again["result"]["bytes"] == 0 and "up to date" in again["text"]
    assert requests(running, "GET") == before["GET"] and requests(running, "HEAD") == before["HEAD"] + 1


def test_another_platform(ours: Command, shelf: str) -> None:
    ours("pull", "--platform", "linux/arm64", f"{shelf}:1").ok()
    assert "pulled" in ours("pull", f"{shelf}:1").ok().err  # that of this machine was not there yet
    told = ours("pull", "--platform", "linux/s390x", f"{shelf}:1")
    assert told.rc == 1 and "linux/amd64" in told.err and "--platform" in told.err


def test_an_image_without_an_index_is_not_taken_for_another_platforms(ours: Command, shelf: str) -> None:
    one = f"{shelf}@{ONE.digest}"
    for _ in range(2):  # with nothing in the store, and with that image
        told = ours("pull", "--platform", "linux/arm64", one)
        assert told.rc == 1 and "linux/amd64" in told.err and "linux/arm64 was asked for" in told.err
        ours("pull", one).ok()
    ours("pull", "--platform", "linux/amd64", one).ok()
    ours("pull", f"{shelf}@{OTHER.digest}").ok()  # unasked, as skopeo and podman do


def test_it_goes_on_where_it_was(ours: Command, store: Path, shelf: str) -> None:
    """What an earlier pull has left is not asked for again, and what is wrong in it is found."""
    big = ONE.layers[0]
    parts = store / "parts"
    ours("pull", "--no-layers", f"{shelf}:1").ok()
    blob = store / "blobs/sha256" / big.digest.partition(":")[2]
    part = parts / big.digest.replace(":", "-")
    os.rename(blob, part)
    os.truncate(part, 100_000)
    done = json.loads(ours("pull", "--json", f"{shelf}:1").ok().out.splitlines()[-1])
    assert blob.read_bytes() == ONE.blobs[big.digest] and not part.exists()
    assert done["text"].startswith("pulled")
    os.rename(blob, part)
    os.truncate(part, 100_000)
    with part.open("r+b") as file:
        file.write(b"another")
    told = ours("pull", f"{shelf}:1")
    assert told.rc == 1 and "digest" in told.err and not part.exists() and not blob.exists()
    ours("pull", f"{shelf}:1").ok()


def test_nothing_changes_on_the_way(ours: Command, shelf: str, running: DebianRegistry, tmp_path: Path) -> None:
    """Registry to layout to archive to store to registry: all manifests keep their bytes."""
    raw = registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{shelf}:1")
    ours("copy", "--all", f"docker://{shelf}:1", f"oci:{tmp_path}/layout:one").ok()
    ours("copy", "--all", f"oci:{tmp_path}/layout:one", f"oci-archive:{tmp_path}/one.tar:two").ok()
    ours("copy", "--all", f"oci-archive:{tmp_path}/one.tar:two", "store:kept:1").ok()
    ours("push", "--all-platforms", "kept:1", f"{running.host}/back:2").ok()
    assert registry.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{running.host}/back:2") == raw
    # One platform, to a program that knows docker's archives only.
    ours("copy", f"docker://{shelf}:1", f"docker-archive:{tmp_path}/docker.tar:mine:1").ok()
    told = json.loads(registry.skopeo("inspect", "--config", f"docker-archive:{tmp_path}/docker.tar:mine:1"))
    assert told["rootfs"]["diff_ids"] == ONE.diff_ids
    posts = requests(running, "POST")
    ours("copy", "--all", f"docker://{shelf}:1", f"docker://{running.host}/mounted:1").ok()
    patches = requests(running, "PATCH"), requests(running, "PUT")
    assert requests(running, "POST") > posts
    ours("copy", "--all", f"docker://{shelf}:1", f"docker://{running.host}/mounted:1").ok()
    assert requests(running, "PATCH") == patches[0]


def test_what_is_wrong_is_said(ours: Command, shelf: str, tmp_path: Path) -> None:
    for words, because in (
        (("pull", "Two"), "is not a repository"),
        (("pull", f"{shelf}:none"), "none"),
        (("copy", "docker-daemon:x", "oci:y"), "docker save"),
        (("copy", "oci:none", "oci:y"), "no OCI image layout"),
        (("push", "nothing"), "the store has no such image"),
    ):
        told = ours(*words, cwd=str(tmp_path))
        assert told.rc == 1 and because in told.err, words
    assert not (tmp_path / "y").exists()


def test_login(ours: Command, tmp_path: Path) -> None:
    with registry.running(tmp_path / "guarded", logins=True) as guarded:
        told = ours("login", "-u", USER, "--password-stdin", guarded.host, input="wrong\n")
        assert told.rc == 1 and "log in" in told.err
        ours("login", "-u", USER, "--password-stdin", guarded.host, input=f"{PASSWORD}\n").ok()
        destination = layout.open_destination(name.locate(f"oci:{tmp_path}/layout:it"))
        images.put(destination, ONE, "it")
        destination.commit()
        destination.close()
        ours("copy", f"oci:{tmp_path}/layout:it", f"docker://{guarded.host}/mine:1").ok()
        ours("pull", f"{guarded.host}/mine:1").ok()
        ours("logout", guarded.host).ok()
        told = ours("pull", f"{guarded.host}/mine:2")
        assert told.rc == 1 and f"ctk login {guarded.host}" in told.err


def test_podman_runs_what_was_pushed(ours: Command, running: DebianRegistry, tmp_path: Path) -> None:
    """podman pulls what we pushed, and has the same image id."""
    destination = layout.open_destination(name.locate(f"oci:{tmp_path}/layout:it"))
    images.put(destination, ONE, "it")
    destination.commit()
    destination.close()
    ours("copy", f"oci:{tmp_path}/layout:it", f"docker://{running.host}/pod:1").ok()
    with tempfile.TemporaryDirectory(prefix="pod") as short:  # podman's --runroot has at most 50 characters
        there = ("--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs")
        done = subprocess.run(
            [tool("podman"), *there, "pull", "-q", "--tls-verify=false", f"{running.host}/pod:1"],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ONE.config.digest.partition(":")[2]


def test_the_store_stays_within_its_limit(ours: Command, store: Path, shelf: str) -> None:
    """Laid-out layers that nobody uses make room; those of the image that has just come stay, and so do images."""
    there = Store(str(store))
    unused = images.image(images.layer({"unused": b"u"}))
    before = there.destination()
    images.put(before, unused, "other")
    before.close()
    with there.layers.laying_out(unused.diff_ids[0]):
        pass
    told = ours("pull", f"{shelf}:1", limit="1")
    assert "1 laid-out layer that nobody uses made room (CTK_IMAGES_LIMIT)" in told.ok().err
    assert {one.diff_id for one in there.layers.all()} == set(ONE.diff_ids)
    assert ours("image", "check").ok().out == "no damage\n"
    assert there.resolve("other").digest == unused.digest


def test_a_user_pulls_and_removes_what_belongs_to_subordinate_ids(
    ctk: Command, tmp_path_factory: pytest.TempPathFactory, running: DebianRegistry, store: Path
) -> None:
    """Its layers are laid out, changed and removed in a user namespace; nothing stays."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, uid, kind, mode in (
            ("opt", 0, tarfile.DIRTYPE, 0o755),
            ("opt/me", 1000, tarfile.DIRTYPE, 0o700),
            ("opt/me/file", 1000, tarfile.REGTYPE, 0),
        ):
            member = tarfile.TarInfo(path)
            member.uid = member.gid = uid
            member.type, member.mode = kind, mode
            tar.addfile(member)
    made = images.image(out.getvalue(), images.layer({"opt/me/x": b"x"}))
    folder = tmp_path_factory.mktemp("users")
    place = layout.open_destination(name.locate(f"oci:{folder}/layout:it"))
    images.put(place, made, "it")
    place.commit()
    place.close()
    registry.skopeo("copy", "--dest-tls-verify=false", f"oci:{folder}/layout:it", f"docker://{running.host}/user:1")
    home = folder / "home"
    home.mkdir()
    os.chown(home, user.ID, user.ID)
    env = {**ctk.environment, "HOME": str(home), "CTK_DATA": str(home / "data"), "CTK_ROOT": str(home / "run")}

    def theirs(*words: str) -> str:
        words = (*user.prefix(str(home)), ctk.program, *words)
        done = subprocess.run(words, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    theirs("pull", f"{running.host}/user:1")
    (found,) = (home / "data/images/layers").glob(f"{made.diff_ids[0].partition(':')[2]}.*")
    assert found.suffix == ".userxattr" and (found / "tree/opt/me/file").stat().st_uid == user.FIRST + 999
    # In a new boot its layer is compared with its facts, with the rights that it was laid out with.
    (found / "boot").write_text("another")
    code = f"from toolkit.image.store.store import Store; print(Store().layers.use({made.diff_ids[0]!r}, 'userxattr'))"
    words = (*user.prefix(str(home)), sys.executable, "-c", code)
    top = Path(images.__file__).parents[2]
    used = subprocess.run(words, env={**env, "PYTHONPATH": str(top)}, capture_output=True, text=True, check=True)
    assert used.stdout == f"{found}/tree\n"
    assert "user:1" in theirs("images") and theirs("image", "check") == "no damage\n"
    assert "removed 4 blobs, 3 laid-out layers" in theirs("image", "rm", f"{running.host}/user:1")
    left = [one for one in (home / "data/images").rglob("*") if one.is_file()]
    assert {one.name for one in left} == {"index.json", "oci-layout", "lock"}
    assert os.listdir(home / "data/images/making") == []
