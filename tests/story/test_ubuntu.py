"""Suite jammy from an archive in Ubuntu's shape (tests/fixtures/ubuntu.py), down to a running container."""

from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Key
from tests.fixtures.command import Command
from tests.fixtures.ubuntu import UNIVERSE, UPDATED, UbuntuArchive

pytestmark = [pytest.mark.root, pytest.mark.archive]
MINBASE = ("--variant", "minbase")
ESSENTIAL = ("--variant", "essential")  # where a tree of any size will do


def test_jammy_to_a_running_container(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    words = ["bootstrap", "jammy", "ubuntufs", "--mirror", ubuntu_archive.url, "--keyring", ubuntu_archive.keyring]
    environment = {"CTK_CACHE": str(tmp_path / "cache")}  # what others have fetched would not be asked for
    words += [*MINBASE, "--components", "main,universe"]
    ctk(*words, cwd=tmp_path, env=environment, timeout=280).ok()
    root = tmp_path / "ubuntufs"
    sources = "".join(path.read_text() for path in (root / "etc/apt").rglob("*sources*") if path.is_file())
    assert ubuntu_archive.url in sources and "jammy" in sources and "universe" in sources
    assert (root / "bin").is_symlink()
    paragraphs = [
        debs.stanza(part) for part in (root / "var/lib/dpkg/status").read_text().split("\n\n") if part.strip()
    ]
    assert {fields["Status"] for fields in paragraphs} == {"install ok installed"}
    assert {fields["Package"] for fields in paragraphs} >= UNIVERSE | {UPDATED, "apt", "dpkg"}
    ctk("spec", "--rootfs", "ubuntufs", "--no-tty", "--", "dpkg", "--audit", cwd=tmp_path).ok()
    said = ctk("run", ctk.id("jammy"), cwd=tmp_path).ok()
    assert said.out == ""  # dpkg finds nothing to complain about
    # Indexes by their hash, so that an update of the mirror can't tear them; none of an architecture that it lacks.
    assert ubuntu_archive.asked(r"/by-hash/SHA256/")
    assert not ubuntu_archive.asked("binary-all")


def test_one_component_is_not_enough(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    words = ["bootstrap", "jammy", "fs", "--mirror", ubuntu_archive.url, "--keyring", ubuntu_archive.keyring]
    said = ctk(*words, *MINBASE, "--components", "main", cwd=tmp_path, timeout=120)
    assert said.rc == 1
    assert "awk" in said.err and "universe" not in said.out, said.err  # mawk, which provides it, is in universe
    assert "--components" in said.err
    assert "Traceback" not in said.err


def test_without_its_keyring_it_is_refused(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    said = ctk("bootstrap", "jammy", "fs", "--mirror", ubuntu_archive.url, *MINBASE, cwd=tmp_path)
    assert said.rc == 1 and "signature" in said.err + said.out and "Traceback" not in said.err
    stranger = tmp_path / "stranger.pgp"
    stranger.write_bytes(Key().certificate)
    words = ["bootstrap", "jammy", "fs", "--mirror", ubuntu_archive.url, "--keyring", str(stranger)]
    assert ctk(*words, *MINBASE, cwd=tmp_path).rc == 1
    assert not ubuntu_archive.asked(r"\.deb$")
    assert not (tmp_path / "fs").exists() or not any((tmp_path / "fs").iterdir())


def test_a_spoilt_package_never_gets_in(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    words = ["bootstrap", "jammy", "fs", "--mirror", ubuntu_archive.url, "--keyring", ubuntu_archive.keyring]
    environment = {"CTK_CACHE": str(tmp_path / "cache")}
    for kind in ("corrupt", "oversize"):
        ubuntu_archive.misbehave(r"/mawk_.*\.deb$", kind)
        said = ctk(*words, *ESSENTIAL, "--components", "main,universe", cwd=tmp_path, env=environment, timeout=200)
        assert said.rc == 1 and "mawk" in said.err and "Traceback" not in said.err, kind
        assert not list((tmp_path / "fs").glob("usr/bin/mawk")), kind
        ubuntu_archive.behave()
    # The next run, with the mirror well again, is whole.
    ctk(*words, *ESSENTIAL, "--components", "main,universe", cwd=tmp_path, env=environment, timeout=200).ok()
    assert (tmp_path / "fs/usr/bin/mawk").exists()


def test_a_mirror_with_hiccups_is_borne(ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive) -> None:
    ubuntu_archive.misbehave(r"/libc6_", "status", times=1, code=503)
    ubuntu_archive.misbehave(r"/dpkg_", "truncate", times=1)
    ubuntu_archive.misbehave(r"/tar_", "close", times=1)
    words = ["bootstrap", "jammy", "fs", "--mirror", ubuntu_archive.url, "--keyring", ubuntu_archive.keyring]
    environment = {"CTK_CACHE": str(tmp_path / "cache")}
    ctk(*words, *ESSENTIAL, "--components", "main,universe", cwd=tmp_path, env=environment, timeout=200).ok()
