"""The tree that `ctk bootstrap` makes against the one that the real debootstrap makes from the same mirror."""

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Command, tool
from tests.fixtures.debian import Mirror
from tests.fixtures.ubuntu import UbuntuArchive

pytestmark = [pytest.mark.root, pytest.mark.archive]

COMPARE = Path(__file__).parents[2] / "scripts" / "compare-tree"
EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


def debootstrap(url: str, suite: str, variant: str, target: Path, *more: str) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    words = [tool("debootstrap"), f"--variant={variant}", *more, suite, str(target), url]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        log = target / "debootstrap/debootstrap.log"
        pytest.fail(f"{done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}", pytrace=False)


CASES = [
    pytest.param("bookworm", "minbase"),
    *(
        pytest.param(suite, variant, marks=pytest.mark.slow)
        for suite, variant in (
            ("bookworm", "-"),
            ("bookworm", "buildd"),
            ("trixie", "minbase"),
            ("trixie", "-"),
            ("trixie", "buildd"),
        )
    ),
]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("suite", "variant"), CASES)
def test_the_tree_is_debootstraps(
    suite: str, variant: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror, made_root: Callable[[str], Path]
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    if variant == "minbase":
        ours = made_root(suite)
    else:
        ctk("bootstrap", suite, str(ours), debian_mirror.url, "--variant", variant, timeout=300).ok()
    debootstrap(debian_mirror.url, suite, variant, theirs)
    told = subprocess.run([COMPARE, ours, theirs], capture_output=True, text=True)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


# A diversion of a path that another one ships, alternatives, triggers of both kinds, conffiles, a statoverride, users.
INCLUDED = "systemd-sysv,molly-guard,vim-tiny,man-db,cron,logrotate,dbus"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_tree_with_included_packages_is_debootstraps(
    suite: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    words = ("--variant", "minbase", "--include", INCLUDED)
    ctk("bootstrap", suite, str(ours), debian_mirror.url, *words, timeout=300).ok()
    debootstrap(debian_mirror.url, suite, "minbase", theirs, f"--include={INCLUDED}")
    told = subprocess.run([COMPARE, ours, theirs], capture_output=True, text=True)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")
    assert os.readlink(ours / "usr/sbin/halt") == "/lib/molly-guard/molly-guard"
    assert (ours / "usr/lib/molly-guard/halt").is_symlink()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_ubuntu_shaped_tree_is_debootstraps(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    words = ("--keyring", ubuntu_archive.keyring, "--components", "main,universe")
    ctk("bootstrap", "jammy", str(ours), ubuntu_archive.url, "--variant", "minbase", *words, timeout=300).ok()
    more = (f"--keyring={ubuntu_archive.keyring}", "--components=main,universe")
    debootstrap(ubuntu_archive.url, "jammy", "minbase", theirs, *more)
    told = subprocess.run([COMPARE, ours, theirs], capture_output=True, text=True)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_compare_tree_sees_what_it_should(tmp_path: Path) -> None:
    """One change of every kind: each is named."""

    def make(root: Path) -> None:
        for folder in ("etc", "bin", "dev", "var/lib/dpkg/info", "var/log"):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/info/a.list").write_text("/.\n")
        for name in ("content", "mode", "owner", "mtime", "xattr", "linked-1", "single"):
            (root / "etc" / name).write_text("same")
            os.utime(root / "etc" / name, (1_000_000_000, 1_000_000_000))
        os.link(root / "etc/linked-1", root / "etc/linked-2")
        os.symlink("target", root / "etc/link")
        os.mknod(root / "dev/null", 0o20666, os.makedev(1, 3))
        (root / "var/log/dpkg.log").write_text("may differ")

    for side in ("a", "b"):
        make(tmp_path / side)
    told = subprocess.run([COMPARE, tmp_path / "a", tmp_path / "b"], capture_output=True, text=True)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")

    b = tmp_path / "b"
    (b / "etc/content").write_text("diff")
    os.utime(b / "etc/content", (1_000_000_000, 1_000_000_000))
    (b / "etc/mode").chmod(0o600)
    os.chown(b / "etc/owner", 1, 2)
    os.utime(b / "etc/mtime", (1_000_000_001, 1_000_000_001))
    os.setxattr(b / "etc/xattr", "user.x", b"1")
    os.unlink(b / "etc/linked-2")
    (b / "etc/linked-2").write_text("same")
    os.utime(b / "etc/linked-2", (1_000_000_000, 1_000_000_000))
    os.unlink(b / "etc/link")
    os.symlink("elsewhere", b / "etc/link")
    os.unlink(b / "dev/null")
    os.mknod(b / "dev/null", 0o20666, os.makedev(1, 5))
    os.unlink(b / "etc/single")
    (b / "etc/new").mkdir()
    (b / "var/log/dpkg.log").write_text("and does")
    told = subprocess.run([COMPARE, tmp_path / "a", b], capture_output=True, text=True)
    assert told.returncode == 1
    named = {line.rpartition(f"{tmp_path}/")[2].split(":")[0] for line in told.stdout.splitlines()}
    assert {"etc/content", "etc/mode", "etc/owner", "etc/mtime", "etc/xattr", "etc/linked-1", "etc/linked-2"} <= named
    assert {"etc/link", "dev/null"} <= named and "var/log/dpkg.log" not in named
    assert "only in" in told.stdout and "etc/single" in told.stdout and "etc/new" in told.stdout


def test_compare_tree_refuses_what_is_no_root(tmp_path: Path) -> None:
    assert subprocess.run([COMPARE, tmp_path, tmp_path / "none"], capture_output=True).returncode == 2
    assert subprocess.run([COMPARE], capture_output=True).returncode == 2
    assert subprocess.run([COMPARE, "--help"], capture_output=True).returncode == 0


@pytest.mark.parametrize("suite", ["jammy", pytest.param("bookworm", marks=pytest.mark.slow)])
def test_two_builds_of_one_date_are_the_same_to_the_bit(
    suite: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror, ubuntu_archive: UbuntuArchive
) -> None:
    """The small one is of the same packages. test_outputs.py has a whole minbase, as an archive."""
    words = ["--mirror", debian_mirror.url, "--variant=minbase"]
    if suite == "jammy":
        words = ["--mirror", ubuntu_archive.url, "--keyring", ubuntu_archive.keyring, "--components", "main,universe"]
        words += ["--variant=essential"]
    sums = []
    for name in ("one", "two"):
        ctk("bootstrap", suite, str(tmp_path / name), *words, "--no-cache", env=EPOCH, timeout=300).ok()
        # With extended attributes GNU tar also writes times that no file system lets one set.
        pax = ("--sort=name", "--numeric-owner", "--xattrs", "--pax-option=delete=atime,delete=ctime")
        pack = [tool("tar"), *pax, "-C", str(tmp_path / name), "-cf", "-", "."]
        sums.append(hashlib.sha256(subprocess.run(pack, check=True, capture_output=True).stdout).hexdigest())
    assert sums[0] == sums[1]
