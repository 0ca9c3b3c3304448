"""`ctk bootstrap … FILE`: the formats, what is left when it fails, and that the same goes in twice."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures import loop
from tests.fixtures.command import Command, tool
from tests.fixtures.small import World
from tests.fixtures.trees import facts
from tests.fixtures.ubuntu import UbuntuArchive
from tests.fixtures.user import ID, prefix
from tests.fixtures.waiting import until

pytestmark = pytest.mark.root

TARS = ("fs.tar", "fs.tar.zst", "fs.tar.gz")
IMAGES = ("fs.squashfs", "fs.ext4")


@pytest.fixture
def world(tmp_path: Path, ctk: Command) -> Iterator[World]:
    made = World(tmp_path, ctk)
    yield made
    made.server.close()


def left(world: World) -> "list[str]":
    """What a build leaves beside its file, and in the cache where trees are made."""
    names = sorted(path.name for path in world.folder.iterdir() if path.name not in ("archive", "cache"))
    work = world.folder / "cache/trees.new"
    return names + sorted(path.name for path in (work.iterdir() if work.exists() else ()))


@pytest.mark.parametrize("name", [*TARS, *IMAGES])
def test_the_file_holds_the_tree(name: str, world: World, ctk: Command) -> None:
    world.build("dir").ok()
    world.build(name).ok()
    assert left(world) == sorted([".dir.ctk.json", "dir", f".{name}.ctk.json", name])
    copy = world.folder / "copy"
    copy.mkdir()
    if name in TARS:
        subprocess.run([tool("tar"), "-C", copy, "-xpf", world.folder / name], check=True)
        found = facts(copy)
    else:
        loop.mount(world.folder / name, copy)
        try:
            found = facts(copy)
        finally:
            subprocess.run([tool("umount"), copy], check=True)
        found.pop("lost+found", None)
    assert found == facts(world.folder / "dir")
    again = world.build(name)
    assert again.rc == 1 and "--force" in again.err
    wrong = ctk("bootstrap", "--remove", name, cwd=world.folder)
    assert wrong.rc == 1 and f"hint: remove a file with rm {name} {world.folder}/.{name}.ctk.json\n" in wrong.err
    world.build(name, "--force").ok()


def test_the_time_that_is_told_is_that_of_the_whole_command(world: World) -> None:
    last = world.build("x.squashfs", "--json").ok().out.splitlines()
    done = json.loads(last[-1])
    written = next(e for e in map(json.loads, last) if e["event"] == "finished" and e["stage"] == "write")
    made = next(e for e in map(json.loads, last) if e["event"] == "finished" and e["stage"] == "unpack")
    assert done["seconds"] >= written["seconds"] + made["seconds"]


def test_format_goes_before_suffix_and_a_folder_is_a_folder(world: World) -> None:
    world.build("x.img", "--format", "tar").ok()
    assert tarfile.is_tarfile(world.folder / "x.img")
    (world.folder / "y.tar").mkdir()
    world.build("y.tar").ok()
    assert (world.folder / "y.tar/usr").is_dir()
    wrong = world.build("z", "--format", "zip")
    assert wrong.rc == 1 and "tar.zst" in wrong.err and not (world.folder / "z").exists()


def test_the_name_of_a_file_that_is_not_written_makes_no_folder(world: World) -> None:
    for name, told in (("x.tar.xz", "x.tar.xz; a file has one of .tar, "), ("x.qcow2", ".squashfs")):
        wrong = world.build(name)
        assert wrong.rc == 1 and told in wrong.err and not (world.folder / name).exists(), wrong.err
    world.build("x.zip", "--format", "directory").ok()
    assert (world.folder / "x.zip/usr").is_dir()


def test_standard_output(world: World, ctk: Command) -> None:
    words = ["--variant=extract", "--arch=amd64", "--include=alpha", f"--keyring={world.archive.keyring}"]
    base = [*ctk.argv("bootstrap", "bookworm", "-", world.server.url, *words)]
    env = {**ctk.environment, **world.env}
    data = subprocess.run(base, env=env, capture_output=True, check=True).stdout
    (world.folder / "out.tar").write_bytes(data)
    with tarfile.open(world.folder / "out.tar") as file:
        assert "./usr/share/alpha" in file.getnames()
    packed = subprocess.run([*base, "--format=tar.zst"], env=env, capture_output=True, check=True).stdout
    assert subprocess.run([tool("zstd"), "-dc"], input=packed, capture_output=True, check=True).stdout == data
    refused = subprocess.run([*base, "--format=ext4"], env=env, capture_output=True)
    assert refused.returncode == 1 and b"pipe" in refused.stderr
    both = subprocess.run([*base, "--json"], env=env, capture_output=True)
    assert both.returncode == 1 and b"standard output" in both.stderr
    closed = subprocess.run(f"{' '.join(base)} | true", shell=True, env=env, capture_output=True, text=True)
    assert "Traceback" not in closed.stderr
    assert left(world) == ["out.tar"]


def test_a_second_build_into_one_file_is_refused(world: World, ctk: Command) -> None:
    world.server.misbehave("InRelease", "stall", times=1)
    words = ["--variant=extract", "--arch=amd64", "--include=alpha", f"--keyring={world.archive.keyring}"]
    target = str(world.folder / "fs.tar")
    first = ctk.popen("bootstrap", "bookworm", target, world.server.url, *words, env=world.env)
    until(lambda: world.server.requests, "its first request", of=first)
    second = world.build("fs.tar")
    assert second.rc == 1 and "another ctk" in second.err
    world.server.behave()
    assert first.wait(60) == 0


@pytest.mark.parametrize("name", [*TARS, *IMAGES])
def test_a_full_disk_says_how_much_and_leaves_nothing(name: str, world: World) -> None:
    disk = world.folder / "disk"
    disk.mkdir()
    subprocess.run([tool("mount"), "-t", "tmpfs", "-o", "size=4k", "none", disk], check=True)
    try:
        said = world.build(f"disk/{name}")
        assert said.rc == 1 and "no space left" in said.err and "MiB" in said.err, said.err
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run([tool("umount"), disk], check=True)
    assert left(world) == ["disk"]


def words(archive: UbuntuArchive, target: Path) -> "list[str]":
    mirror = ["--mirror", archive.url, "--keyring", str(archive.keyring), "--components", "main,universe"]
    return ["bootstrap", "jammy", str(target), "--variant", "minbase", *mirror]


@pytest.mark.archive
@pytest.mark.timeout(400)
def test_two_builds_are_the_same_byte_for_byte(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    env = {"SOURCE_DATE_EPOCH": "1700000000", "CTK_CACHE": str(tmp_path / "cache")}
    digests = []
    for name, more in (("a", "--no-cache"), ("b", "--cache"), ("c", "--cache")):
        if name == "b":
            time.sleep(1.1)  # another second on the clock
        ctk(*words(ubuntu_archive, tmp_path / f"{name}.tar.zst"), more, env=env, timeout=200).ok()
        digests.append(hashlib.sha256((tmp_path / f"{name}.tar.zst").read_bytes()).hexdigest())
    assert len(set(digests)) == 1
    plain = subprocess.run([tool("zstd"), "-dc", tmp_path / "a.tar.zst"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as file:
        assert max(member.mtime for member in file) <= 1_700_000_000


@pytest.mark.slow
@pytest.mark.archive
@pytest.mark.timeout(600)
def test_b10_killed_at_twenty_points_of_keeping_and_writing(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    env = {"CTK_CACHE": str(tmp_path / "cache"), "SOURCE_DATE_EPOCH": "1700000000"}
    reference = tmp_path / "reference.tar.zst"
    ctk(*words(ubuntu_archive, reference), env=env, timeout=200).ok()
    (tree,) = (tmp_path / "cache/trees").iterdir()
    began = time.monotonic()
    target = tmp_path / "fs.tar.zst"
    ctk(*words(ubuntu_archive, target), env=env, timeout=200).ok()
    took = time.monotonic() - began
    expected = reference.read_bytes()
    for point in range(20):
        if point % 5 == 4:
            # Keeping it is what is killed: as if the cached tree were half written.
            tree.unlink(missing_ok=True)
            shutil.rmtree(tmp_path / "fs", ignore_errors=True)
        process = ctk.popen(
            *words(ubuntu_archive, target), "--force", env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(0.1 + took * (point + 1) / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Whole or not touched, never half: the file has its name by a rename.
        assert target.read_bytes() == expected, f"point {point}"
    ctk(*words(ubuntu_archive, target), "--force", env=env, timeout=200).ok()
    assert target.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir() if "fs" in path.name) == [
        ".fs.tar.zst.ctk.json",
        "fs.tar.zst",
    ]
    assert list((tmp_path / "cache/trees.new").iterdir()) == []
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line]


@pytest.mark.archive
@pytest.mark.timeout(400)
def test_a_user_without_root_makes_images_with_all_owners(
    ctk: Command, tmp_path_factory: pytest.TempPathFactory, ubuntu_archive: UbuntuArchive
) -> None:
    home = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    os.chown(home, ID, ID)
    shutil.copy(ubuntu_archive.keyring, home / "keyring.pgp")
    mirror = ["--mirror", ubuntu_archive.url, "--keyring", str(home / "keyring.pgp"), "--components", "main,universe"]
    mirror += ["--include", "passwd"]  # whose script makes /etc/shadow
    mount = home / "mnt"
    mount.mkdir()
    try:
        for name in ("fs.ext4", "fs.squashfs", "fs.tar"):
            done = subprocess.run(
                [*prefix(str(home)), ctk.program, "bootstrap", "jammy", name, "--variant", "essential", *mirror],
                cwd=home,
                env={**os.environ, "HOME": str(home), "CTK_CACHE": str(home / "cache"), "LC_ALL": "C.UTF-8"},
                capture_output=True,
                text=True,
                timeout=250,
            )
            assert done.returncode == 0, done.stderr
            assert (home / name).stat().st_uid == ID
            if name == "fs.tar":
                with tarfile.open(home / name) as file:
                    shadow, su = file.getmember("./etc/shadow"), file.getmember("./usr/bin/su")
                assert (shadow.uid, shadow.gid, shadow.mode, su.mode) == (0, 42, 0o640, 0o4755)
                continue
            loop.mount(home / name, mount)
            try:
                about = (mount / "etc/shadow").stat()
                assert (about.st_uid, about.st_gid, about.st_mode & 0o7777) == (0, 42, 0o640)
                assert (mount / "usr/bin/su").stat().st_mode & 0o7777 == 0o4755
                done = subprocess.run([tool("chroot"), mount, "dpkg", "--audit"], capture_output=True, text=True)
                assert (done.returncode, done.stdout) == (0, "")
            finally:
                subprocess.run([tool("umount"), mount], check=True)
    finally:
        shutil.rmtree(home)
