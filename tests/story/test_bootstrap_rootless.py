"""`ctk bootstrap` typed by an ordinary user."""

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.fixtures.ubuntu import UbuntuArchive
from tests.fixtures.user import FIRST, ID, prefix
from tests.fixtures.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.archive]  # root to become the user


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "CTK_CACHE": str(home / "cache"), "LC_ALL": "C.UTF-8"}


def bootstrap(
    ctk: Command, home: Path, archive: UbuntuArchive, *, variant: str = "minbase", subordinate_ids: int = 65536
) -> "subprocess.Popen[str]":
    shutil.copy(archive.keyring, home / "keyring.pgp")
    words = ["bootstrap", "jammy", "fs", archive.url, "--variant", variant, "--no-cache"]
    words += ["--keyring", str(home / "keyring.pgp"), "--components", "main,universe"]
    return subprocess.Popen(
        [*prefix(str(home), subordinate_ids=subordinate_ids), ctk.program, *words],
        cwd=home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_subordinate_ids_give_a_tree_with_all_its_owners(
    ctk: Command, home: Path, ubuntu_archive: UbuntuArchive
) -> None:
    child = bootstrap(ctk, home, ubuntu_archive)
    said, _ = child.communicate(timeout=250)
    assert child.returncode == 0, said
    root = home / "fs"
    assert os.stat(root / "etc").st_uid == ID
    mail = os.stat(root / "var/mail")
    assert (mail.st_uid, mail.st_gid, stat.S_IMODE(mail.st_mode)) == (ID, FIRST + 8 - 1, 0o2775)
    assert os.stat(root / "etc/shadow").st_gid == FIRST + 42 - 1
    assert stat.S_IMODE(os.stat(root / "usr/bin/su").st_mode) == 0o4755
    states = [line for line in (root / "var/lib/dpkg/status").read_text().splitlines() if line.startswith("Status: ")]
    assert set(states) == {"Status: install ok installed"} and len(states) > 80
    assert "sudo" not in said


def test_without_them_all_is_the_users_and_it_says_so(ctk: Command, home: Path, ubuntu_archive: UbuntuArchive) -> None:
    child = bootstrap(ctk, home, ubuntu_archive, subordinate_ids=0)
    said, _ = child.communicate(timeout=250)
    assert child.returncode == 0, said
    assert "subordinate ids" in said
    assert 'APT::Sandbox::User "root";' in (home / "fs/etc/apt/apt.conf.d/20ctk-one-user").read_text()
    assert {os.lstat(path).st_uid for path in (home / "fs").rglob("*")} == {ID}
    inside = ["unshare", "--map-root-user", "chroot", str(home / "fs"), "/usr/bin/dpkg", "--audit"]
    done = subprocess.run([*prefix(str(home)), *inside], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_b10_nothing_is_left_of_an_interrupted_one(
    number: signal.Signals, ctk: Command, home: Path, ubuntu_archive: UbuntuArchive
) -> None:
    child = bootstrap(ctk, home, ubuntu_archive, variant="essential")
    until((home / "fs/var/lib/dpkg/status").exists, "dpkg's database", timeout_s=120, of=child)
    child.send_signal(number)
    said, _ = child.communicate(timeout=60)
    assert child.returncode in (130, -signal.SIGINT, -signal.SIGKILL), said
    if number == signal.SIGINT:
        assert not (home / "fs").exists(), said
