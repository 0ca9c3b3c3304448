"""The README's first command on a fresh clone, and what it says when something is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.debian import Mirror
from tests.fixtures.leaks import TAG

TOP = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The checkout's files, changed ones too, without its environment."""
    target = tmp_path / "clone"
    names = subprocess.run(
        ["git", "-C", str(TOP), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, names.split("\0")):
        if (TOP / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target / name)
    return target


@pytest.mark.root
@pytest.mark.archive
def test_a_fresh_clone_ends_inside_a_container(clone: Path, debian_mirror: Mirror, shared_cache: str) -> None:
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": os.environ.get("HOME", "/"),
        "CTK_MIRROR": debian_mirror.url,
        "CTK_CACHE": shared_cache,
        "CTK_ROOT": str(clone / "state"),
        "CTK_TEST_TAG": TAG,
    }
    command = [str(clone / "scripts/quickstart"), "bookworm"]
    first = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=290
    )
    assert first.returncode == 0, first.stdout + first.stderr
    assert "hello from Debian GNU/Linux 12 (bookworm)" in first.stdout
    assert "I am process 1, user 0" in first.stdout
    last = first.stdout.rstrip().splitlines()[-3:]
    assert "ctk up bookworm my-cont" in last[0] and "recipe run" in last[1] and "--help" in last[2]
    # A second time nothing is made anew, and what is asked for is run.
    asked = len(debian_mirror.requests)
    again = subprocess.run(
        [*command, "--", "cat", "/etc/debian_version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert again.returncode == 0 and "\n12." in again.stdout, again.stdout + again.stderr
    assert not [path for _, path, _ in debian_mirror.requests[asked:] if path.endswith(".deb")]


def test_a_wrong_word_is_told(clone: Path) -> None:
    done = subprocess.run([clone / "scripts/quickstart", "--frobnicate"], capture_output=True, text=True)
    assert done.returncode == 1 and "--help" in done.stderr
