"""Builds that end early: by a key, a signal, a full disk, a dead mirror. Nothing is left, or what is left is known."""

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.command import Command, tool
from tests.fixtures.debian import Mirror
from tests.fixtures.ubuntu import UbuntuArchive
from tests.fixtures.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.archive]

# The smallest set that configures itself: when and how a build ends is judged here, and not what is in it.
ESSENTIAL, MINBASE = "essential", "minbase"
# Here most is under way. The others run with --all, as twenty moments do.
STAGES = ("download", "unpack", "configure")
OTHER_STAGES = tuple(pytest.param(stage, marks=pytest.mark.slow) for stage in ("release", "index", "seed"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One package cache for all builds of this module: builds that are killed must not spoil it for the others."""
    return {"CTK_CACHE": str(tmp_path_factory.mktemp("cache"))}


def words(archive: UbuntuArchive, target: Path, *more: str, variant: str = ESSENTIAL) -> list[str]:
    mirror = ["--mirror", archive.url, "--keyring", str(archive.keyring), "--components", "main,universe"]
    # Every stage is to run in every build: none is laid out from a cached tree.
    return ["bootstrap", "jammy", str(target), "--variant", variant, "--no-cache", *mirror, *more]


def read_until(process: "subprocess.Popen[str]", stage: str) -> None:
    """Read events until `stage` has begun, and a little of it is done."""
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "started" and event["stage"] == stage:
            time.sleep(0.4 if stage == "configure" else 0.03)
            return
    pytest.fail(f"stage {stage!r} never began: exit {process.wait()}", pytrace=False)


def devices() -> dict[str, tuple[int, int, int]]:
    """The host's device nodes, by name: inode, mode, number. Others may add some meanwhile."""
    found = {}
    for entry in os.scandir("/dev"):
        about = entry.stat(follow_symlinks=False)
        if stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode):
            found[entry.name] = (about.st_ino, about.st_mode, about.st_rdev)
    return found


def mounts_below(path: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4].startswith(str(path))]


def processes_in(path: Path) -> list[str]:
    """Processes that stand in the tree, or have it as their root; also those in mount namespaces of their own."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for link in ("root", "cwd"):
            try:
                if os.readlink(f"/proc/{pid}/{link}").startswith(str(path)):
                    found.append(f"{pid} {link}")
            except OSError:
                continue
    return found


def tree_names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def settle(path: Path) -> None:
    """Wait until all of a killed build is gone: it dies with its parent, a moment later."""
    until(lambda: not mounts_below(path) and not processes_in(path), "the end of a killed build")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", STAGES + OTHER_STAGES)
def test_b10_killed_at_any_stage(
    stage: str, ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive, cache: dict[str, str]
) -> None:
    target = tmp_path / "fs"
    had = devices()
    process = ctk.popen(*words(ubuntu_archive, target, "--json"), stdout=subprocess.PIPE, env=cache)
    read_until(process, stage)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    settle(tmp_path)
    assert had.items() <= devices().items()
    refused = ctk(*words(ubuntu_archive, target), env=cache)
    assert refused.rc == 1 and "half made" in refused.err and "--force" in refused.err
    again = ctk(*words(ubuntu_archive, target, "--force"), env=cache, timeout=200).ok()
    assert "half made" not in again.err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [".fs.ctk.json"]
    assert not [path.name for path in target.iterdir() if path.name.startswith(".")]
    assert ctk(*words(ubuntu_archive, target), env=cache).rc == 1  # whole now, and not made again by chance


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("variant", "count"), [(ESSENTIAL, 5), pytest.param(MINBASE, 20, marks=pytest.mark.slow)])
def test_b10_killed_at_any_moment_of_one_build(
    variant: str, count: int, ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    """Each build goes on in what the one before left: its tree, and its cache, which nothing else has filled."""
    target, folder = tmp_path / "fs", tmp_path / "cache"
    env = {"CTK_CACHE": str(folder)}
    had = devices()
    began = time.monotonic()
    whole = words(ubuntu_archive, tmp_path / "whole", variant=variant)
    ctk(*whole, env={"CTK_CACHE": str(tmp_path / "other")}, timeout=200).ok()
    whole_s = time.monotonic() - began
    again = words(ubuntu_archive, target, "--force", variant=variant)
    moments = list(range(count))
    while moments:
        process = ctk.popen(*again, env=env)
        began = time.monotonic()
        try:
            process.wait(whole_s * (moments[0] + 0.5) / count)
            whole_s = time.monotonic() - began  # as fast as this, now that the cache is full
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            moments.pop(0)
        settle(tmp_path)
        assert had.items() <= devices().items()
        for path in folder.glob("files/??/*"):
            if "." not in path.name:  # what is not finished has another name
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, moments
    assert any(folder.glob("files/??/*"))
    ctk(*again, env=env, timeout=200).ok()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".fs.ctk.json", ".whole.ctk.json", "cache", "fs", "other", "whole",
    ]  # fmt: skip
    assert tree_names(target) == tree_names(tmp_path / "whole")


def test_b10_an_image_killed_while_its_packages_are_configured(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    """Its tree is in the cache, where no user looks for it: `ctk gc` does. Other moments: tests/reliability."""
    env = {name: str(tmp_path / name) for name in ("CTK_CACHE", "CTK_IMAGES")}
    build = [word for word in words(ubuntu_archive, tmp_path, "--tag", "jammy:1", "--json") if word != str(tmp_path)]
    process = ctk.popen(*build, stdout=subprocess.PIPE, env=env)
    read_until(process, "configure")
    process.kill()
    process.communicate()
    settle(tmp_path)
    (left,) = (tmp_path / "CTK_CACHE/trees.new").iterdir()
    assert (left / "root/usr/bin/dpkg").exists()
    assert f"removed tree {left}: its bootstrap was killed" in ctk("gc", env=env).ok().out
    assert not left.exists() and os.listdir(tmp_path / "CTK_CACHE/building") == []
    assert ctk("images", "-q", env=env).ok().out == ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("download", signal.SIGINT),
        ("unpack", signal.SIGTERM),
        ("configure", signal.SIGINT),
        # Both signals have one handler.
        pytest.param("configure", signal.SIGTERM, marks=pytest.mark.slow),
        *(pytest.param(stage, signal.SIGINT, marks=pytest.mark.slow) for stage in ("release", "index", "seed")),
    ],
)
def test_interrupted_at_any_stage_nothing_is_left(
    stage: str,
    number: signal.Signals,
    ctk: Command,
    tmp_path: Path,
    ubuntu_archive: UbuntuArchive,
    cache: dict[str, str],
) -> None:
    target = tmp_path / "new" / "fs"
    process = ctk.popen(
        *words(ubuntu_archive, target, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=cache
    )
    read_until(process, stage)
    began = time.monotonic()
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # an impatient second one must not stop the clean-up
    _, err = process.communicate(timeout=30)
    # Python gives the signals their default action back when all is done: the second may end it there.
    assert process.returncode in (128 + number, -number), err
    assert "Traceback" not in err, err
    assert time.monotonic() - began < 15
    settle(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [], err


def test_a_full_disk_is_told_before_and_while_it_fills(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive, cache: dict[str, str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # Blocks for 40 MB, and then room enough by the count of bytes but not by the count of inodes.
    for options, word in (("size=40m", "it needs about"), ("size=2g,nr_inodes=600", "no space left on device")):
        subprocess.run([tool("mount"), "-t", "tmpfs", "-o", options, "none", disk], check=True)
        try:
            said = ctk(*words(ubuntu_archive, disk / "fs"), env=cache, timeout=120)
            assert said.rc == 1 and word in said.err, said.err
            assert "Traceback" not in said.err
            assert list(disk.iterdir()) == []
        finally:
            subprocess.run([tool("umount"), disk], check=True)
    subprocess.run([tool("mount"), "-t", "tmpfs", "-o", "size=3m", "none", disk], check=True)
    try:
        said = ctk(*words(ubuntu_archive, tmp_path / "fs"), env={"CTK_CACHE": str(disk / "c")}, timeout=120)
        assert said.rc == 1 and "no space left" in said.err and "CTK_CACHE" in said.err, said.err
        assert not (tmp_path / "fs").exists()
    finally:
        subprocess.run([tool("umount"), disk], check=True)


def test_a_mirror_that_dies_is_told_and_leaves_nothing(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    ubuntu_archive.misbehave(r"/libc6_", "status", code=502)
    said = ctk(*words(ubuntu_archive, tmp_path / "fs"), env={"CTK_CACHE": str(tmp_path / "cache")}, timeout=120)
    assert said.rc == 1 and "502" in said.err and "--mirror" in said.err and "Traceback" not in said.err
    assert not (tmp_path / "fs").exists()


@pytest.mark.timeout(300)
def test_two_builds_at_once_share_a_cache_and_not_a_target(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    env = {"CTK_CACHE": str(tmp_path / "cache")}
    both = [
        ctk.popen(*words(ubuntu_archive, tmp_path / name, "--json"), stdout=subprocess.PIPE, env=env) for name in "ab"
    ]
    read_until(both[0], "index")
    third = ctk(*words(ubuntu_archive, tmp_path / "a"), env=env)
    assert third.rc == 1 and "another ctk" in third.err
    for process in both:
        process.communicate(timeout=200)
        assert process.returncode == 0
    results = [json.loads((tmp_path / f".{name}.ctk.json").read_text()) for name in "ab"]
    assert results[0]["lock"] == results[1]["lock"]
    assert results[0]["result"]["packages"] == len(results[0]["lock"]["packages"]) > 50
    asked = ubuntu_archive.asked(r"\.deb$")
    shutil.rmtree(tmp_path / "a")
    ctk(*words(ubuntu_archive, tmp_path / "c"), "--download-only", env=env, timeout=200).ok()
    assert ubuntu_archive.asked(r"\.deb$") == asked  # all of it is in the cache


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("suite", "variant"),
    [*(("bookworm", variant) for variant in ("minbase", "-", "buildd")), ("trixie", "minbase"), ("sid", "minbase")],
)
def test_the_package_set_is_debootstraps(
    suite: str, variant: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror
) -> None:
    """The variant's own set; what --include adds is apt's (test_like_apt.py)."""
    asked = [tool("debootstrap"), "--print-debs", f"--variant={variant}", suite, str(tmp_path / "t"), debian_mirror.url]
    theirs = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    words = ("bootstrap", suite, "--print-debs", "--no-check-date", "--variant", variant, "--mirror", debian_mirror.url)
    ours = ctk(*words, timeout=120).ok()
    assert sorted(ours.out.split()) == sorted(theirs)
