"""The README's three commands, typed by an ordinary user; and how what they made goes away again."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.command import Command, tool
from tests.fixtures.debian import Mirror
from tests.fixtures.terminal import Terminal
from tests.fixtures.user import FIRST, ID, prefix
from toolkit.bootstrap.output import removal
from toolkit.errors import InUse
from toolkit.events import silent

pytestmark = pytest.mark.root  # to become the user


@pytest.fixture
def typed(ctk: Command, home: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`typed("ctk spec", ids=0)`: one line of a shell in the user's home, typed by the user."""

    def run(line: str, *, ids: int = 65536) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*prefix(str(home), subordinate_ids=ids), "sh", "-c", line],
            cwd=home,
            env=environment(ctk, home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=250,
        )

    return run


def environment(ctk: Command, home: Path) -> dict[str, str]:
    path = os.path.dirname(ctk.program) + ":/usr/bin:/bin:/usr/sbin:/sbin"
    kept = {name: value for name, value in ctk.environment.items() if not name.startswith(("CTK_", "XDG_"))}
    given = {"CTK_CACHE": f"{home}/cache", "CTK_ROOT": f"{home}/run", "CTK_TEST_TAG": ctk.environment["CTK_TEST_TAG"]}
    return {**kept, **given, "HOME": str(home), "PATH": path}


def busybox_tree(home: Path) -> None:
    (home / "fs/bin").mkdir(parents=True)
    shutil.copy(tool("busybox"), home / "fs/bin/busybox")
    for name in ("sh", "id", "cat", "sleep"):
        (home / "fs/bin" / name).symlink_to("busybox")
    for folder in (home / "fs", home / "fs/bin"):
        os.chown(folder, ID, ID)


@pytest.mark.archive
def test_the_three_commands_end_in_a_shell_and_all_of_it_can_go(
    ctk: Command,
    home: Path,
    debian_mirror: Mirror,
    terminal: Callable[..., Terminal],
    typed: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    shell = terminal(
        [*prefix(str(home)), "sh"],
        cwd=str(home),
        env={**environment(ctk, home), "CTK_MIRROR": debian_mirror.url, "PS1": "$ ", "TERM": "xterm"},
        columns=200,
    )
    shell.read_until(r"\$ ")
    shell.send("ctk bootstrap bookworm rootfs; echo ended=$?\r")
    shell.read_until(r"ended=0\r", timeout_s=200)
    shell.send("ctk spec --rootfs rootfs --writable; echo ended=$?\r")
    said = shell.read_until(r"ended=0\r")
    assert "you are not root, so this is a rootless container" in said and "65536 subordinate ids" in said
    shell.send("ctk run my-cont\r")
    shell.read_until("# ")
    shell.send("echo me=$(id -u) one=$$ deb=$(cut -c1-2 /etc/debian_version); su nobody -s /bin/sh -c id\r")
    assert "me=0 one=1 deb=12" in shell.read_until(r"me=\d.*\n")
    shell.read_until(r"uid=65534\(nobody\)")
    shell.send("chown games /home; exit\r")
    shell.read_until(r"\$ ")
    assert os.stat(home / "rootfs/home").st_uid == FIRST + 5 - 1  # nobody's but the subordinate id's
    gone = typed("ctk bootstrap --remove rootfs")
    assert (gone.returncode, sorted(os.listdir(home))) == (0, ["cache", "config.json", "run"]), gone.stderr


def test_with_one_id_it_runs_too_and_limits_that_nobody_delegated_are_left_out(
    home: Path, typed: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    busybox_tree(home)
    done = typed(
        "ctk spec --rootfs fs --no-tty --memory 64M -- sh -c 'id -u; cat /proc/self/uid_map' && ctk run x", ids=0
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0", str(ID), "1"]
    assert "there is no other id" in done.stderr
    spec = json.loads((home / "config.json").read_text())
    assert "network" in [entry["type"] for entry in spec["linux"]["namespaces"]]
    if "resources" not in spec["linux"]:
        assert "left out the limits of memory" in done.stderr
    else:
        assert "left out" not in done.stderr


def test_words_of_ones_own_are_kept(home: Path, typed: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    done = typed(f"ctk spec --share-net --uid-map 0:{ID}:1 --gid-map 0:{ID}:1 --namespace ipc=host")
    assert done.returncode == 0, done.stderr
    linux = json.loads((home / "config.json").read_text())["linux"]
    assert [entry["size"] for entry in linux["uidMappings"]] == [1]
    assert not {"network", "ipc"} & {entry["type"] for entry in linux["namespaces"]}


def test_asked_for_rootless_it_is_still_runcs_file(
    home: Path, typed: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    # But for the version of the standard, which each runc has its own of.
    both = "ctk spec --rootless --bundle a && runc spec --rootless --bundle b"
    done = typed(f"mkdir a b; {both} && sed -i /ociVersion/d a/* b/* && cmp a/* b/*")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    done = typed("ctk spec")
    assert "you are not root" in done.stderr
    assert len(json.loads((home / "config.json").read_text())["linux"]["uidMappings"]) == 2


def test_a_tree_that_somebody_lives_in_or_that_is_not_ours_stays(
    home: Path, typed: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    busybox_tree(home)
    refused = typed("ctk bootstrap --remove fs")
    assert refused.returncode == 1 and "ctk did not make it" in refused.stderr
    (home / "fs/.ctk-bootstrap").touch()  # half made now, and so ours
    os.chown(home / "fs/.ctk-bootstrap", ID, ID)
    link = typed("ln -s fs other; ctk bootstrap --remove other")
    assert link.returncode == 1 and "symbolic link" in link.stderr
    living = typed(
        "ctk spec --rootfs fs --no-tty -- sh -c 'exec sleep 60' && ctk run -d c >/dev/null 2>&1 </dev/null"
        " && ctk bootstrap --remove fs; code=$?; ctk delete --force c; exit $code"
    )
    assert living.returncode == 1 and "the container 'c' runs in it" in living.stderr
    os.mkdir(home / "fs/locked", 0o500)
    os.symlink("/etc", home / "fs/locked/etc")
    os.chown(home / "fs/locked", ID, ID)
    removed = typed("ctk bootstrap --remove fs")
    assert removed.returncode == 0, removed.stderr
    assert not (home / "fs").exists() and os.path.exists("/etc/passwd")


def test_a_mount_in_the_tree_stops_it(tmp_path: Path, ctk: Command) -> None:
    tree, precious = tmp_path / "fs", tmp_path / "precious"
    (tree / "mnt").mkdir(parents=True)
    (tree / ".ctk-bootstrap").touch()
    precious.mkdir()
    (precious / "letter").touch()
    subprocess.run(["mount", "--bind", str(precious), str(tree / "mnt")], check=True)
    try:
        refused = ctk("bootstrap", "--remove", str(tree))
    finally:
        subprocess.run(["umount", str(tree / "mnt")], check=True)
    assert refused.rc == 1 and "something is mounted on" in refused.err
    assert (precious / "letter").exists()
    at = os.open(tree, os.O_PATH)
    for _ in range(1500):  # deeper than one may have descriptors, or calls in calls
        os.mkdir("deep", dir_fd=at)
        below = os.open("deep", os.O_PATH, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    ctk("bootstrap", "--remove", str(tree)).ok()
    assert not tree.exists()


def test_a_mount_that_comes_later_stops_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, precious = tmp_path / "fs", tmp_path / "precious"
    (tree / "mnt").mkdir(parents=True)
    (tree / ".ctk-bootstrap").touch()
    precious.mkdir()
    (precious / "letter").touch()
    monkeypatch.setattr(removal, "check_unmounted", lambda _: None)  # as if it had come a moment after
    subprocess.run(["mount", "--bind", str(precious), str(tree / "mnt")], check=True)
    try:
        with pytest.raises(InUse, match="something is mounted in it"):
            removal.remove_here(str(tree), silent)
    finally:
        subprocess.run(["umount", str(tree / "mnt")], check=True)
    assert (precious / "letter").exists()
