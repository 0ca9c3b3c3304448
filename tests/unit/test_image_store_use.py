"""The layers of an image as the kernel shows them on top of each other: folders have the right owners and modes."""

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import images
from tests.fixtures.images import Image
from tests.fixtures.overlay import mount_overlay
from toolkit.image.store import check, collect, leases
from toolkit.image.store.store import Store
from toolkit.kernel.mounts import MS_RDONLY

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "images"))


def layer(*members: tuple[str, int, int]) -> bytes:
    """A tar of (path, mode, owner); a path that ends with a slash is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode, owner in members:
            member = tarfile.TarInfo(name.rstrip("/"))
            member.mode, member.uid, member.gid, member.mtime = mode, owner, owner, 1_000_000_000
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            tar.addfile(member, io.BytesIO())
    return out.getvalue()


def put(store: Store, made: Image, name: str) -> None:
    place = store.destination()
    images.put(place, made, name)
    place.close()


def laid_out(store: Store, name: str) -> list[str]:
    with leases.take(store.place, "a test") as lease:
        return images.lay_out(store, name, lease)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Path]:
    """Where `mounted` mounts."""
    (tmp_path / "shown").mkdir()
    yield tmp_path / "shown"
    while subprocess.run(["umount", tmp_path / "shown"], capture_output=True).returncode == 0:
        pass


def mounted(paths: list[str], shown: Path) -> Path:
    mount_overlay(shown, f"lowerdir={':'.join(paths)}", MS_RDONLY)
    return shown


def about(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, int(found.st_mtime)


def test_a_folder_that_a_layer_does_not_name_keeps_its_mode(store: Store, shown: Path) -> None:
    base = layer(("tmp/", 0o1777, 0), ("home/", 0o755, 0), ("home/me/", 0o700, 1000), ("srv/", 0o750, 7))
    upper = layer(("tmp/x", 0o644, 0), ("home/me/.config/y", 0o644, 1000), ("new/z", 0o644, 0))
    top = layer(("tmp/w", 0o644, 0), ("srv/", 0o711, 8))
    put(store, images.image(base, upper, top), "one")
    paths = laid_out(store, "one")
    assert len(paths) == 4 and laid_out(store, "one") == paths
    root = mounted(paths, shown)
    assert about(root / "tmp") == (0o1777, 0, 1_000_000_000)
    assert about(root / "home/me") == (0o700, 1000, 1_000_000_000)
    assert about(root / "home") == (0o755, 0, 1_000_000_000)
    assert about(root / "srv") == (0o711, 8, 1_000_000_000)
    assert about(root / "new")[:2] == (0o755, 0)  # nobody says what it should be
    assert sorted(os.listdir(root / "tmp")) == ["w", "x"]
    assert (root / "home/me/.config/y").exists()


def test_no_more_layers_than_are_needed(store: Store) -> None:
    base = layer(("etc/", 0o755, 0), ("etc/x", 0o644, 0))
    put(store, images.image(base, layer(("etc/", 0o755, 0), ("etc/y", 0o644, 0))), "whole")
    assert len(laid_out(store, "whole")) == 2
    put(store, images.image(base, layer(("var/y", 0o644, 0))), "new-only")
    assert len(laid_out(store, "new-only")) == 3  # the third is empty
    put(store, images.image(layer(("var/y", 0o644, 0))), "alone")
    assert len(laid_out(store, "alone")) == 1


def test_what_a_layer_has_removed_says_nothing_of_what_comes_after(store: Store, shown: Path) -> None:
    base = layer(("data/", 0o700, 5), ("opaque/", 0o700, 5), ("opaque/inner/", 0o700, 5), ("file/", 0o700, 5))
    gone = layer((".wh.data", 0, 0), ("opaque/", 0o711, 6), ("opaque/.wh..wh..opq", 0, 0), ("file", 0o600, 0))
    again = layer(("data/x", 0o644, 0), ("opaque/x", 0o644, 0), ("opaque/inner/x", 0o644, 0))
    put(store, images.image(base, gone, again), "one")
    root = mounted(laid_out(store, "one"), shown)
    assert about(root / "data")[:2] == (0o755, 0)
    assert about(root / "opaque")[:2] == (0o711, 6)
    assert about(root / "opaque/inner")[:2] == (0o755, 0)


def test_the_same_layer_over_two_others(store: Store, shown: Path) -> None:
    upper = layer(("tmp/x", 0o644, 0))
    for number, mode in enumerate((0o1777, 0o700)):
        put(store, images.image(layer(("tmp/", mode, 0)), upper), f"image{number}")
        paths = laid_out(store, f"image{number}")
        assert about(mounted(paths, shown) / "tmp")[0] == mode
        subprocess.run(["umount", shown], check=True)
    assert len(store.layers.all()) == 5


def test_it_goes_with_its_image_and_is_checked(store: Store) -> None:
    put(store, images.image(layer(("tmp/", 0o1777, 0)), layer(("tmp/x", 0o644, 0))), "one")
    paths = laid_out(store, "one")
    assert list(check.check(store)) == []
    collect.prune(store)
    assert all(map(os.path.isdir, paths))
    os.chmod(f"{paths[0]}/tmp", 0o755)
    assert [one.kind for one in check.check(store, repair=True)] == [check.CHANGED]
    assert laid_out(store, "one") == paths and about(Path(paths[0]) / "tmp")[0] == 0o1777
    collect.remove(store, ["one"])
    assert store.layers.all() == []


def test_a_layer_that_comes_twice_is_named_once(store: Store, shown: Path) -> None:
    one, two = layer(("etc/", 0o755, 0), ("etc/x", 0o644, 1)), layer(("etc/", 0o755, 0), ("etc/x", 0o644, 2))
    put(store, images.image(one, two, one), "one")
    paths = laid_out(store, "one")
    assert len(paths) == 2 and (mounted(paths, shown) / "etc/x").stat().st_uid == 1
