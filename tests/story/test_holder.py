"""A holder and those who talk to it: who stops, leaves or gives up costs the container nothing."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import text_of, until
from toolkit.runtime.comfort import ending

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


@pytest.fixture
def name(ctk: Command) -> Iterator[str]:
    one = ctk.id("held")
    yield one
    ctk("delete", "--force", one)


def test_clients_that_stand_still_or_leave_do_not_hold_up_the_output(
    ctk: Command, busybox_bundle: Bundle, name: str
) -> None:
    """Three stopped ones, one that is killed amid the output, and one that reads: it gets all, and at once."""
    script = "read go; yes 0123456789abcdef | head -n 200000; echo last; read go; exit 4"
    ctk("run", "-d", "--hold", "-i", name, cwd=str(busybox_bundle.sh(script))).ok()
    stopped = [ctk.popen("attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    reader = ctk.popen("attach", name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    everybody = [*stopped, reader]
    holder = int(Path(f"/proc/{ctk('state', name).json()['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    until(lambda: len(os.listdir(f"/proc/{holder}/fd")) >= 12, "five who are attached")
    time.sleep(0.3)
    try:
        for one in stopped:
            one.send_signal(signal.SIGSTOP)
        assert reader.stdin is not None and reader.stdout is not None
        began = time.monotonic()
        reader.stdin.write("go\n")
        reader.stdin.flush()
        stopped.pop().kill()
        shown = 0
        for line in reader.stdout:
            shown += 1
            if line == "last\n":
                break
        assert shown == 200_001, "who is slow, but reads, is waited for"
        assert time.monotonic() - began < 4  # it was 5 s for each of them
        reader.stdin.write("go\n")
        reader.stdin.flush()
        assert reader.wait(10) == 4
    finally:
        for one in everybody:
            one.kill()
            one.communicate()
    assert json.loads((Path(ctk.root) / name / "ended.json").read_text())["code"] == 4


@pytest.mark.parametrize(
    ("hold", "kind", "number"),
    [
        (True, "createRuntime", signal.SIGINT),
        (True, "poststart", signal.SIGTERM),
        (False, "createRuntime", signal.SIGINT),
        (False, "poststart", signal.SIGINT),
    ],
)
def test_a_run_d_that_is_given_up_leaves_nothing(
    hold: bool, kind: str, number: signal.Signals, ctk: Command, busybox_bundle: Bundle, name: str, tmp_path: Path
) -> None:
    """Ctrl-C during a slow hook: either 0 and it runs, or 130 and nothing is left."""
    begun = tmp_path / "begun"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"touch {begun}; exec sleep 1.5"]}
    busybox_bundle.args("/bin/sleep", "1000").edit(lambda c: c.update(hooks={kind: [hook]}))
    words = ("run", "-d", "--hold") if hold else ("run", "-d")
    process = ctk.popen(*words, name, cwd=str(busybox_bundle), stderr=subprocess.DEVNULL)
    until(begun.exists, "the hook")
    process.send_signal(number)
    assert process.wait(15) == 128 + number
    assert ctk("state", name).rc == 1


def test_a_held_terminal_is_heard_after_its_program_closed_it(
    ctk: Command, busybox_bundle: Bundle, name: str, terminal: Callable[..., Terminal]
) -> None:
    script = "exec </dev/null >/dev/null 2>&1; sleep 0.3; echo back >/dev/console; exec sleep 1000"
    busybox_bundle.args("sh", "-c", script).edit(lambda c: c["process"].update(terminal=True))
    assert terminal(ctk.argv("run", "-d", name), env=ctk.environment, cwd=str(busybox_bundle)).wait() == 0
    until(lambda: "back" in ctk("logs", name).out, "the output")


def test_an_old_kill_for_memory_is_not_blamed_for_a_later_one(ctk: Command, busybox_bundle: Bundle, name: str) -> None:
    script = "sh -c 'x=$(dd if=/dev/zero bs=1M count=60 2>/dev/null | tr \"\\0\" x); echo $x' | wc -c; echo on; "
    script += "exec sleep 1000"
    busybox_bundle.sh(script).edit(lambda c: c["linux"]["resources"].update(memory={"limit": 20 << 20}))
    ctk("run", "-d", "--hold", name, cwd=str(busybox_bundle)).ok()
    until(lambda: "on" in ctk("logs", name).out, "the kill of a child")
    time.sleep(3.5)
    ctk("kill", name, "KILL").ok()
    ended = Path(ctk.root) / name / "ended.json"
    found = json.loads(until(lambda: text_of(ended), "its end"))
    assert found["oom"]["kills"] >= 1, "no kill to mistake"
    assert ending.sentence(found).startswith("killed by SIGKILL, not by the kernel"), found


def test_a_run_d_without_room_for_its_log_or_socket_leaves_nothing(
    ctk: Command, busybox_bundle: Bundle, name: str, tmp_path: Path
) -> None:
    """With room for one file more each time: it fails and has left nothing, until it comes up."""
    state = tmp_path / "small"
    state.mkdir()
    bundle = str(busybox_bundle.args("sleep", "600"))
    failures = 0
    for inodes in range(2, 12):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"nr_inodes={inodes},mode=700", "ctk", state], check=True)
        try:
            done = ctk("--root", str(state), "run", "-d", "--hold", "-b", bundle, name)
            left = os.listdir(state)
            ctk("--root", str(state), "delete", "--force", name)
        finally:
            subprocess.run(["umount", "--lazy", state], check=True)
        if done.rc == 0:
            break
        assert "no space left on device" in done.err and left == []
        failures += 1
    assert done.rc == 0 and failures > 2
