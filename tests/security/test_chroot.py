"""A runtime that is itself in a chroot: the root of its mount namespace is the host's, and stays out of reach."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import chroot
from tests.fixtures.command import Bundle, Command, tool
from tests.fixtures.waiting import until
from tests.security.conftest import pid_of, running

pytestmark = pytest.mark.root

_SCRIPT = """
    set -u; cd /bundle; export CTK_ROOT=/run/ctk
    ctk run -d {options} {name} >/dev/null || exit 1
    echo exec $(ctk exec {name} cat /inside) $(ctk exec {name} ls /)
    ctk exec {name} touch /made
    echo climbs $(ctk exec --cap CAP_SYS_CHROOT {name} /bin/leave | sort)
    echo leaves $(ctk exec --cap CAP_SYS_ADMIN --cap CAP_SYS_CHROOT --cap CAP_SYS_PTRACE {name} nsenter -m -t 1 ls /)
    ctk cp {name}:/inside /tmp/copied && echo cp $(cat /tmp/copied)
    ctk delete --force {name}
    echo room $(ls /) $(ls /tmp)
"""


@pytest.fixture(scope="session")
def leave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("leave") / "leave"
    source = Path(__file__).parent / "leave.c"
    subprocess.run([tool("gcc"), "-O1", "-static", "-o", str(program), str(source)], check=True)
    return program


def script(ctk: Command, text: str, room: Path, bundle: object, *before: str) -> "subprocess.CompletedProcess[str]":
    environment = {**ctk.environment, "PATH": f"{os.path.dirname(ctk.program)}:/usr/sbin:/usr/bin:/sbin:/bin"}
    argv = [*chroot.prefix(room, bundle), *before, "/bin/sh", "-c", text]
    # Not a pipe: a detached container would hold it.
    with (room.parent / "out").open("w+") as out:
        code = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60)
        out.seek(0)
        return subprocess.CompletedProcess(argv, code.returncode, out.read())


@pytest.mark.parametrize("kind", ["pivot", "--no-pivot", "a folder", "shared", "no mount namespace"])
def test_nothing_leads_out_of_a_container_made_in_a_chroot(
    kind: str, bundle: Bundle, leave: Path, ctk: Command, tmp_path: Path
) -> None:
    """exec, hooks, cp, and what the container can do itself: with runc each is in the host's `/`, read-write."""
    room = tmp_path / "room"
    room.mkdir()
    if kind == "a folder":
        room /= "folder"
    (bundle.rootfs / "inside").write_text("container")
    shutil.copy(leave, bundle.rootfs / "bin/leave")

    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {"startContainer": [{"path": "/bin/touch", "args": ["touch", "/hooked"]}]}
        config["process"]["args"] = ["sleep", "1000"]
        if kind == "shared":
            config["linux"]["rootfsPropagation"] = "shared"
        if kind == "no mount namespace":
            config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "mount"]
            config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []

    bundle.edit(change)
    before = sorted(os.listdir("/"))
    options = kind if kind == "--no-pivot" else ""
    done = script(ctk, _SCRIPT.format(options=options, name=ctk.id()), room, bundle)
    told = {line.split(" ", 1)[0]: line for line in done.stdout.splitlines()}
    inside = "bin dev etc home hooked inside proc root run sbin sys tmp usr"
    assert told.get("exec") == f"exec container {inside}", done.stdout
    if kind != "no mount namespace":  # there CAP_SYS_CHROOT is what it says
        assert told["climbs"] == f"climbs {inside.replace('inside', 'inside made')}", done.stdout
        assert told["leaves"] == f"leaves {inside.replace('inside', 'inside made')}", done.stdout
    assert told["cp"] == "cp container", done.stdout
    assert "made" not in told["room"] and (bundle.rootfs / "made").exists() and (bundle.rootfs / "hooked").exists()
    assert sorted(os.listdir("/")) == before


def test_restore_in_a_chroot_is_refused(bundle: Bundle, ctk: Command, tmp_path: Path) -> None:
    """CRIU calls pivot_root(2) as it is; what it restored could be left by setns(2)."""
    room = tmp_path / "room"
    room.mkdir()
    done = script(ctk, f"cd /bundle; ctk --root /run/ctk restore --image-path /tmp {ctk.id()}", room, bundle)
    assert done.returncode == 1 and "chroot" in done.stdout, done.stdout


@pytest.mark.parametrize("how", ["pytest", "scripts/test"])
def test_the_tests_do_not_run_in_a_chroot(how: str, ctk: Command, tmp_path: Path) -> None:
    """They make containers and attack them: a fault would show on the machine that holds the chroot."""
    room = tmp_path / "room"
    room.mkdir()
    runs = f"{sys.executable} -m pytest -q -p no:cacheprovider tests/unit/test_plan.py"
    words = "scripts/test --no-install tests/unit/test_plan.py" if how == "scripts/test" else runs
    done = script(ctk, f"cd {chroot.TOP} && exec {words}", room, tmp_path)
    assert done.returncode != 0 and "passed" not in done.stdout, done.stdout
    assert len(done.stdout.strip().splitlines()) == 1 and "chroot" in done.stdout, done.stdout


_ROOTS = """
    set -u; cd /bundle; export CTK_ROOT=/run/ctk; ln -s / /link; mkdir /bound; mount --rbind / /bound; touch /dev/ptmx
    ls -lR --time-style=full-iso /dev > /tmp/before
    for path in / // /. /.. /link /link/../usr/.. ../.. /proc/self/root /bound; do
        sed "s,ROOT,$path," ROOT.json > config.json
        echo $path $(ctk run {name} 2>&1 | sed 's/.*msg=//')
    done
    ls -lR --time-style=full-iso /dev | diff /tmp/before - && echo untouched
    sed s,ROOT,/link, ROOT.json > config.json; ctk check | grep -c 'error E209 root.path'
"""


def test_the_hosts_own_root_is_refused_before_anything_is_touched(bundle: Bundle, ctk: Command, tmp_path: Path) -> None:
    """By any name; a bind mount of it is somebody's own doing, but the host's /dev stays as it is there, too.

    In a chroot with a /dev of its own: a runtime that lets it pass replaces /dev/ptmx of what it takes for the host.
    """
    room = tmp_path / "room"
    room.mkdir()

    def change(config: dict[str, Any]) -> None:
        config["root"] = {"path": "ROOT"}
        config["process"]["args"] = ["/bin/echo", "ran"]
        config["mounts"] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
        config["linux"]["maskedPaths"] = config["linux"]["readonlyPaths"] = []
        config["linux"]["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3}]

    bundle.edit(change)
    (bundle.path / "config.json").rename(bundle.path / "ROOT.json")
    done = script(ctk, _ROOTS.format(name=ctk.id()), room, bundle)
    *refused, bound, untouched, found = done.stdout.splitlines()
    assert len(refused) == 8 and all("root.path: is the host's own root" in line for line in refused), done.stdout
    assert (bound, untouched, found) == ("/bound ran", "untouched", "1"), done.stdout


def test_a_build_in_a_chroot_stays_in_its_tree(bundle: Bundle, leave: Path, ctk: Command, tmp_path: Path) -> None:
    """A script of a package has CAP_SYS_CHROOT."""
    room = tmp_path / "room"
    room.mkdir()
    shutil.copy(leave, bundle.rootfs / "bin/leave")
    (bundle.path / "build.py").write_text("""
import sys
sys.path.insert(0, sys.argv[1])
from toolkit.bootstrap.sandbox.sandbox import Sandbox
with Sandbox("/bundle/rootfs", "/tmp/log", print, print) as sandbox:
    sandbox.run(["/bin/leave"], doing="leave")
""")
    done = script(ctk, f"{sys.executable} /bundle/build.py {chroot.TOP}", room, bundle)
    assert sorted(done.stdout.split()) == "bin dev etc home proc root run sbin sys tmp usr".split(), done.stdout


def test_a_first_process_in_a_chroot_of_its_own_is_not_followed(bundle: Bundle, ctk: Command) -> None:
    """exec's root is the container's: a daemon that has locked itself up says nothing about that."""
    (bundle.rootfs / "home/bin").mkdir()
    shutil.copy(bundle.rootfs / "bin/busybox", bundle.rootfs / "home/bin/sleep")
    able = {kind: ["CAP_SYS_CHROOT"] for kind in ("bounding", "effective", "permitted")}
    bundle.edit(lambda config: config["process"].update(capabilities=able))
    with running(ctk, bundle.args("chroot", "/home", "/bin/sleep", "1000")) as name:
        until(lambda: os.listdir(f"/proc/{pid_of(ctk, name)}/root") == ["bin"], "its chroot")
        assert "etc" in ctk("exec", name, "ls", "/").ok().out.split()
