"""A detached container and its holder: logs, attach, stop, restart, rm; --rm, --replace, --ephemeral, --overlay."""

import fcntl
import json
import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command, tool
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import children_of, until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


def gone(ctk: Command, name: str) -> bool:
    return ctk("state", name).rc != 0


def stopped(ctk: Command, name: str) -> bool:
    return str(ctk("state", name).json()["status"]) == "stopped"


@pytest.fixture
def name(ctk: Command) -> Any:
    one = ctk.id("held")
    yield one
    ctk("delete", "--force", one)


def test_logs_keep_both_streams_and_why_it_ended(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    busybox_bundle.sh("echo one; echo wrong >&2; echo two; printf three; exit 5")
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    shown = ctk("logs", "--follow", name).ok()
    assert (shown.out, shown.err) == ("one\ntwo\nthree", "wrong\n")
    assert ctk("logs", "--tail", "2", name).out == "two\nthree"
    assert ctk("logs", "--since", "2100-01-01", name).out == ""
    stamped = ctk("logs", "-t", "--since", "1h", name).out.splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["one", "two", "three"]
    ended = json.loads((Path(ctk.root) / name / "ended.json").read_text())
    assert (ended["code"], ended["signal"]) == (5, 0)
    assert ctk("rm", name).ok().out == f"{name}\n"
    assert gone(ctk, name)


def test_an_engine_s_run_d_has_no_holder(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    """Without a terminal and our options the container has its maker's streams, as with runc."""
    out = busybox_bundle.path / "out"
    busybox_bundle.sh("echo straight")
    with open(out, "w") as file:
        process = ctk.popen("run", "-d", name, cwd=str(busybox_bundle), stdout=file, stderr=file)
        assert process.wait(20) == 0
    until(lambda: out.read_text() == "straight\n", "the output")
    told = ctk("logs", name)
    assert told.rc == 1 and "its output is not logged" in told.err
    assert "attach" in ctk("attach", name).err


def test_a_terminal_without_a_socket_is_still_refused(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.edit(lambda c: c["process"].update(terminal=True))
    told = ctk("run", "-d", ctk.id(), cwd=str(busybox_bundle))
    assert told.rc == 1 and "cannot allocate tty if runc will detach without setting console socket" in told.err


def test_attach_gives_input_and_the_exit_code(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    busybox_bundle.sh("while read line; do echo got $line; done; echo end; exit 9")
    ctk("run", "-d", "--hold", "-i", name, cwd=str(busybox_bundle)).ok()
    told = ctk("attach", name, input="a\nb\n")
    assert (told.rc, told.out) == (9, "got a\ngot b\nend\n"), told.err
    assert ctk("logs", name).out == "got a\ngot b\nend\n"


def test_a_terminal_is_held_attached_to_and_left(
    ctk: Command, busybox_bundle: Bundle, name: str, terminal: Callable[..., Terminal]
) -> None:
    """On a person's terminal plain `run -d` works with process.terminal; the detach keys leave it running."""
    busybox_bundle.args("/bin/sh").edit(lambda c: c["process"].update(terminal=True))
    run = terminal(ctk.argv("run", "-d", name), env=ctk.environment, cwd=str(busybox_bundle))
    assert run.wait() == 0, run.shown
    first = terminal(ctk.argv("attach", name), env=ctk.environment, rows=30, columns=100)
    first.send("stty size; x=kept\r")
    first.read_until("30 100")
    first.send("\x10\x11")  # Ctrl-P Ctrl-Q
    first.read_until("detached")
    assert first.wait() == 0
    second = terminal(ctk.argv("attach", "--detach-keys", "ctrl-a,d", name), env=ctk.environment)
    second.send("echo still $x\r")
    second.read_until("still kept")
    second.send("exit 6\r")
    assert second.wait() == 6, second.shown
    until(lambda: stopped(ctk, name), "its end")
    assert "still kept" in ctk("logs", name).out


def test_stop_asks_first_and_tells_when_that_is_no_use(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    busybox_bundle.sh("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    until(lambda: "ready" in ctk("logs", name).out, "the trap")
    told = ctk("stop", "--time", "3000000", name).ok()  # a month: more than poll(2) counts
    assert (told.out, told.err) == (f"{name}\n", "")
    assert ctk("logs", "-f", name).out == "ready\nbye\n"
    assert ctk("stop", name).ok().err == ""  # once more is no error
    ctk("rm", name).ok()
    busybox_bundle.args("/bin/sleep", "1000")
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    began = time.monotonic()
    told = ctk("stop", "--time", "30", name).ok()
    assert "no handler for SIGTERM" in told.err and time.monotonic() - began < 20


def test_stop_kills_after_the_grace_and_uses_the_image_s_signal(
    ctk: Command, busybox_bundle: Bundle, name: str
) -> None:
    signal = {"org.opencontainers.image.stopSignal": "USR1"}
    busybox_bundle.sh("trap 'echo asked' USR1; echo ready; while :; do sleep 0.05; done")
    busybox_bundle.edit(lambda c: c.setdefault("annotations", {}).update(signal))
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    until(lambda: "ready" in ctk("logs", name).out, "the trap")
    told = ctk("stop", "--time", "0.5", name).ok()
    assert "still running 0.5 s after SIGUSR1: killed" in told.err
    assert "asked" in ctk("logs", "-f", name).out
    assert json.loads((Path(ctk.root) / name / "ended.json").read_text())["signal"] == 9


def test_restart_takes_the_bundle_as_it_is_now_and_goes_on_with_the_log(
    ctk: Command, busybox_bundle: Bundle, name: str
) -> None:
    busybox_bundle.sh("echo first; exec sleep 1000")
    ctk("run", "-d", "--hold", "--init", name, cwd=str(busybox_bundle)).ok()
    until(lambda: "first" in ctk("logs", name).out, "the first")
    busybox_bundle.sh("echo second; cat /proc/1/comm; exec sleep 1000")
    assert ctk("restart", name).ok().out == f"{name}\n"
    until(lambda: ctk("logs", name).out == "first\nsecond\nctk-init\n", "the log")
    assert not [entry for entry in os.listdir(ctk.root) if entry.startswith(".")]


def test_rm_of_a_running_one_takes_force(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    busybox_bundle.args("/bin/sleep", "1000")
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    assert ctk("rm", name).rc == 1
    ctk("rm", "-f", name, "nobody-of-this-name").ok()
    assert gone(ctk, name)


def test_rm_option_removes_when_it_ends_detached_too(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    busybox_bundle.sh("while [ ! -e /go ]; do sleep 0.05; done")
    go = busybox_bundle.rootfs / "go"
    for options in (("--hold",), ()):
        ctk("run", "-d", "--rm", *options, name, cwd=str(busybox_bundle)).ok()
        assert not gone(ctk, name)
        go.touch()
        until(lambda: gone(ctk, name), "its removal")
        go.unlink()


def test_replace(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    busybox_bundle.args("/bin/sleep", "1000")
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    refused = ctk("run", name, cwd=str(busybox_bundle))
    assert refused.rc == 1 and "already exists" in refused.err
    busybox_bundle.sh("echo new")
    assert ctk("run", "--replace", name, cwd=str(busybox_bundle)).ok().out == "new\n"
    assert ctk("run", "--replace", name, cwd=str(busybox_bundle)).ok().out == "new\n"  # nothing there is fine


def test_a_launch_that_fails_says_so_and_leaves_nothing(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    busybox_bundle.args("/no/such/program")
    told = ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle))
    assert told.rc == 1 and "/no/such/program" in told.err
    assert gone(ctk, name)


def test_an_ephemeral_root_forgets_and_an_overlay_keeps(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    script = "cat /note 2>/dev/null; echo again >> /note; rm -r /home; mkdir /home; touch /home/x; ls /home"
    busybox_bundle.sh(script).edit(lambda c: c["root"].update(readonly=False))
    before = sorted(os.listdir(busybox_bundle.rootfs))
    for _ in range(2):
        assert ctk("run", "--ephemeral", ctk.id(), cwd=str(busybox_bundle)).ok().out == "x\n"
    layer = tmp_path / "a, layer:x"  # no character of it is an option
    assert ctk("run", "--overlay", str(layer), ctk.id(), cwd=str(busybox_bundle)).ok().out == "x\n"
    assert ctk("run", f"--overlay={layer}", ctk.id(), cwd=str(busybox_bundle)).ok().out == "again\nx\n"
    assert (layer / "upper/note").read_text() == "again\nagain\n"
    assert sorted(os.listdir(busybox_bundle.rootfs)) == before
    assert not (busybox_bundle.rootfs / "note").exists()


def test_a_root_of_layers(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    """As the layers of an image lie: the upper one hides and takes away, and none of them is written to."""
    lower, upper = tmp_path / "lower", tmp_path / "up,per"
    for layer in (lower, upper):
        (layer / "d").mkdir(parents=True)
    (lower / "d/gone").write_text("lower\n")
    (lower / "d/kept").write_text("lower\n")
    (lower / "d/both").write_text("lower\n")
    (upper / "d/both").write_text("upper\n")
    os.mknod(upper / "d/gone", stat.S_IFCHR)  # overlayfs' whiteout
    rootfs = str(busybox_bundle.rootfs)
    empty = tmp_path / "empty"
    empty.mkdir()
    busybox_bundle.sh("cd /d; cat *; echo new > new; cat new")
    busybox_bundle.edit(lambda c: c["root"].update(path=str(empty), readonly=False))
    layers = ("--lower", str(upper), "--lower", str(lower), "--lower", rootfs)
    cwd = str(busybox_bundle.path)
    for _ in range(2):
        assert ctk("run", "--ephemeral", *layers, ctk.id(), cwd=cwd).ok().out == "upper\nlower\nnew\n"
    ctk("run", "--overlay", str(tmp_path / "kept"), *layers, ctk.id(), cwd=cwd).ok()
    assert (tmp_path / "kept/upper/d/new").read_text() == "new\n"
    assert [sorted(os.listdir(layer / "d")) for layer in (lower, upper)] == [["both", "gone", "kept"], ["both", "gone"]]
    assert not os.listdir(empty)
    told = ctk("run", *layers, ctk.id(), cwd=cwd)
    assert told.rc == 1 and "--ephemeral" in told.err
    told = ctk("run", "--ephemeral", "--lower", f"{tmp_path}/none", ctk.id(), cwd=cwd)
    assert told.rc == 1 and "no such folder" in told.err
    told = ctk("run", "--explain", "--ephemeral", *layers, "nobody", cwd=cwd).ok()
    assert f"lowerdir={upper}:{lower}:{rootfs}" in told.out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("other_root", [False, True])
def test_an_overlay_is_one_containers_at_a_time(
    ctk: Command, busybox_bundle: Bundle, tmp_path: Path, other_root: bool
) -> None:
    """Two overlayfs with one upper layer are undefined behaviour, which the kernel does not refuse."""
    busybox_bundle.sh("sleep 1000").edit(lambda c: c["root"].update(readonly=False))
    layer, first, second = str(tmp_path / "layer"), ctk.id(), ctk.id()
    (tmp_path / "near").symlink_to(tmp_path)
    ctk("run", "--detach", "--overlay", layer, first, cwd=str(busybox_bundle)).ok()
    root = ["--root", str(tmp_path / "records")] if other_root else []
    refused = ctk(*root, "run", "--overlay", f"{tmp_path}/near/layer/", second, cwd=str(busybox_bundle))
    assert refused.rc == 1 and f"container {first!r} is using it" in refused.err
    assert ctk(*root, "state", second).rc == 1
    ctk("run", "--overlay", f"{layer}2", second, cwd=str(busybox_bundle.sh("true"))).ok()
    ctk("kill", first, "KILL").ok()
    for last in (ctk.id(), ctk.id()):  # the first has ended, then it is deleted
        until(lambda: gone(ctk, first) or ctk("state", first).json()["status"] == "stopped", "the end")
        ctk(*root, "run", "--overlay", layer, last, cwd=str(busybox_bundle)).ok()
        ctk("delete", "--force", first)


def test_what_is_on_its_way_out_of_an_overlay_is_waited_for(
    ctk: Command, busybox_bundle: Bundle, tmp_path: Path
) -> None:
    """The holder of a container that was replaced has the lock for a moment longer than the container lives."""
    busybox_bundle.sh("true").edit(lambda c: c["root"].update(readonly=False))
    layer = tmp_path / "layer"
    ctk("run", "--overlay", str(layer), ctk.id(), cwd=str(busybox_bundle)).ok()
    leaving = os.open(layer, os.O_RDONLY)
    fcntl.flock(leaving, fcntl.LOCK_EX)
    threading.Timer(1.0, os.close, (leaving,)).start()
    ctk("run", "--overlay", str(layer), ctk.id(), cwd=str(busybox_bundle)).ok()


def test_of_two_at_once_one_gets_the_overlay(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    busybox_bundle.sh("echo x >> /note; sleep 1").edit(lambda c: c["root"].update(readonly=False))
    words = ("run", "--overlay", str(tmp_path / "layer"))
    started = [ctk.popen(*words, ctk.id(), cwd=str(busybox_bundle), stderr=subprocess.PIPE) for _ in range(4)]
    ended = sorted((process.communicate(timeout=60)[1], process.returncode) for process in started)
    assert [code for _, code in ended].count(0) == 1, ended
    assert all("is using it" in text for text, code in ended if code)
    assert (tmp_path / "layer/upper/note").read_text() == "x\n"


def test_ephemeral_needs_a_mount_namespace(ctk: Command, busybox_bundle: Bundle) -> None:
    def drop(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "mount"]
        config["linux"].update(maskedPaths=[], readonlyPaths=[])

    told = ctk("run", "--ephemeral", ctk.id(), cwd=str(busybox_bundle.edit(drop)))
    assert told.rc == 1 and "no mount namespace" in told.err


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("kill -9 $$", "killed by SIGKILL"),
        ("nosuchprogram", "127"),
        ("exit 4", "exit code 4"),
    ],
)
def test_the_reason_of_the_end(ctk: Command, busybox_bundle: Bundle, script: str, told: str) -> None:
    # The init's child: a first process is immune to its own SIGKILL.
    busybox_bundle.sh(script)
    if "kill" in script:
        busybox_bundle.edit(
            lambda c: c["linux"].update(namespaces=[n for n in c["linux"]["namespaces"] if n["type"] != "pid"])
        )
        busybox_bundle.edit(lambda c: c.update(mounts=[m for m in c["mounts"] if m["destination"] != "/proc"]))
    assert told in ctk("run", "--tell", ctk.id(), cwd=str(busybox_bundle)).err
    assert told not in ctk("run", ctk.id(), cwd=str(busybox_bundle)).err  # a program reads this


@pytest.mark.parametrize(
    ("text", "told"),
    [("#!/bin/nosuch\n", "interpreter '/bin/nosuch' does not exist"), ("#!/bin/sh\r\n", "carriage return")],
)
def test_a_program_that_is_there_but_can_not_be_executed(
    ctk: Command, busybox_bundle: Bundle, text: str, told: str
) -> None:
    (busybox_bundle.rootfs / "bin/script").write_text(text)
    (busybox_bundle.rootfs / "bin/script").chmod(0o755)
    busybox_bundle.args("script")
    done = ctk("run", "--tell", ctk.id(), cwd=str(busybox_bundle))
    assert done.rc == 127 and told in done.err, done.err


def test_a_program_whose_file_asks_for_more_rights_than_the_container_may_have(
    ctk: Command, busybox_bundle: Bundle
) -> None:
    ping = busybox_bundle.rootfs / "bin/ping2"
    ping.write_bytes((busybox_bundle.rootfs / "bin/busybox").read_bytes())
    ping.chmod(0o755)
    subprocess.run([tool("setcap"), "cap_net_raw,cap_kill+ep", ping], check=True)
    busybox_bundle.args("ping2")
    done = ctk("run", "--tell", ctk.id(), cwd=str(busybox_bundle))
    assert done.rc == 126 and "exec /bin/ping2: operation not permitted\n" in done.err
    assert "its file requires CAP_NET_RAW, which" in done.err  # and may have CAP_KILL: the default has it
    found = ctk("check", cwd=str(busybox_bundle))
    assert found.rc == 1 and "error E208 process.args[0]: '/bin/ping2' asks for CAP_NET_RAW, outside" in found.out
    ctk("spec", "--update", "--cap-add", "NET_RAW", cwd=str(busybox_bundle)).ok()
    assert ctk("run", ctk.id(), cwd=str(busybox_bundle)).rc != 126  # busybox has no applet of that name
    assert ctk("check", cwd=str(busybox_bundle)).rc == 0


def test_the_terminal_has_its_size_from_the_start(
    ctk: Command, busybox_bundle: Bundle, terminal: Callable[..., Terminal]
) -> None:
    busybox_bundle.args("/bin/stty", "size").edit(lambda c: c["process"].update(terminal=True))
    run = terminal(ctk.argv("run", ctk.id()), env=ctk.environment, cwd=str(busybox_bundle), rows=31, columns=101)
    run.read_until("31 101")
    assert run.wait() == 0


def test_a_person_is_told_what_comes_next(
    ctk: Command, busybox_bundle: Bundle, name: str, terminal: Callable[..., Terminal]
) -> None:
    one = terminal(ctk.argv("list"), env=ctk.environment)
    one.read_until("there are no containers below")
    assert one.wait() == 0
    busybox_bundle.args("/bin/true")
    two = terminal(ctk.argv("create", name), env=ctk.environment, cwd=str(busybox_bundle))
    two.read_until(f"waits: ctk start {name}")
    assert two.wait() == 0
    three = terminal(ctk.argv("run", name), env=ctk.environment, cwd=str(busybox_bundle))
    three.read_until("--replace")
    assert three.wait() == 1
    assert ctk("list", "-q").err == ""


def test_a_person_is_told_what_to_do_with_what_runs_has_ended_or_waits(
    ctk: Command, busybox_bundle: Bundle, name: str, terminal: Callable[..., Terminal]
) -> None:
    busybox_bundle.args("/bin/sleep", "1000")
    run = terminal(ctk.argv("run", "-d", name), env=ctk.environment, cwd=str(busybox_bundle), columns=200)
    run.read_until(f"'{name}' runs in the background: ctk logs {name}, ctk attach {name}, ctk stop {name}")
    assert run.wait() == 0
    ctk("pause", name).ok()
    paused = terminal(ctk.argv("exec", name, "true"), env=ctk.environment, columns=200)
    paused.read_until(f"hint: ctk resume {name} lets it go on")
    assert paused.wait() == 255
    ctk("resume", name).ok()
    ctk("stop", "--time=0", name).ok()
    for verb, *words in (("exec", "true"), ("start",)):
        ended = terminal(ctk.argv(verb, name, *words), env=ctk.environment, columns=200)
        ended.read_until(f"ctk restart {name} runs it again")
        assert ended.wait() != 0
    up = terminal(ctk.argv("up", "bookworm", name), env=ctk.environment, columns=200)
    up.read_until(f"ctk restart {name}, or ctk rm {name}, or once more")
    assert up.wait() == 1
    cpus = terminal(ctk.argv("update", "--cpus=0.5", name), env=ctk.environment, columns=200)
    cpus.read_until("--cpu-period 100000 --cpu-quota 50000")


def test_a_name_whose_bundle_is_kept_is_told_how_it_runs_again(
    ctk: Command, busybox_bundle: Bundle, name: str, tmp_path: Path, terminal: Callable[..., Terminal]
) -> None:
    ctk.environment["CTK_DATA"] = str(tmp_path)
    kept = tmp_path / "bundles" / name
    kept.mkdir(parents=True)
    (kept / "config.json").write_bytes((Path(str(busybox_bundle)) / "config.json").read_bytes())
    for words in (["start"], ["logs"], ["run"], ["rm"]):
        told = terminal(ctk.argv(*words, name), env=ctk.environment, cwd=str(tmp_path), columns=200)
        told.read_until(f"its files are kept: ctk run --bundle {kept} {name} ")
        assert told.wait() == 1
    other = terminal(ctk.argv("start", f"{name}x"), env=ctk.environment, columns=200)
    other.read_until("hint: see `ctk list`")


def test_a_wrong_command_line_is_told_in_two_lines_to_a_person_and_as_runc_does_to_an_engine(
    ctk: Command, terminal: Callable[..., Terminal]
) -> None:
    typed = terminal(ctk.argv("exec", "-it", "c", "sh"), env=ctk.environment, columns=200)
    assert typed.wait() == 1
    told = typed.shown.splitlines()
    assert told[0] == "ctk: flag provided but not defined: -it"
    assert len(told) == 2 and told[1].startswith("hint: standard input is always passed on; -t alone")
    piped = ctk("run", "-it", "ubuntu", "bash")  # no engine says -it: a person's script does
    assert (piped.out, len(piped.err.splitlines())) == ("", 2)
    assert "up IMAGE NAME" in piped.err
    driven = ctk("exec", "-xt", "c", "sh")
    assert driven.out.startswith("Incorrect Usage: flag provided but not defined: -xt\n\nNAME:")
    assert 'level=error msg="flag provided but not defined: -xt"' in driven.err


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["/bin/ls -a"], 'did you mean ["/bin/ls", "-a"]?'),
        (["ls -a"], 'did you mean ["ls", "-a"]?'),
        (["nosuch"], "PATH in process.env is '/usr/local/sbin:"),
    ],
)
def test_what_a_person_reads_of_a_command_that_is_not_there(
    ctk: Command, busybox_bundle: Bundle, args: list[str], hint: str, terminal: Callable[..., Terminal]
) -> None:
    busybox_bundle.args(*args)
    run = terminal(ctk.argv("run", ctk.id()), env=ctk.environment, cwd=str(busybox_bundle), columns=300)
    assert run.wait() == 1
    assert hint in run.shown and "hint: " in run.shown, run.shown


def test_a_root_without_programs(ctk: Command, busybox_bundle: Bundle, terminal: Callable[..., Terminal]) -> None:
    busybox_bundle.args("sh")
    (busybox_bundle.path / "empty").mkdir()
    busybox_bundle.edit(lambda c: c["root"].update(path="empty", readonly=False))
    run = terminal(ctk.argv("run", ctk.id()), env=ctk.environment, cwd=str(busybox_bundle), columns=300)
    assert run.wait() == 1 and "all of these folders are empty or missing" in run.shown, run.shown


@pytest.mark.parametrize(("source", "target"), [("/etc/hostname", "/etc"), ("/etc", "/bin/busybox")])
def test_a_file_on_a_folder(
    ctk: Command, busybox_bundle: Bundle, source: str, target: str, terminal: Callable[..., Terminal]
) -> None:
    entry = {"destination": target, "source": source, "options": ["bind"]}
    busybox_bundle.edit(lambda c: c["mounts"].append(entry))
    run = terminal(ctk.argv("run", ctk.id()), env=ctk.environment, cwd=str(busybox_bundle), columns=300)
    assert run.wait() == 1 and "both must be of the same kind" in run.shown, run.shown


def test_without_root(ctk: Command, busybox_rootfs: Path, tmp_path: Path) -> None:
    """Everything of it as an ordinary user, with subordinate ids: overlay, init, log, copies, stop."""
    import shutil
    import subprocess

    from tests.fixtures.user import ID, prefix

    home = tmp_path / "home"
    shutil.copytree(busybox_rootfs, home / "rootfs", symlinks=True)
    subprocess.run(["chown", "-hR", f"{ID}:{ID}", home], check=True)
    script = "rm -r /home && mkdir /home && cat /proc/1/comm; trap 'echo bye; exit 0' TERM; echo ready; "
    script += "while :; do sleep 0.05; done"
    one = ctk.id()
    lines = f"""set -e
ctk={ctk.program}
$ctk spec --rootless --userns --rootfs rootfs --writable --no-tty -- sh -c "$SCRIPT" 2>/dev/null
$ctk run -d --hold --ephemeral --init {one}
for i in $(seq 100); do $ctk logs {one} | grep -q ready && break; sleep 0.1; done
$ctk exec {one} sh -c 'echo mine > /root/x; chown 5:5 /root/x; chmod 600 /root/x'
$ctk cp {one}:/root/x got; cat got
$ctk cp got {one}:/root/y; $ctk exec {one} stat -c %u:%g /root/y
$ctk stop {one}
$ctk logs -f {one}
$ctk rm {one}
ls rootfs/home
"""
    environment = {**ctk.environment, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "SCRIPT": script}
    environment["CTK_ROOT"] = str(home / "state")
    done = subprocess.run(
        [*prefix(str(home)), "sh", "-c", lines], cwd=home, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["mine", "0:0", one, "ctk-init", "ready", "bye", one], done.stdout


def test_the_memory_limit_is_named(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("x=$(dd if=/dev/zero bs=1M count=60 2>/dev/null | tr '\\0' x); echo $x | wc -c")
    busybox_bundle.edit(lambda c: c["linux"]["resources"].update(memory={"limit": 20 << 20}))
    told = ctk("run", "--tell", ctk.id(), cwd=str(busybox_bundle))
    assert told.rc == 137 and "memory limit of 20 MiB reached, peak" in told.err, told.err


def test_a_unit_starts_and_stops_it(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    """systemd itself is not here: its lines are carried out in its order; it checks the file where it is installed."""
    import shlex
    import shutil
    import subprocess

    busybox_bundle.args("/bin/sleep", "1000")
    options = ("--cgroup-manager=cgroupfs", "run", "-d", "--hold", "--init", "--ephemeral")
    ctk(*options, name, cwd=str(busybox_bundle)).ok()
    text = ctk("generate", "systemd", name, "--time", "5").ok().out
    lines = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("Exec"))
    assert "--ephemeral=true" in lines["ExecStart"] and "--hold" not in lines["ExecStart"]
    assert "--systemd-cgroup" not in lines["ExecStart"]  # another manager was asked for
    if shutil.which("systemd-analyze"):
        unit = busybox_bundle.path / f"ctk-{name}.service"
        unit.write_text(text)
        checked = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
        assert f"ctk-{name}" not in checked.stderr, checked.stderr
    first = ctk("state", name).json()["pid"]
    main = subprocess.Popen(shlex.split(lines["ExecStart"]), env=ctk.environment, stdin=subprocess.DEVNULL)

    def replaced() -> int:  # by the unit's, which first takes the one away that is there
        found = ctk("state", name)
        pid = found.json()["pid"] if found.rc == 0 and found.json()["status"] == "running" else first
        return 0 if pid == first else pid

    pid = until(replaced, "the start")
    until(lambda: children_of(pid), "the program")
    subprocess.run(shlex.split(lines["ExecStop"]), env=ctk.environment, check=True, stdout=subprocess.DEVNULL)
    assert main.wait(20) == 143
    assert gone(ctk, name)
    subprocess.run(shlex.split(lines["ExecStopPost"].lstrip("-")), env=ctk.environment, check=True)
