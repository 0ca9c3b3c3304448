"""A bootstrap in two halves, by ctk and by the real debootstrap in any order; and debootstrap as an engine.

The finished trees are compared with one that ctk made in one go, which other tests compare with debootstrap's.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.command import Command, installed_ctk, tool
from tests.fixtures.debian import Mirror
from tests.fixtures.ubuntu import UbuntuArchive
from tests.story.test_bootstrap_tree import COMPARE

pytestmark = [pytest.mark.root, pytest.mark.archive, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Small:
    """The smallest set with apt, whose folders the first stage makes: the words that ask for it, and the whole tree."""

    words: tuple[str, ...]
    whole: Path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, ubuntu_archive_files: Path, shared_cache: str) -> Iterator[Small]:
    whole = tmp_path_factory.mktemp("whole") / "fs"
    with UbuntuArchive(ubuntu_archive_files).running() as server:
        assert isinstance(server, UbuntuArchive)
        words = (
            "--mirror",
            server.url,
            "--keyring",
            server.keyring,
            "--components",
            "main,universe",
            "--variant",
            "apt",
        )
        argv = [installed_ctk(), "bootstrap", "jammy", str(whole), *words]
        environment = {**os.environ, "CTK_CACHE": shared_cache, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        yield Small(words, whole)


def begin(ctk: Command, root: Path, mirror: Mirror, *more: str) -> None:
    begun(ctk, root, "bootstrap", "bookworm", str(root), mirror.url, "--variant", "minbase", *more)


def begun(ctk: Command, root: Path, *words: str) -> None:
    ctk(*words, "--foreign", timeout=600).ok()
    assert (root / "debootstrap/debootstrap").exists() and (root / "usr/bin/dpkg").exists()
    assert not (root / "var/lib/dpkg/info/dpkg.list").exists()
    result = json.loads((root.parent / f".{root.name}.ctk.json").read_text())
    assert result["result"]["foreign"] is True and len(result["lock"]["packages"]) > 80


def differences(root: Path, whole: Path) -> str:
    done = subprocess.run([COMPARE, root, whole], capture_output=True, text=True)
    assert not (root / "debootstrap").exists()
    return done.stdout + done.stderr


@pytest.mark.parametrize("suite", ["jammy", pytest.param("bookworm", marks=pytest.mark.slow)])
def test_both_halves_are_the_whole(
    suite: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror, made_root: Callable[[str], Path], small: Small
) -> None:
    root = tmp_path / "fs"
    if suite == "jammy":
        begun(ctk, root, "bootstrap", "jammy", str(root), *small.words)
    else:
        begin(ctk, root, debian_mirror)
    early = ctk("spec", "--rootfs", str(root), cwd=tmp_path)
    assert early.rc == 0  # a spec is about the folder
    done = ctk(
        "bootstrap", "--second-stage", str(root), "--customize-hook", 'test -x "$1/usr/bin/apt"', timeout=300
    ).ok()
    assert "ctk spec" in done.err
    assert differences(root, small.whole if suite == "jammy" else made_root(suite)) == ""
    assert not list((root / "var/cache/apt/archives").glob("*.deb"))
    again = ctk("bootstrap", "--second-stage", "--second-stage-target", str(root))
    assert again.rc == 1 and "there is no /debootstrap/suite" in again.err


def test_a_second_stage_that_failed_is_begun_again(ctk: Command, tmp_path: Path, small: Small) -> None:
    """By a maintainer script in the middle of all, by kill -9, at the very end; what is left is no obstacle."""
    root = tmp_path / "fs"
    begun(ctk, root, "bootstrap", "jammy", str(root), *small.words)
    broken = 'printf "#!/bin/sh\\necho of no use >&2\\nexit 3\\n" > "$1/var/lib/dpkg/info/util-linux.postinst"'
    failed = ctk("bootstrap", "--second-stage", str(root), "--extract-hook", broken, timeout=300)
    assert failed.rc == 1 and "util-linux" in failed.err and "of no use" in failed.err, failed.err
    assert "Traceback" not in failed.err
    process = ctk.popen("bootstrap", "--second-stage", str(root), "--json", stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        # A few packages are configured, most are not.
        if event["event"] == "line" and event["stage"] == "configure" and "Setting up" in event["text"]:
            break
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended before"
    in_the_way = tmp_path / ".fs.ctk.json"
    in_the_way.unlink()  # the first stage's
    in_the_way.mkdir()
    unwritten = ctk("bootstrap", "--second-stage", str(root), timeout=300)
    assert unwritten.rc == 1 and f"write '{in_the_way}'" in unwritten.err, unwritten.err
    in_the_way.rmdir()
    ctk("bootstrap", "--second-stage", str(root), timeout=300).ok()
    # What is not the same: base-files' script makes its link again, in the folder that the first one points to by now,
    # and debconf and groupadd keep what their files were before.
    known = (
        f"only in {root}: usr/local/share/man/man",
        "var/cache/debconf/config.dat-old",
        "var/cache/debconf/templates.dat-old",
        "etc/group-: content",
        "etc/gshadow-: content",
        f"only in {root}: etc/gshadow-",
    )
    told = differences(root, small.whole).splitlines()
    assert [line for line in told if not line.startswith(known)] == []


@pytest.mark.slow
def test_debootstrap_finishes_what_ctk_has_begun(
    ctk: Command, tmp_path: Path, debian_mirror: Mirror, made_root: Callable[[str], Path]
) -> None:
    root = tmp_path / "fs"
    begin(ctk, root, debian_mirror)
    inside = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "chroot",
        str(root),
        "/debootstrap/debootstrap",
        "--second-stage",
    ]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(inside, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert differences(root, made_root("bookworm")) == ""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "debootstrap"])
def test_ctk_finishes_what_debootstrap_has_begun(
    engine: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror, made_root: Callable[[str], Path]
) -> None:
    root = tmp_path / "fs"
    begin(ctk, root, debian_mirror, "--engine", "debootstrap")
    ctk("bootstrap", "--second-stage", str(root), "--engine", engine, timeout=600).ok()
    assert differences(root, made_root("bookworm")) == ""


@pytest.mark.slow
def test_debootstrap_as_an_engine(
    ctk: Command, tmp_path: Path, debian_mirror: Mirror, made_root: Callable[[str], Path]
) -> None:
    root = tmp_path / "fs"
    words = ("bootstrap", "bookworm", str(root), debian_mirror.url, "--variant", "minbase", "--engine", "debootstrap")
    done = ctk(*words, "--json", timeout=600).ok()
    events = [json.loads(line) for line in done.out.splitlines()]
    stages = [event["stage"] for event in events if event["event"] == "finished"]
    assert stages == ["release", "index", "resolve", "download", "unpack", "configure"]
    assert events[-1]["event"] == "done" and events[-1]["next_steps"][0].startswith("ctk spec")
    assert differences(root, made_root("bookworm")) == ""
    document = json.loads((tmp_path / ".fs.ctk.json").read_text())
    assert document["result"]["engine"] == "debootstrap" and document["lock"]["sources"][0]["codename"] == "bookworm"
    assert all(len(one["sha256"]) == 64 for one in document["lock"]["packages"])
    failed = ctk(*words[:2], str(tmp_path / "no"), *words[3:], "--include", "no-such-package", timeout=300)
    assert failed.rc == 1 and "no-such-package" in failed.err and not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.parametrize("maker", ["ctk", "debootstrap"])
def test_each_builds_from_the_others_tarball_without_a_network(
    maker: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror, made_root: Callable[[str], Path]
) -> None:
    file, root = str(tmp_path / "debs.tgz"), tmp_path / "fs"
    make = ["--variant=minbase", f"--make-tarball={file}", "bookworm", str(tmp_path / "none"), debian_mirror.url]
    unpack = ["--variant=minbase", f"--unpack-tarball={file}", "bookworm", str(root), debian_mirror.url]
    without_network = ["unshare", "--net"]
    ours, theirs = [ctk.program, "bootstrap"], [tool("debootstrap")]
    environment = {**ctk.environment, "CTK_CACHE": str(tmp_path / "cache"), "LC_ALL": "C.UTF-8"}
    first, second = (ours, theirs) if maker == "ctk" else (theirs, ours)
    for words in ([*first, *make], [*without_network, *second, *unpack]):
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, env={**os.environ, **environment})
        assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "none").exists()
    assert differences(root, made_root("bookworm")) == ""
    assert (root / "etc/apt/sources.list").read_text() == f"deb {debian_mirror.url} bookworm main\n"
