"""What ctk makes is closed to the host's other users, whatever the umask; what they made is not taken up (S40).

CVE-2021-41091: a container made a file setuid in its root, and the host's users could reach and run it.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command
from toolkit.bootstrap.install import configure
from toolkit.bootstrap.output import builds_in_progress, work_folder
from toolkit.bundle.build import SpecRequest
from toolkit.errors import CtkError
from toolkit.fetch.cache import Cache
from toolkit.kernel import ours
from toolkit.runtime.comfort import overlay
from toolkit.runtime.seccomp import _store
from toolkit.up.bundle import UpRequest, make_folder

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
STRANGER = 65534


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077 and path.is_dir()]


@pytest.mark.usefixtures("umask")
def test_s40_folders_of_ours_are_closed_whatever_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "a/cache/ctk"))
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "a/data/ctk"))
    builds_in_progress.note("/some/target")
    assert not open_to_others(tmp_path)
    configure.log_path("/some/target")
    Cache(str(tmp_path / "b/cache")).prepare()
    with work_folder.make():
        assert not open_to_others(tmp_path)
    _store(str(tmp_path / "c/seccomp"), b"source", b"code", 0)
    make_folder(str(tmp_path / "a/data/ctk/bundles/web"), UpRequest("web", SpecRequest()))
    ours.make_private(str(tmp_path / "d/e"))
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(0o755)
    overlay._make(str(tmp_path / "f/layer"), str(tmp_path / "root"))
    inside = {str(tmp_path / "f/layer/upper"), str(tmp_path / "f/layer/work"), str(tmp_path / "root")}
    assert set(open_to_others(tmp_path)) == inside  # the container's own `/`, in a folder that is closed
    assert len(list(tmp_path.rglob("*"))) > 15


def test_s40_a_bundle_that_stood_open_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTK_DATA", str(tmp_path / "data"))
    bundle = tmp_path / "data/bundles/web"
    bundle.mkdir(parents=True)
    bundle.chmod(0o755)
    make_folder(str(bundle), UpRequest("web", SpecRequest()))
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o700
    mapped = SpecRequest(uid_map=("0:100000:65536",), gid_map=("0:100000:65536",))
    make_folder(str(bundle), UpRequest("web", mapped))
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o710 and bundle.stat().st_gid == 100000


@pytest.mark.parametrize("first", [0, 100000])
def test_s40_a_fresh_layer_keeps_setuid_files_from_others(
    first: int, ctk: Command, new_bundle: Callable[..., Bundle]
) -> None:
    """Where the container's root is another user of the host (a map), that one's group passes, and nobody else."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        made = new_bundle("a").sh("cp /bin/busybox /su && chmod 4755 /su")
        bundle, layer = Path(place, "bundle"), Path(place, "layer")
        shutil.copytree(made.path, bundle, symlinks=True)
        maps = ["--uid-map", f"0:{first}:65536", "--gid-map", f"0:{first}:65536"] if first else []
        ctk("spec", "--update", "--writable", *maps, cwd=bundle).ok()
        for path in (bundle / "rootfs", *(bundle / "rootfs").rglob("*")):
            os.lchown(path, first, first)
        ctk("run", "--overlay", str(layer), ctk.id(), cwd=bundle).ok()
        assert (layer / "upper/su").stat().st_mode & stat.S_ISUID and (layer / "upper/su").stat().st_uid == first
        assert (stat.S_IMODE(layer.stat().st_mode), layer.stat().st_gid) == ((0o710, first) if first else (0o700, 0))


def a_link(layer: Path, victim: Path) -> None:
    layer.rename(layer.with_name("real"))
    layer.symlink_to("real")


def an_upper_that_is_a_link(layer: Path, victim: Path) -> None:
    (layer / "upper").symlink_to(victim)


def a_work_that_is_a_link(layer: Path, victim: Path) -> None:
    (layer / "work").symlink_to(victim)


def an_upper_of_a_stranger(layer: Path, victim: Path) -> None:
    (layer / "upper").mkdir()
    os.chown(layer / "upper", STRANGER, STRANGER)


def an_upper_that_is_a_file(layer: Path, victim: Path) -> None:
    (layer / "upper").touch()


def a_strangers(layer: Path, victim: Path) -> None:
    os.chown(layer, STRANGER, STRANGER)


def one_that_others_write_to(layer: Path, victim: Path) -> None:
    layer.chmod(0o777)


def one_on_a_strangers_way(layer: Path, victim: Path) -> None:
    os.chown(layer.parent, STRANGER, STRANGER)


@pytest.mark.parametrize("planted", [
    a_link, an_upper_that_is_a_link, a_work_that_is_a_link, an_upper_of_a_stranger, an_upper_that_is_a_file,
    a_strangers, one_that_others_write_to, one_on_a_strangers_way,
])  # fmt: skip
def test_s40_a_layer_that_others_prepared_is_refused(planted: Callable[[Path, Path], None], tmp_path: Path) -> None:
    layer, victim, root = tmp_path / "way/layer", tmp_path / "victim", tmp_path / "root"
    for folder in (layer, victim, root):
        folder.mkdir(parents=True)
    overlay._make(str(layer), str(root))  # the control: a folder of ours is fine, twice
    overlay._make(str(layer), str(root))
    for name in ("upper", "work"):
        (layer / name).rmdir()
    planted(layer, victim)
    with pytest.raises(CtkError, match="keep the writable layer"):
        overlay._make(str(layer), str(root))
    assert list(victim.iterdir()) == []
