"""Callers and hosts that are not as they should be: descriptors, folders, names, little in /proc and /dev."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import Bundle, Command, tool

pytestmark = pytest.mark.root


def shell(ctk: Command, script: str, *words: str, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    """`script` in a shell of the caller's: $CTK is the command, $1 … are `words`."""
    argv = [*before, tool("bash"), "-c", script, "bash", *words]
    environment = {**ctk.environment, "CTK": ctk.program}
    return subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def in_own_mounts(ctk: Command, before: str, script: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """The same in a mount namespace of its own, after the shell commands `before`: nobody else sees their mounts."""
    inner = f"set -e\n{before}\nset +e\n{script}"
    return shell(ctk, inner, *words, before=(tool("unshare"), "--mount", "--propagation", "private"))


@pytest.mark.parametrize("redirection", ["</", "1</", "2</", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_both_doors_work_with_folders_and_nothing_for_standard_streams(ctk: Command, redirection: str) -> None:
    # CPython aborts on a folder before our first line; with a closed one, sys.stdout is None.
    for command in ("list", "recipe list"):
        done = shell(ctk, f'"$CTK" {command} {redirection}')
        assert done.returncode == 0 and done.stderr == "", done


def test_closed_descriptors_are_the_null_device_inside(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    # Else the program's first open(2) is its standard input, and what it prints goes into that file.
    (tmp_path / "out").mkdir()
    mount = {"destination": "/out", "type": "bind", "source": str(tmp_path / "out"), "options": ["bind"]}
    busybox_bundle.edit(lambda config: config["mounts"].append(mount))
    busybox_bundle.sh("for fd in 0 1 2; do stat -L -c %t:%T /proc/self/fd/$fd; done > /out/seen 2>&1")
    shell(ctk, '"$CTK" run -b "$1" "$2" <&- >&- 2>&-', str(busybox_bundle), ctk.id())
    # 1 and 2 are the file by the shell's own redirection.
    assert (tmp_path / "out/seen").read_text().splitlines()[0] == "1:3"
    busybox_bundle.sh("ls -l /proc/$$/fd | grep -o '[012] -> .*' > /out/seen")
    shell(ctk, '"$CTK" run -b "$1" "$2" <&- >&- 2>&-', str(busybox_bundle), ctk.id())
    assert (tmp_path / "out/seen").read_text() == "0 -> /dev/null\n1 -> /dev/null\n2 -> /dev/null\n"


def test_a_removed_working_directory(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    busybox_bundle.args("echo", "in")
    script = 'mkdir "$3" && cd "$3" && rmdir "$3" && exec "$CTK" run -b "$1" "$2"'
    done = shell(ctk, script, str(busybox_bundle), ctk.id(), str(tmp_path / "gone"))
    # Whoever starts before ctk does may not say a word: standard error is the container's.
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", ""), done


def test_a_proc_that_shows_processes_only(ctk: Command, busybox_bundle: Bundle) -> None:
    # systemd's ProcSubset=pid: no boot id, no capability numbers, no sysctls.
    busybox_bundle.sh("sleep 60").edit(
        lambda config: config["linux"].update(sysctl={"net.ipv4.ip_unprivileged_port_start": "77"})
    )
    script = """
        "$CTK" run -d -b "$1" "$2" > /dev/null 2>&1 || exit 11
        [ "$("$CTK" exec "$2" cat /proc/sys/net/ipv4/ip_unprivileged_port_start)" = 77 ] || exit 12
        "$CTK" state "$2" | grep -q '"status": "running"' || exit 13
        "$CTK" features | grep -q '"enabled": true' || exit 14
    """
    name = ctk.id()
    done = in_own_mounts(ctk, "mount -t proc -o subset=pid proc /proc", script, str(busybox_bundle), name)
    assert done.returncode == 0, done
    # What was recorded there is known outside, and the other way round.
    assert ctk("state", name).json()["status"] == "running"
    done = in_own_mounts(ctk, "mount -t proc -o subset=pid proc /proc", '"$CTK" delete -f "$1"', name)
    assert done.returncode == 0, done


def test_a_host_without_a_null_device(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("cat /proc/keys; echo masked")
    done = in_own_mounts(ctk, "mount -t tmpfs tmpfs /dev", '"$CTK" run -b "$1" "$2"', str(busybox_bundle), ctk.id())
    assert (done.returncode, done.stdout) == (0, "masked\n"), done


def test_a_false_null_device_hides_nothing(ctk: Command, busybox_bundle: Bundle) -> None:
    before = "mount -t tmpfs tmpfs /dev; echo ATTACKER > /dev/null"
    busybox_bundle.sh("cat /proc/keys")
    done = in_own_mounts(ctk, before, '"$CTK" run -b "$1" "$2"', str(busybox_bundle), ctk.id())
    assert done.returncode == 1 and "is not the null device" in done.stderr and "ATTACKER" not in done.stdout, done


def test_a_bundle_whose_path_is_not_utf_8(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    # runc fails in the container's init; a record that loses the bytes would hand poststop another bundle.
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9")
    os.rename(busybox_bundle.path, odd)
    bundle = Bundle(Path(odd))
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat > {tmp_path}/told\n")
    hook.chmod(0o755)
    bundle.sh("sleep 60").edit(lambda config: config.update(hooks={"poststop": [{"path": str(hook)}]}))
    name = ctk.id()
    ctk("run", "-d", "-b", odd, name).ok()
    assert ctk("state", name).json()["bundle"] == odd
    assert ctk("exec", name, "echo", "hi").ok().out == "hi\n"
    assert name in ctk("list").ok().out
    ctk("delete", "-f", name).ok()
    assert json.loads((tmp_path / "told").read_text())["bundle"] == odd


@pytest.mark.parametrize(
    "command", ["list", "features", "--version", "list --help", "doctor", "recipe list", "up --help"]
)
def test_output_to_a_full_disk_is_one_error(ctk: Command, command: str) -> None:
    done = shell(ctk, f'"$CTK" {command} > /dev/full')
    assert done.returncode == 1, done
    assert "no space left on device" in done.stderr and "Traceback" not in done.stderr and len(done.stderr) < 400, done


def test_an_error_is_short_whatever_it_quotes(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    # execve(2) takes no argument of 128 KiB; an engine's log is no place for it, nor for the secret that it may be.
    long = "x" * 131072
    log = tmp_path / "log"

    def told(done: "subprocess.CompletedProcess[str]", reason: str) -> None:
        text = log.read_text() + done.stderr
        assert done.returncode != 0 and reason in text and len(text) < 4096, (len(text), text[:300])
        log.unlink()

    script = '"$CTK" --log "$1" run -b "$2" "$3"'
    busybox_bundle.args("echo", long)
    told(shell(ctk, script, str(log), str(busybox_bundle), ctk.id()), "argument list too long")
    busybox_bundle.args("echo").edit(lambda config: config.update(ociVersion=long))
    told(shell(ctk, script, str(log), str(busybox_bundle), ctk.id()), "ociVersion")
    told(shell(ctk, '"$CTK" --log "$1" state "--$2"', str(log), long[:100000]), "flag")


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_caller_that_ignores_the_end_of_children(ctk: Command, busybox_bundle: Bundle, verb: str) -> None:
    """Ignored, SIGCHLD is inherited over execve(2), and the kernel then leaves no child to wait for. runc is right."""
    name, script = ctk.id(), "sleep 0.2; exit 3"
    if verb == "exec":
        ctk("run", "--detach", "--bundle", str(busybox_bundle.sh("sleep 1000").path), name).ok()
        words = ["exec", name, "sh", "-c", script]
    else:
        words = ["run", "--bundle", str(busybox_bundle.sh(script).path), name]
    done = subprocess.run(
        [ctk.program, *words],
        env=ctk.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )
    if verb == "exec":
        ctk("delete", "--force", name).ok()
    assert (done.returncode, done.stderr) == (3, "")
