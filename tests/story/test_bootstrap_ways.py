"""`ctk bootstrap` with hooks, options for dpkg and apt, users and names; and for other architectures."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.fixtures.debian import Mirror
from tests.fixtures.ubuntu import UbuntuArchive
from tests.fixtures.waiting import until
from toolkit.bootstrap.output.target import read_result

pytestmark = [pytest.mark.root, pytest.mark.archive]


def chroot(root: Path, *words: str) -> str:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    return subprocess.run(
        ["chroot", root, *words], check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


def running(command: str) -> bool:
    return subprocess.run(["pgrep", "-fx", command], capture_output=True).returncode == 0


def test_everything_at_once(ctk: Command, tmp_path: Path, debian_mirror: Mirror) -> None:
    root = tmp_path / "fs"
    (tmp_path / "site").mkdir()
    (tmp_path / "site/motd").write_text("hello\n")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "customize-last").write_text('#!/bin/sh\ntest -d "$1/home/dev" && echo "$CTK_HOOK $CTK_SUITE" > told\n')
    (hooks / "customize-last").chmod(0o755)
    done = ctk(
        *("bootstrap", "bookworm", str(root), debian_mirror.url, "--variant", "minbase", "--verbose"),
        *("--setup-hook", 'mkdir -p "$1/etc" && echo early > "$1/etc/early" && ! test -e "$1/usr/bin"'),
        *("--setup-hook", "upload site/motd /etc/uploaded"),
        *("--extract-hook", 'test -e "$1/usr/bin/dpkg" && ! test -s "$1/var/lib/dpkg/info/dpkg.postinst.ran"'),
        *("--extract-hook", 'test "$(chroot "$1" dpkg-query -W -f "\\${db:Status-Status}" dpkg)" = unpacked'),
        *("--essential-hook", 'chroot "$1" dpkg --audit; chroot "$1" dpkg -s dpkg | grep "ok installed"'),
        *("--essential-hook", '! test -e "$1/usr/share/doc/hello"; sleep 3333 & env > essential-env'),
        *("--customize-hook", "sync-in site /etc", "--customize-hook", "copy-out /etc/passwd out"),
        *("--customize-hook", 'chroot "$1" ls -l /dev/null /proc/self/status; echo shown', "--hook-dir", str(hooks)),
        *("--dpkg-opt", "path-exclude=/usr/share/doc/*", "--dpkg-opt", "path-include=/usr/share/doc/*/copyright"),
        *("--apt-opt", 'Acquire::Languages "none"', "--setup-user", "dev:1234", "--timezone", "Europe/Berlin"),
        *("--hostname", "box", "--resolv-conf", "none", "--root-password", "none"),
        cwd=tmp_path,
        env={"SECRET": "leaked", "http_proxy": ""},
        timeout=250,
    ).ok()
    assert "shown" in done.err
    assert (root / "etc/early").read_text() == "early\n" and (root / "etc/uploaded").read_text() == "hello\n"
    assert (root / "etc/motd").read_text() == "hello\n" and (tmp_path / "out/passwd").exists()
    assert (tmp_path / "told").read_text() == "customize bookworm\n"
    environment = (tmp_path / "essential-env").read_text()
    assert "leaked" not in environment and "CTK_HOOK=essential" in environment
    assert not running("sleep 3333")
    documents = [path.name for path in (root / "usr/share/doc").rglob("*") if path.is_file()]
    assert set(documents) == {"copyright"} and len(documents) > 60
    assert "path-exclude=/usr/share/doc/*\n" in (root / "etc/dpkg/dpkg.cfg.d/99ctk").read_text()
    assert 'Languages:: "none";' in chroot(root, "apt-config", "dump", "Acquire::Languages")
    assert chroot(root, "id", "dev").startswith("uid=1234(dev) gid=1234(dev)")
    assert os.readlink(root / "etc/localtime") == "/usr/share/zoneinfo/Europe/Berlin"
    assert (root / "etc/timezone").read_text() == "Europe/Berlin\n" and (root / "etc/hostname").read_text() == "box\n"
    assert not os.path.lexists(root / "etc/resolv.conf")
    assert (root / "etc/shadow").read_text().startswith("root::")
    assert chroot(root, "dpkg", "--audit") == ""
    result = read_result(str(root))
    assert result is not None and len(result.build_id) == 64


def test_an_ubuntu_shaped_tree_gets_its_user_and_options(
    ctk: Command, tmp_path: Path, ubuntu_archive: UbuntuArchive
) -> None:
    root = tmp_path / "fs"
    ctk(
        *("bootstrap", "jammy", str(root), ubuntu_archive.url, "--variant", "minbase"),
        *("--keyring", ubuntu_archive.keyring, "--components", "main,universe"),
        *(
            "--setup-user",
            "ubuntu:1000",
            "--hostname",
            "u",
            "--locale",
            "C.UTF-8",
            "--dpkgopt",
            "path-exclude=/usr/share/man/*",
        ),
        *("--customize-hook", 'chroot "$1" id ubuntu > who', "--root-password", "locked"),
        cwd=tmp_path,
        timeout=250,
    ).ok()
    assert (tmp_path / "who").read_text().startswith("uid=1000(ubuntu)")
    assert (root / "etc/default/locale").read_text() == "LANG=C.UTF-8\n"
    assert not [path for path in (root / "usr/share/man").rglob("*") if path.is_file()]


def test_a_hook_that_fails_is_told_with_its_last_lines_and_nothing_is_left(
    ctk: Command, tmp_path: Path, debian_mirror: Mirror
) -> None:
    words = ("bootstrap", "bookworm", str(tmp_path / "fs"), debian_mirror.url, "--variant", "minbase")
    done = ctk(*words, "--setup-hook", "echo the reason; sleep 3334 & exit 3", timeout=120)
    assert done.rc == 1 and not (tmp_path / "fs").exists()
    assert "setup hook" in done.err and "exit code 3" in done.err and "the reason" in done.err
    assert not running("sleep 3334")
    done = ctk(*words, "--setup-hook", "copy-in /no/such/file /", timeout=120)
    assert done.rc == 1 and "no such file" in done.err and not (tmp_path / "fs").exists()
    done = ctk(*words, "--hostname", "a b", timeout=120)
    assert done.rc == 1 and "--hostname" in done.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_b10_a_hook_ends_with_ctk(number: signal.Signals, ctk: Command, tmp_path: Path, debian_mirror: Mirror) -> None:
    words = ("bootstrap", "bookworm", str(tmp_path / "fs"), debian_mirror.url, "--variant", "minbase")
    left = f"sleep 3336.{os.getpid()}"  # others run this test as well
    hook = f'trap "" INT TERM HUP; mount -t tmpfs tmpfs "$1/mnt" || mount -t tmpfs tmpfs "$1"; setsid {left}; sleep 9'
    child = ctk.popen(*words, "--setup-hook", hook, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: running(left), "the hook", timeout_s=90, of=child)
    child.send_signal(number)
    child.wait(30)
    until(lambda: not running(left), "the end of the hook's process")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert number == signal.SIGKILL or not (tmp_path / "fs").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("architecture", "machine"), [("arm64", "aarch64"), ("armhf", "armv7l")])
def test_another_architecture_is_built_by_emulation(
    architecture: str, machine: str, ctk: Command, tmp_path: Path, debian_mirror: Mirror
) -> None:
    """Without anything registered on the host, and no emulator in the tree."""
    root = tmp_path / "fs"
    before = sorted(os.listdir("/proc/sys/fs/binfmt_misc"))
    words = ("bootstrap", "bookworm", str(root), debian_mirror.url, "--variant", "minbase", "--arch", architecture)
    ctk(*words, "--customize-hook", 'chroot "$1" uname -m > machine', cwd=tmp_path, timeout=800).ok()
    assert (tmp_path / "machine").read_text().strip() == machine
    states = [line for line in (root / "var/lib/dpkg/status").read_text().splitlines() if line.startswith("Status: ")]
    assert set(states) == {"Status: install ok installed"} and len(states) > 70
    assert (root / "var/lib/dpkg/arch").exists() or f"Architecture: {architecture}" in (
        root / "var/lib/dpkg/status"
    ).read_text()
    assert not list(root.rglob("qemu*")) and sorted(os.listdir("/proc/sys/fs/binfmt_misc")) == before
