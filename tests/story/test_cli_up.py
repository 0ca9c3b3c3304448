"""`ctk up`: a suite's name to a running container, each stage done once."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Command
from tests.fixtures.debian import Mirror
from tests.fixtures.terminal import Terminal
from tests.fixtures.ubuntu import UbuntuArchive
from tests.fixtures.user import FIRST, ID, prefix
from tests.fixtures.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.archive]


@pytest.fixture
def up(ctk: Command, debian_mirror: Mirror) -> Callable[..., Any]:
    """Runs `ctk up bookworm ID …` against the local mirror."""
    ctk.environment["CTK_MIRROR"] = debian_mirror.url

    def run(identity: str, *words: str, **keywords: Any) -> Any:
        return ctk("up", "bookworm", identity, *words, timeout=240, **keywords)

    return run


def test_up_makes_runs_and_does_not_make_again(ctk: Command, up: Callable[..., Any], tmp_path: Path) -> None:
    name = ctk.id()
    (tmp_path / "given").touch()
    like = ["--pids-limit=40", "-m96M", "-eWORD=said", f"-v{tmp_path}/given:/given:ro", "--ulimit=core=0"]
    script = (
        "cat /etc/debian_version; hostname; getent hosts $(hostname); echo $WORD; ulimit -c; test -f /given && exit 7"
    )
    first = up(name, *like, "--no-cache", "--", "sh", "-c", script)
    assert first.rc == 7, first.err
    assert first.out.split()[0].startswith("12.")
    assert first.out.split()[1:] == [name, "127.0.1.1", name, "said", "0"]
    assert "] Tidy up" in first.err
    assert "--share-net" in first.err
    bundle = tmp_path / "data/bundles" / name
    made = (bundle / "rootfs").stat().st_ino

    resources = json.loads((bundle / "config.json").read_text())["linux"]["resources"]
    assert (resources["memory"]["limit"], resources["pids"]["limit"]) == (96 << 20, 40)

    second = up(name, *like, "--", "cat", "/etc/hostname")
    assert second.rc == 0
    assert re.fullmatch(r"ctk: \[1/1\] Use the bundle: already there \(bookworm, minbase, \d+ packages\)\n", second.err)
    assert "Tidy up" not in second.err
    assert (bundle / "rootfs").stat().st_ino == made

    config = json.loads((bundle / "config.json").read_text())
    config["process"]["env"].append("MINE=1")
    (bundle / "config.json").write_text(json.dumps(config))
    third = up(name, "--", "sh", "-c", "echo $MINE; touch /written && echo yes")
    assert (third.rc, third.out.split()) == (0, ["1", "yes"])
    assert "kept as it was edited by hand" in third.err
    assert "so changed options are ignored" in third.err

    other = up(name, "--include=procps")
    assert other.rc == 1
    assert "was made from another request (bookworm, minbase, " in other.err
    assert "packages): --include then not given, now procps" in other.err
    assert "hint: use the same options to go on with it; or use another id, or --force" in other.err

    missing = up(name, "--", "nosuchprogram")
    assert missing.rc == 1
    assert "find 'nosuchprogram'" in missing.err


def test_up_on_a_terminal_gives_a_shell_and_then_the_terminal_back(
    ctk: Command, up: Callable[..., Any], terminal: Callable[..., Terminal]
) -> None:
    name = ctk.id()
    environment = {**ctk.environment, "TERM": "xterm"}
    screen = terminal(ctk.argv("up", "bookworm", name), env=environment, rows=30, columns=90)
    screen.read_until("Verify the suite", 60)
    screen.read_until(f"root@{name}:/# ", 240)
    screen.send("stty size\r")
    screen.read_until("30 90")
    screen.resize(20, 70)
    screen.send("stty size\r")
    screen.read_until("20 70")
    screen.send("sleep 50\r")
    screen.read_until("sleep 50")
    time.sleep(0.5)
    screen.send("\x03")
    screen.read_until(f"root@{name}:/# ")

    refused = up(name)
    assert refused.rc == 1
    assert "there is a container of that name" in refused.err

    screen.send("exit 9\r")
    assert screen.wait() == 9


def test_a_signal_to_up_reaches_the_container(ctk: Command, up: Callable[..., Any]) -> None:
    name = ctk.id()
    assert up(name, "--", "true").rc == 0
    trap = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    with ctk.popen("up", "bookworm", name, "--", "sh", "-c", trap, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "got it\n"
    assert process.returncode == 5


def test_a_root_that_is_made_anew_keeps_what_is_known_of_config_json(
    ctk: Command, up: Callable[..., Any], tmp_path: Path
) -> None:
    name = ctk.id()
    assert up(name, "--share-net", "--", "true").rc == 0
    bundle = tmp_path / "data/bundles" / name
    ctk("bootstrap", "--remove", str(bundle / "rootfs")).ok()
    again = up(name, "--", "true")
    assert again.rc == 0 and "edited by hand" not in again.err, again.err
    spaces = json.loads((bundle / "config.json").read_text())["linux"]["namespaces"]
    assert {"type": "network"} in spaces


def test_an_interrupted_up_leaves_nothing_half_made(ctk: Command, up: Callable[..., Any], tmp_path: Path) -> None:
    name = ctk.id()
    process = ctk.popen("up", "--json", "--no-cache", "bookworm", name, "--", "true", stdout=-1)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progressed" and event["stage"] == "unpack":
            break
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.wait(60) == 143
    bundle = tmp_path / "data/bundles" / name
    assert not os.path.exists(bundle / "rootfs")
    assert up(name, "--", "true").rc == 0


def test_up_after_a_kill_makes_the_root_anew(ctk: Command, up: Callable[..., Any], tmp_path: Path) -> None:
    name = ctk.id()
    process = ctk.popen("up", "--json", "--no-cache", "bookworm", name, "--", "true", stdout=-1)
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progressed" and event["stage"] == "unpack":
            break
    process.kill()
    process.wait()
    process.stdout.close()
    assert (tmp_path / "data/bundles" / name / "rootfs").is_dir()
    assert up(name, "--", "true").rc == 0


def test_an_ordinary_user_brings_a_container_up(ctk: Command, ubuntu_archive: UbuntuArchive, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, ID, ID)
    environment = {
        **os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "CTK_MIRROR": ubuntu_archive.url,
        "CTK_CACHE": str(home / "cache"), "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    shutil.copy(ubuntu_archive.keyring, home / "keyring.pgp")
    words = ["--keyring", home / "keyring.pgp", "--components", "main,universe"]
    words += ["--variant", "essential", "--include", "passwd"]  # whose script makes /etc/shadow
    script = "id -u; stat -c %g /etc/shadow; touch /root/x && echo written; cat /proc/self/uid_map; exit 4"
    done = subprocess.run(
        [*prefix(str(home)), ctk.program, "up", "jammy", ctk.id(), *words, "--", "sh", "-c", script],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 4, done.stderr
    words = done.stdout.split()
    assert words[:3] == ["0", "42", "written"]
    assert words[3:] == ["0", str(ID), "1", "1", str(FIRST), "65536"]


def test_up_in_the_background_with_a_layer_of_its_own(ctk: Command, up: Callable[..., Any], tmp_path: Path) -> None:
    name, layer = ctk.id(), tmp_path / "layer"
    words = ("--detach", "--init", f"--overlay={layer}")
    try:
        up(name, *words, "--", "sh", "-c", "echo up; touch /mine; exec sleep 1000").ok()
        until(lambda: ctk("logs", name).out == "up\n", "the output")
        refused = up(name, *words, "--", "true")
        assert refused.rc == 1 and "--replace" in refused.err
        script = "ls /mine; cat /proc/1/comm; while [ ! -e /tmp/end ]; do sleep 0.1; done"
        up(name, *words, "--rm", "--replace", "--", "sh", "-c", script).ok()
        with ctk.popen("logs", "--follow", name, stdout=subprocess.PIPE) as following:
            assert following.stdout is not None and following.stdout.readline() == "/mine\n"
            ctk("exec", name, "touch", "/tmp/end").ok()
            assert following.stdout.read() == "ctk-init\n"
        assert following.returncode == 0
        until(lambda: ctk("state", name).rc, "its removal")
    finally:
        ctk("delete", "--force", name)
    assert (layer / "upper/mine").exists()
    assert not (tmp_path / "data/bundles" / name / "rootfs/mine").exists()
    assert up(name, "--ephemeral", "--tell", "--", "sh", "-c", "ls /mine").rc == 2
