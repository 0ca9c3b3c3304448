"""Hosts that are none: containers with less than root's rights, and folders on odd file systems. Told before a byte is
fetched: the mirror of these tests isn't there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.command import Command, tool
from tests.fixtures.debian import Mirror

pytestmark = pytest.mark.root

NOWHERE = "http://127.0.0.1:1/debian"


def told(words: list[str], ctk: Command, target: Path, *more: str) -> str:
    argv = [*words, ctk.program, "bootstrap", "bookworm", str(target), NOWHERE, "--variant", "minbase", *more]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, env=ctk.environment | {"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 1 and not target.exists()
    return done.stderr


def test_a_container_without_cap_sys_admin_says_so_early(ctk: Command, tmp_path: Path) -> None:
    words = [tool("setpriv"), "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    said = told(words, ctk, tmp_path / "fs")
    assert "CAP_SYS_ADMIN" in said and "--privileged" in said and "127.0.0.1:1" not in said
    assert "127.0.0.1:1" in told(words, ctk, tmp_path / "fs", "--foreign")  # this half needs nothing of it


def test_a_container_with_a_masked_proc_says_so_early(ctk: Command, tmp_path: Path) -> None:
    """What an engine does to a container without privileges: a part of /proc covered, then a user namespace."""
    script = 'mount --bind /dev/null /proc/version && exec unshare --user --map-root-user "$@"'
    words = [tool("unshare"), "--mount", "sh", "-c", script, "sh"]
    said = told(words, ctk, tmp_path / "fs")
    assert 'mount("proc"' in said and "unmasked" in said and "127.0.0.1:1" not in said


NO_MOUNT = """
import os, sys
from toolkit.kernel import libc
architecture, mount, new = {"x86_64": (0xC000003E, 165, 430), "aarch64": (0xC00000B7, 40, 430)}[os.uname().machine]
filter = [(0x20, 0, 0, 4), (0x15, 0, 4, architecture), (0x20, 0, 0, 0), (0x15, 1, 0, mount), (0x15, 0, 1, new)]
filter += [(6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000)]
code = libc.buffer(b"".join(
    op.to_bytes(2, "little") + bytes((true, false)) + value.to_bytes(4, "little") for op, true, false, value in filter
))
header = libc.buffer(len(filter).to_bytes(8, "little") + libc.address(code).to_bytes(8, "little"))
libc.syscall(libc.number("seccomp"), 1, 0, header)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_container_whose_filter_refuses_mounts_says_so_early(ctk: Command, tmp_path: Path) -> None:
    """Every capability, a whole /proc, and a seccomp profile that has no mount(2): engines within engines."""
    said = told([sys.executable, "-c", NO_MOUNT], ctk, tmp_path / "fs")
    assert "operation not permitted" in said and "--privileged" in said and "127.0.0.1:1" not in said
    assert said.count("ctk:") == 1


def test_callers_without_streams_or_a_folder(ctk: Command, tmp_path: Path) -> None:
    """As some supervisors start programs: the tree is made; or one line says why not."""

    def sh(script: str) -> "subprocess.CompletedProcess[str]":
        argv = ["bash", "-c", script, "bash", ctk.program, str(tmp_path)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, env=ctk.environment)

    for number, closed in enumerate((">&-", "2>&-", "<&- >&- 2>&-")):
        done = sh(f'"$1" bootstrap host "$2/fs{number}" {closed}')
        assert done.returncode == 0 and (tmp_path / f"fs{number}/bin/sh").exists(), done.stderr
    gone = sh('mkdir "$2/gone" && cd "$2/gone" && rmdir "$2/gone" && exec "$1" bootstrap host fs')
    assert gone.returncode == 1
    assert gone.stderr.splitlines() == [
        "ctk: find the current folder: it was removed",
        "hint: cd to one that exists",
    ]


@pytest.mark.parametrize("option", ["noexec", "nodev"])
def test_a_target_that_cannot_carry_a_root_is_told_early(option: str, ctk: Command, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    script = f'mount -t tmpfs -o {option} tmpfs {tmp_path}/mnt && exec "$@"'
    words = [tool("unshare"), "--mount", "sh", "-c", script, "sh"]
    said = told(words, ctk, tmp_path / "mnt/fs")
    assert option in said and "127.0.0.1:1" not in said


@pytest.mark.archive
@pytest.mark.slow
def test_a_target_on_overlay(ctk: Command, tmp_path: Path, debian_mirror: Mirror) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    script = (
        f'mount -t overlay -o {options} overlay {tmp_path}/merged && "$@" && '
        f"chroot {tmp_path}/merged/fs dpkg --audit && umount {tmp_path}/merged"
    )
    words = [tool("unshare"), "--mount", "sh", "-c", script, "sh", ctk.program, "bootstrap", "bookworm"]
    words += [str(tmp_path / "merged/fs"), debian_mirror.url, "--variant", "minbase", "--no-cache"]
    environment = ctk.environment | {"PATH": os.environ["PATH"]}
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "upper/fs/usr/bin/apt").exists()
