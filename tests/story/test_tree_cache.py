"""Cached trees: the second build of the same is laid out from the first, never from anything else."""

import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Suite
from tests.fixtures.command import Command, Result
from tests.fixtures.small import World
from tests.fixtures.trees import facts
from tests.fixtures.ubuntu import UbuntuArchive
from tests.fixtures.user import FIRST, ID, prefix

pytestmark = pytest.mark.root

COMPARE = str(Path(__file__).parents[2] / "scripts/compare-tree")


@pytest.fixture
def world(tmp_path: Path, ctk: Command) -> Iterator[World]:
    made = World(tmp_path, ctk)
    yield made
    made.server.close()


def kept(result: Result) -> bool:
    assert result.rc == 0, result.err
    return "files of a cached tree" in result.err


def test_the_second_build_is_laid_out(world: World) -> None:
    assert not kept(world.build("a"))
    world.server.requests.clear()
    assert kept(world.build("b"))
    # The signed Release is asked for each time, and nothing else.
    assert world.server.asked() == ["/dists/bookworm/InRelease"]
    assert facts(world.folder / "a") == facts(world.folder / "b")
    results = [json.loads((world.folder / f".{name}.ctk.json").read_text()) for name in "ab"]
    assert results[0]["lock"] == results[1]["lock"]
    # Nothing of the one is the other's: what a container writes into its root stays there.
    inodes = [{path.lstat().st_ino for path in (world.folder / name).rglob("*")} for name in "ab"]
    assert not inodes[0] & inodes[1] and all(path.lstat().st_nlink == 1 for path in world.trees())


def test_the_stages_say_what_came_and_only_that(world: World) -> None:
    first, again = world.build("a", "--no-cache").err, world.build("b", "--no-cache").err
    assert re.search(r"Verify the suite: \w+ bookworm of \d{4}-\d\d-\d\d, from http://", first), first
    assert re.search(r"Download: [\d.]+ MB \(", first) and re.search(r"Download: [\d.]+ MB from the cache \(", again), (
        again
    )
    assert "and 0 " not in first and "Keep a copy: none: this tree is not cached" in first, first


def test_never_a_stale_tree(world: World) -> None:
    assert not kept(world.build("a"))
    world.publish("2.0")
    assert not kept(world.build("b"))
    assert (world.folder / "b/usr/share/alpha").read_text() == "alpha 2.0"
    assert kept(world.build("c"))
    assert not kept(world.build("d", "--include=beta"))
    assert not kept(world.build("e", env={"SOURCE_DATE_EPOCH": "1000000000"}))
    # Another Release with the same packages: the index is read again, the tree is the same.
    world.archive.sign("bookworm", world.archive.release("bookworm").replace(b"Label: Debian", b"Label: Other"))
    told = world.build("f")
    assert kept(told)
    assert "nothing has changed" not in told.err


def test_a_release_that_is_not_signed_leads_to_no_kept_tree(world: World) -> None:
    assert not kept(world.build("a"))
    inrelease = world.archive.folder / "dists/bookworm/InRelease"
    inrelease.write_bytes(inrelease.read_bytes().replace(b"Codename", b"codename"))
    refused = world.build("b")
    assert refused.rc == 1 and not (world.folder / "b").exists()


@pytest.mark.parametrize("where", ["first", "middle", "index", "name", "short"])
def test_b13_a_damaged_tree_is_built_anew(where: str, world: World) -> None:
    assert not kept(world.build("a"))
    (tree,) = world.trees()
    data = bytearray(tree.read_bytes())
    at = {"first": 10, "middle": len(data) // 3, "index": -60, "name": -1, "short": -1}[where]
    data[at] ^= 1
    tree.write_bytes(data[:-100] if where == "short" else data)
    again = world.build("b")
    assert not kept(again)
    assert ("cached tree was damaged" in again.err) == (where in ("first", "middle")), again.err
    assert (world.folder / "b/usr/share/alpha").read_text() == "alpha 1.0"
    assert list(facts(world.folder / "a")) == list(facts(world.folder / "b"))
    assert kept(world.build("c"))


def test_no_cache_neither_finds_nor_keeps(world: World) -> None:
    assert not kept(world.build("a", "--no-cache"))
    assert world.trees() == []
    assert not kept(world.build("b"))
    assert not kept(world.build("c", "--no-cache"))


def test_a_package_file_is_known_by_what_is_in_it(world: World) -> None:
    file = world.folder / "mine.deb"

    def write(text: str) -> None:
        file.write_bytes(debs.make({"Package": "mine", "Version": "1.0"}, {"./usr/share/mine": text.encode()}))

    write("first")
    assert not kept(world.build("a", f"--include={file}"))
    assert kept(world.build("b", f"--include={file}"))
    write("other")
    assert not kept(world.build("c", f"--include={file}"))
    assert (world.folder / "c/usr/share/mine").read_text() == "other"
    assert kept(world.build("d", f"--include={file}"))
    assert (world.folder / "d/usr/share/mine").read_text() == "other"


def test_the_folder_that_debootstrap_keeps(world: World) -> None:
    """What was installed, from where; not from a cached tree, which has no log of its own."""
    assert not kept(world.build("a"))
    assert not kept(world.build("b", "--keep-debootstrap-dir"))
    folder = world.folder / "b/debootstrap"
    assert (folder / "required").read_text().split() == ["alpha"]
    assert (folder / "base").read_text() == "\n" and (folder / "suite").read_text() == "bookworm\n"
    (line,) = (folder / "deburis").read_text().splitlines()
    name, version, url = line.split()
    assert (name, version) == ("alpha", "1.0") and url.startswith(f"{world.server.url}/pool/")
    assert (folder / "debootstrap.log").exists() and not (world.folder / "a/debootstrap").exists()


def test_private_keys_are_not_kept(world: World) -> None:
    key = tarfile.TarInfo("./etc/dropbear_host_key")
    key.mode = 0o600
    package = debs.make({"Package": "alpha", "Version": "3.0"}, {"./etc/file": b"x", "./etc/dropbear_host_key": key})
    world.archive.publish(Suite("bookworm", "bookworm", packages={"main": [package]}))
    assert not kept(world.build("a"))
    assert world.trees() == []


@pytest.mark.archive
@pytest.mark.timeout(300)
def test_a_user_without_root_has_them_too(
    ctk: Command, tmp_path_factory: pytest.TempPathFactory, ubuntu_archive: UbuntuArchive
) -> None:
    home = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    os.chown(home, ID, ID)
    keyring = home / "keyring.pgp"
    shutil.copy(ubuntu_archive.keyring, keyring)
    words = ["--mirror", ubuntu_archive.url, "--keyring", str(keyring), "--components", "main,universe"]
    words += ["--variant", "essential", "--include", "passwd"]  # whose script makes /etc/shadow
    try:
        for name, expected in (("a", False), ("b", True)):
            told = subprocess.run(
                [*prefix(str(home)), ctk.program, "bootstrap", "jammy", name, *words],
                cwd=home,
                env={**os.environ, "HOME": str(home), "CTK_CACHE": str(home / "cache"), "LC_ALL": "C.UTF-8"},
                capture_output=True,
                text=True,
                timeout=200,
            )
            assert told.returncode == 0, told.stderr
            assert ("files of a cached tree" in told.stderr) == expected
        same = subprocess.run([COMPARE, "--strict", home / "a", home / "b"], capture_output=True, text=True)
        assert same.returncode == 0, same.stdout
        assert (home / "b/etc/shadow").stat().st_gid == FIRST + 42 - 1
    finally:
        shutil.rmtree(home)


def test_the_cache_is_shown_and_pruned(world: World, ctk: Command) -> None:
    world.build("a").ok()
    listed = ctk("cache", "list", "--all", env=world.env).ok().out
    assert "cached trees" in listed and str(world.trees()[0]) in listed
    ctk("cache", "prune", "--limit", "0", env=world.env).ok()
    assert world.trees() == [] and not kept(world.build("b"))
    # By itself: nothing fits.
    assert not kept(world.build("c", "--include=beta", env={"CTK_CACHE_LIMIT": "1"}))
    assert world.trees() == []
    wrong = world.build("d", env={"CTK_CACHE_LIMIT": "much"})
    assert wrong.rc == 1 and "CTK_CACHE_LIMIT" in wrong.err
