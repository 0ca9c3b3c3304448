"""Roots from several sources, from a lock, of two architectures: built for real, then asked by their dpkg and apt."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.fixtures.debian import Mirror
from tests.fixtures.ubuntu import UPDATED, UbuntuArchive

pytestmark = [pytest.mark.root, pytest.mark.archive]


def inside(root: Path, *words: str) -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    argv = ["chroot", str(root), *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.timeout(600)
def test_a_pocket_a_lock_and_the_same_again(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    first, again, lock = tmp_path / "first", tmp_path / "again", str(tmp_path / "a.lock")
    words = ("--variant", "essential", "--include", f"{UPDATED},libxxhash0", "--keyring", ubuntu_archive.keyring)
    words += ("--components", "main,universe")
    papers = ("--lock", lock, "--sbom", f"spdx={tmp_path}/s.json", "--sbom", f"cyclonedx={tmp_path}/c.json")
    build = ("bootstrap", "jammy", str(first), ubuntu_archive.url, "--pocket", "updates")
    ctk(*build, *words, *papers, timeout=300).ok()
    version = inside(first, "dpkg-query", "-W", "-f", "${Version}", UPDATED)
    assert version.endswith("+ubuntu0.22.04.1")
    url = ubuntu_archive.url
    listed = (first / "etc/apt/sources.list").read_text().splitlines()
    assert listed == [f"deb {url} jammy main universe", f"deb {url} jammy-updates main universe"]
    licences = {
        one["name"]: one["licenseDeclared"] for one in json.loads((tmp_path / "s.json").read_text())["packages"]
    }
    assert licences["libxxhash0"] != "NOASSERTION"
    assert {one["name"] for one in json.loads((tmp_path / "c.json").read_text())["components"]} == set(licences)

    # The archive has moved on: without its indexes the lock still builds the same.
    ubuntu_archive.misbehave("/dists/", "status", code=404)
    ctk("bootstrap", "jammy", str(again), "--locked", lock, "--no-cache", timeout=300).ok()
    changed = ctk("bootstrap", "--diff", str(first), str(again))
    assert (changed.rc, changed.out) == (0, "")
    assert (again / "var/lib/dpkg/status").read_bytes() == (first / "var/lib/dpkg/status").read_bytes()
    document = ctk("bootstrap", "--diff", "--json", lock, str(tmp_path / ".again.ctk.json")).json()
    assert document["changes"] == []

    # A package that is gone is named, and with it the way out; nothing is left.
    ubuntu_archive.misbehave("/pool/.*/tzdata", "status", code=404)
    gone = ctk(
        "bootstrap", "jammy", str(tmp_path / "gone"), "--locked", lock, "--no-cache",
        env={"CTK_CACHE": str(tmp_path / "empty")}, timeout=300,
    )  # fmt: skip
    assert gone.rc == 1 and "fetch package 'tzdata'" in gone.err and "--snapshot" in gone.err
    assert not (tmp_path / "gone").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_package_in_two_architectures(ctk: Command, tmp_path: Path, debian_mirror: Mirror) -> None:
    root = tmp_path / "root"
    words = ("--variant", "minbase", "--arch", "amd64", "--include", "hello:i386,libselinux1:i386")
    ctk("bootstrap", "bookworm", str(root), debian_mirror.url, *words, timeout=300).ok()
    assert inside(root, "dpkg", "--print-foreign-architectures") == "i386\n"
    assert inside(root, "hello") == "Hello, world!\n"
    assert inside(root, "dpkg", "--verify") == inside(root, "dpkg", "--audit") == ""
    owners = inside(root, "dpkg", "-S", "/usr/share/doc/libc6/copyright").partition(": /")[0]
    assert sorted(owners.split(", ")) == ["libc6:amd64", "libc6:i386"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_package_file_and_the_pockets_of_debian(ctk: Command, tmp_path: Path, debian_mirror: Mirror) -> None:
    """The security pocket is not on the mirror of the tests: its own, then the table's, are asked."""
    from tests.fixtures import debs

    deb = tmp_path / "mine.deb"
    deb.write_bytes(debs.make({"Package": "mine", "Depends": "hello (>= 2)"}, {"./usr/share/mine": "here"}))
    root = tmp_path / "root"
    build = ("bootstrap", "bookworm", str(root), debian_mirror.url, "--variant", "minbase", "--pocket", "updates")
    ctk(*build, "--include", str(deb), timeout=300).ok()
    assert inside(root, "hello") == "Hello, world!\n" and (root / "usr/share/mine").read_text() == "here"
    assert "file:" not in (root / "etc/apt/sources.list").read_text()
    assert inside(root, "dpkg-query", "-W", "-f", "${Status}", "mine") == "install ok installed"
