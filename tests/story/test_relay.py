"""A terminal's relay never blocks: what is not read, not shown, not there any more holds up nothing else."""

import errno
import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import text_of, until
from toolkit.runtime import relay

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


@pytest.fixture
def name(ctk: Command) -> Iterator[str]:
    one = ctk.id()
    yield one
    ctk("delete", "--force", one)


def on_terminal(bundle: Bundle, *argv: str) -> Bundle:
    bundle.args(*argv).edit(lambda c: c["process"].update(terminal=True))
    return bundle.edit(lambda c: c["root"].update(readonly=False))


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_more_is_typed_than_the_program_reads(
    verb: str, ctk: Command, busybox_bundle: Bundle, name: str, terminal: Callable[..., Terminal]
) -> None:
    script = "stty raw -echo; echo ready; sleep 1; echo whole"
    if verb == "run":
        on_terminal(busybox_bundle, "sh", "-c", script)
        argv = ctk.argv("run", "--bundle", str(busybox_bundle), name)
    else:
        ctk("run", "-d", "--bundle", str(busybox_bundle.sh("sleep 1000")), name).ok()
        argv = ctk.argv("exec", "-t", name, "sh", "-c", script)
    screen = terminal(argv, env=ctk.environment)
    screen.read_until("ready")
    typing = threading.Thread(target=os.write, args=(screen.fd, b"x" * 30_000), daemon=True)
    typing.start()
    assert screen.wait(15) == 0
    assert "whole" in screen.shown
    typing.join(10)


@pytest.mark.parametrize("given", ["", "echo h$((1+1))\n", "echo h$((1+1))"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_end_of_an_input_that_is_no_terminal_reaches_the_program(
    verb: str, given: str, ctk: Command, busybox_bundle: Bundle, name: str
) -> None:
    """A job without a terminal (cron, CI) has one for its program: a shell ends with its input, as it does without."""
    if verb == "run":
        on_terminal(busybox_bundle, "sh")
        done = ctk("run", "--bundle", str(busybox_bundle), name, input=given, timeout=15, start_new_session=True)
    else:
        ctk("run", "-d", "--bundle", str(busybox_bundle.sh("sleep 1000")), name).ok()
        done = ctk("exec", "-t", name, "sh", input=given, timeout=15, start_new_session=True)
    assert done.rc == 0, done
    assert ("h2" in done.out) == bool(given)


def test_the_end_of_input_stays_and_is_no_input(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    """Each reader finds it, a program that reads nothing does not see it, and half a line comes before it."""
    on_terminal(busybox_bundle, "sh", "-c", "stty -echo; cat; cat; sleep 0.5; cat; stty raw; dd bs=9 count=1; echo end")
    done = ctk("run", "--bundle", str(busybox_bundle), name, input="half", timeout=15, start_new_session=True)
    assert done.rc == 0 and done.out.startswith("half") and "end" in done.out, done


def test_who_reads_our_output_and_stops_does_not_hide_the_end(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    """A signal still reaches the program, and once more it ends a relay that nobody reads any more."""
    on_terminal(busybox_bundle, "sh", "-c", "trap 'echo caught >/told; exit 3' TERM; yes & while :; do sleep 0.1; done")
    process = ctk.popen("run", "--bundle", str(busybox_bundle), name, stdout=subprocess.PIPE)
    time.sleep(1.5)  # the pipe is full by now, and the program waits in a write
    process.send_signal(signal.SIGTERM)
    told = busybox_bundle.rootfs / "told"
    assert until(lambda: text_of(told), "the trap") == "caught\n"

    def ended() -> bool:
        process.send_signal(signal.SIGTERM)
        return process.poll() is not None

    until(ended, "the end of the relay")
    assert process.returncode == 3
    assert process.stdout is not None
    process.stdout.close()


def test_who_reads_our_output_and_goes_takes_the_terminal_away(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    """Without a terminal `yes` would get SIGPIPE; with one it is hung up, and waits for nobody."""
    on_terminal(busybox_bundle, "sh", "-c", "yes; echo $? >/told")
    line = f"{ctk.program} run --bundle {busybox_bundle} {name} | head -n 1"
    done = subprocess.run(["sh", "-c", line], env=ctk.environment, capture_output=True, text=True, timeout=15)
    assert done.stdout.strip() == "y"
    assert (busybox_bundle.rootfs / "told").read_text() != "0\n"


def test_output_that_finds_no_room_is_told(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    on_terminal(busybox_bundle, "sh", "-c", "echo one; sleep 0.5; echo two; exit 3")
    with open("/dev/full", "w") as full:
        process = ctk.popen("run", "-b", str(busybox_bundle), name, stdout=full, stderr=subprocess.PIPE)
        told = process.communicate(timeout=15)[1]
    assert process.returncode == 3 and "no space left on device" in told


def test_a_terminal_that_vanishes_leaves_the_exit_code_and_the_removal(
    ctk: Command, busybox_bundle: Bundle, name: str
) -> None:
    on_terminal(busybox_bundle, "sh", "-c", "trap 'echo hup >/told' HUP; echo ready; sleep 2; exit 7")
    master, slave = pty.openpty()
    process = ctk.popen("run", "--bundle", str(busybox_bundle), name, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    while b"ready" not in shown:
        shown += os.read(master, 1000)
    os.close(master)
    assert process.wait(15) == 7
    assert ctk("state", name).rc == 1  # removed


def test_a_program_that_closes_its_terminal_and_opens_it_again_is_heard(
    ctk: Command, busybox_bundle: Bundle, name: str
) -> None:
    script = "exec </dev/null >/dev/null 2>&1; sleep 0.5; echo back >/dev/console; seq 20000 >/dev/console; exit 4"
    on_terminal(busybox_bundle, "sh", "-c", script)
    done = ctk("run", "--bundle", str(busybox_bundle), name, timeout=15)
    assert done.rc == 4 and done.out.startswith("back\n1\n2\n") and done.out.endswith("\n20000\n")


def test_who_goes_on_writing_after_the_end_is_not_waited_for(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    ctk("run", "-d", "--bundle", str(busybox_bundle.sh("sleep 1000")), name).ok()
    script = "trap '' HUP; (trap '' HUP; setsid yes >/dev/pts/0) & sleep 0.3; exit 5"
    process = ctk.popen("exec", "-t", name, "sh", "-c", script, stdout=subprocess.DEVNULL)
    assert process.wait(15) == 5


def test_in_the_background_of_a_shell_it_is_stopped_as_any_job(
    ctk: Command, busybox_bundle: Bundle, name: str, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    on_terminal(busybox_bundle, "sh", "-c", "read line; echo got $line; exit 6")
    shell = terminal(["bash", "--norc", "-i"], env={**ctk.environment, "PS1": "> "})
    shell.send(f"{ctk.program} run --bundle {busybox_bundle} {name} &\r")
    shell.read_until("Stopped|\\[1\\]")
    time.sleep(1)
    shell.send("jobs\r")
    shell.read_until(r"\[1\]\+\s+Stopped")
    shell.send("fg\r")
    time.sleep(0.5)
    shell.send("hello\r")
    shell.read_until("got hello")
    shell.read_until("> $")
    shell.send("echo code $?\r")
    shell.read_until("code 6")


def test_without_a_slave_of_ours_the_end_of_input_is_said_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel gives none: a terminal of another's, TIOCGPTPEER refused."""
    refused = OSError(errno.EPERM, "refused")

    def refuse(master: int) -> int:
        raise refused

    monkeypatch.setattr(relay.terminal, "open_peer", refuse)
    master, slave = pty.openpty()
    peer = relay.Peer(master)
    assert peer.waits and relay._EndOfInput(master, half_a_line=False).keys(peer) == b"\x04"
    os.close(slave)
    assert relay.read(master, peer) is None
    os.close(master)
