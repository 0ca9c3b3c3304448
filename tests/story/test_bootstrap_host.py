"""`ctk bootstrap host`: a root of the host's own programs, and what falls back on it where no archive answers."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import Command, tool
from tests.fixtures.user import ID, prefix

pytestmark = pytest.mark.root

NO_ARCHIVE = {"CTK_MIRROR": "http://127.0.0.1:1/debian"}


def run(ctk: Command, bundle: Path, script: str) -> str:
    ctk("spec", "--rootfs", str(bundle / "fs"), "--writable", "--no-tty", "--", "sh", "-c", script, cwd=bundle).ok()
    return ctk("run", ctk.id(), cwd=bundle).ok().out


def test_every_program_in_it_starts(ctk: Command, tmp_path: Path) -> None:
    said = ctk("bootstrap", "host", "fs", cwd=tmp_path).ok().err
    assert "programs of this host" in said
    script = """
        ps | grep -q ' 1 ' || echo no processes
        [ "$(id -un)" = root ] || echo nobody knows root
        for program in /usr/bin/* /usr/sbin/*; do
            $program --version </dev/null >/dev/null 2>/tmp/said
            grep -E 'error while loading|not found' /tmp/said
        done
        cat /etc/os-release"""
    assert run(ctk, tmp_path, script).splitlines() == Path("/etc/os-release").read_text().splitlines()
    assert not (tmp_path / "fs/usr/bin/dpkg").exists()
    assert ctk("bootstrap", "host", "fs", cwd=tmp_path).err.startswith("ctk: make a root file system in")
    ctk("bootstrap", "--remove", "fs", cwd=tmp_path).ok()


def test_include_brings_programs_scripts_and_folders(ctk: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/letter").write_text("dear\n")
    (tmp_path / "data/other").symlink_to("letter")
    script = tmp_path / "script"
    script.write_text(f"#!{tool('strace')}\n")
    script.chmod(0o755)
    os.chmod(tmp_path / "data/letter", 0o4755)
    ctk("bootstrap", "host", "fs", "--include", f"gpgv,{script},{tmp_path}/data", cwd=tmp_path).ok()
    assert run(
        ctk, tmp_path, f"gpgv --version | head -1; cat {tmp_path}/data/other; command -v strace"
    ).splitlines() == [
        subprocess.run([tool("gpgv"), "--version"], capture_output=True, text=True).stdout.splitlines()[0],
        "dear",
        tool("strace"),
    ]
    assert os.stat(f"{tmp_path}/fs{tmp_path}/data/letter").st_mode & 0o7777 == 0o755  # nobody's rights come along


def test_what_is_not_there_is_told_and_nothing_is_left(ctk: Command, tmp_path: Path) -> None:
    refused = ctk("bootstrap", "host", "fs", "--include", "nosuchprogram", cwd=tmp_path)
    assert refused.rc == 1 and "copy 'nosuchprogram' of this host" in refused.err
    assert os.listdir(tmp_path) == []


def test_an_ordinary_user_gets_a_shell_from_it(tmp_path_factory: pytest.TempPathFactory, ctk: Command) -> None:
    home = tmp_path_factory.mktemp("home")
    os.chown(home, ID, ID)
    line = "ctk bootstrap host fs && ctk spec --rootfs fs --writable --no-tty -- bash -c 'id -u; touch /x' && ctk run x"
    done = subprocess.run(
        [*prefix(str(home), subordinate_ids=0), "sh", "-c", line],
        cwd=home,
        env={
            **ctk.environment,
            "HOME": str(home),
            "CTK_ROOT": f"{home}/run",
            "CTK_CACHE": f"{home}/cache",
            "PATH": os.path.dirname(ctk.program) + ":" + os.environ["PATH"],
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert (home / "fs/x").stat().st_uid == ID
    shutil.rmtree(home)


def test_up_takes_it_where_no_archive_answers_and_says_so(ctk: Command, tmp_path: Path) -> None:
    name = ctk.id()
    refused = ctk("up", "bookworm", name, "--bundle", "b", "--", "id", "-u", cwd=tmp_path, env=NO_ARCHIVE)
    assert refused.rc == 1 and "connection refused" in refused.err
    done = ctk("up", "bookworm", name, "--or-host", "--bundle", "b", "--", "id", "-u", cwd=tmp_path, env=NO_ARCHIVE)
    assert (done.rc, done.out) == (0, "0\n"), done.err
    assert "made of this host's own programs instead of bookworm" in done.err


def test_the_first_recipe_goes_on_without_an_archive(ctk: Command) -> None:
    played = ctk("recipe", "run", "--yes", "first-container", env=NO_ARCHIVE, timeout=120)
    assert played.rc == 0, played.out + played.err
    assert "made of this host's own programs" in played.out
