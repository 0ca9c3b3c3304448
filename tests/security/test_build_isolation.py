"""What a maintainer script can do to the host while a tree is built: nothing (security B7, B8, B10, B11)."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.waiting import until
from toolkit.bootstrap.sandbox.sandbox import Sandbox
from toolkit.errors import BuildFailed, HostLacks

pytestmark = pytest.mark.root

TOP = Path(__file__).parents[2]
x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the system calls' numbers are x86_64's")


class Tree:
    """A small root to run scripts in."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.log = folder / "build.log"
        self.lines: list[str] = []

    def sandbox(self, *, sync: bool = False) -> Sandbox:
        return Sandbox(str(self.root), str(self.log), self.lines.append, lambda _: None, sync=sync)

    def sh(self, script: str) -> list[str]:
        with self.sandbox() as sandbox:
            sandbox.run(["/bin/sh", "-c", script], doing="run the script")
            return sandbox.output()


@pytest.fixture
def tree(tmp_path: Path, busybox_rootfs: Path) -> Iterator[Tree]:
    root = tmp_path / "root"
    shutil.copytree(busybox_rootfs, root, symlinks=True)
    yield Tree(root, tmp_path)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_b7_the_host_is_out_of_sight(tree: Tree) -> None:
    said = dict(
        line.split("=", 1)
        for line in tree.sh(
            """
            echo pid=$$; echo processes=$(ls -d /proc/[0-9]* | wc -l)
            echo disks=$(ls /dev | grep -c -E '^(sd|vd|nvme|loop|mem|kmsg)')
            echo interfaces=$(ls /sys/class/net 2>/dev/null || awk -F: 'NR>2 {print $1}' /proc/net/dev)
            echo mounts=$(wc -l < /proc/mounts)
            (echo b > /proc/sysrq-trigger) 2>/dev/null && echo sysrq=written || echo sysrq=refused
            (echo 1 > /proc/sys/kernel/panic) 2>/dev/null && echo sys=written || echo sys=refused
            (echo 1 > /sys/kernel/profiling) 2>/dev/null && echo sysfs=written || echo sysfs=refused
            mknod /tmp/disk b 8 0 2>/dev/null && echo mknod=made || echo mknod=refused
            mount -t tmpfs tmpfs /mnt 2>/dev/null && echo mount=made || echo mount=refused
            cat /proc/1/exe > /dev/null 2>&1 && echo exe=open || echo exe=refused
            readlink /proc/1/fd/* > /dev/null 2>&1 && echo fds=open || echo fds=refused
            ping -c1 -W1 127.0.0.1 > /dev/null 2>&1 && echo loopback=up || echo loopback=down
            """
        )
    )
    assert int(said["pid"]) < 10 and int(said["processes"]) < 10
    assert said["disks"] == "0" and said["interfaces"].split() in (["lo"], [])
    assert int(said["mounts"]) < 30
    for what in ("sysrq", "sys", "sysfs", "mknod", "mount", "exe", "fds"):
        assert said[what] == "refused", said
    assert said["loopback"] == "up"


@pytest.mark.parametrize("kind", ["mnt", "pid", "ipc", "uts", "net", "cgroup"])
def test_b7_no_namespace_is_the_hosts(tree: Tree, kind: str) -> None:
    assert tree.sh(f"readlink /proc/self/ns/{kind}") != [os.readlink(f"/proc/self/ns/{kind}")]


def test_b7_a_chroot_escape_ends_in_the_tree(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "host-canary").write_text("")
    escape = (
        "mkdir -p /x; i=0; cd /x; while [ $i -lt 60 ]; do cd ..; i=$((i+1)); done; "
        f"chroot . /bin/sh -c '[ -e {tmp_path}/host-canary ] && echo OUT || echo IN'; "
        f"[ -e /proc/1/root{tmp_path}/host-canary ] && echo OUT || echo IN"
    )
    assert tree.sh(escape) == ["IN", "IN"]


def test_b7_killing_everybody_kills_the_script_only(tree: Tree) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        with tree.sandbox() as sandbox:
            with pytest.raises(BuildFailed):
                sandbox.run(["/bin/sh", "-c", "trap '' TERM; sleep 300 & kill -9 -1; kill -9 $$"], doing="kill all")
            assert sandbox.run(["/bin/sh", "-c", "exit 3"], doing="go on", accept=(3,)) == 3
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_b11_nothing_of_the_callers_environment_gets_in(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET", "http_proxy", "SSH_AUTH_SOCK", "LD_PRELOAD_X", "PYTHONPATH", "PERL5LIB", "TMPDIR"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    said = tree.sh("env")
    assert not [line for line in said if "leaked" in line]
    names = {line.partition("=")[0] for line in said}
    assert names - {"PWD", "SHLVL", "OLDPWD"} == {
        "PATH", "HOME", "SHELL", "TERM", "LANG", "LC_ALL", "DEBIAN_FRONTEND", "DEBCONF_NONINTERACTIVE_SEEN",
        "SOURCE_DATE_EPOCH", "SYSTEMD_OFFLINE",
    }  # fmt: skip


def test_no_descriptor_of_ours_gets_in(tree: Tree) -> None:
    kept = os.open("/", os.O_RDONLY)
    os.set_inheritable(kept, True)
    try:
        said = tree.sh("for fd in /proc/self/fd/*; do readlink $fd; done; true")
    finally:
        os.close(kept)
    assert all(line.startswith(("pipe:", "/dev/null", "/proc/")) for line in said if line), said


def test_daemons_end_with_the_build(tree: Tree) -> None:
    with tree.sandbox() as sandbox:
        sandbox.run(["/bin/sh", "-c", "setsid sleep 4321 & setsid sh -c 'sleep 4322 & sleep 4323' &"], doing="start")
        until(lambda: all(map(_running, ("4321", "4322", "4323"))), "the daemons")
        began = time.monotonic()
    assert not _running("4321") and not _running("4322") and not _running("4323")
    assert time.monotonic() - began < 5


def _running(word: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


@x86_64
def test_syncs_are_swallowed_unless_asked_for(tree: Tree, probe: Path) -> None:
    # fsync(2) on a pipe is EINVAL, unless a filter answers in the kernel's place.
    shutil.copy(probe, tree.root / "probe")
    assert tree.sh("/probe 74 1") == ["0"]
    with tree.sandbox(sync=True) as sandbox:
        sandbox.run(["/probe", "74", "1"], doing="sync")
        assert sandbox.output() == ["-22"]
    program = (
        "from toolkit.kernel import seccomp_noop; import os; assert seccomp_noop.install(syncs=True);"
        "r, w = os.pipe(); os.fsync(w); os.fdatasync(w); os.sync(); os.write(w, b'x'); assert os.read(r, 1) == b'x'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=TOP)


def test_a_failing_script_is_told_with_its_last_lines(tree: Tree) -> None:
    with tree.sandbox() as sandbox, pytest.raises(BuildFailed) as told:
        sandbox.run(["/bin/sh", "-c", "seq 100; echo the reason >&2; exit 7"], doing="configure x")
    assert told.value.because == "exit code 7" and told.value.log == str(tree.log)
    assert told.value.tail[-1] == "the reason" and len(told.value.tail) == 20
    text = tree.log.read_text()
    assert "+ /bin/sh -c seq 100" in text and "\n50\n" in text
    assert tree.lines[0] == "1" and tree.lines[-1] == "the reason"


def test_a_program_that_is_not_there(tree: Tree) -> None:
    with tree.sandbox() as sandbox, pytest.raises(BuildFailed, match="exit code 127"):
        sandbox.run(["/bin/nothing"], doing="run nothing")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_b10_nothing_outlives_ctk(tree: Tree, number: signal.Signals, tmp_path: Path) -> None:
    program = f"""
import sys; sys.path.insert(0, {str(TOP)!r})
import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()
from toolkit.bootstrap.sandbox.sandbox import Sandbox
with Sandbox({str(tree.root)!r}, {str(tree.log)!r}, lambda text: print(text, flush=True), lambda _: None) as sandbox:
    sandbox.run(["/bin/sh", "-c", "echo up; setsid sleep 5432 & sleep 5433"], doing="wait")
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    until(lambda: _running("5432") and _running("5433"), "the two programs", of=child)
    child.send_signal(number)
    child.wait()
    child.stdout.close()
    until(lambda: not _running("5432") and not _running("5433"), "the end of the build's processes")


def test_ctrl_c_ends_all_and_comes_out_as_keyboard_interrupt(tree: Tree) -> None:
    main = threading.main_thread().ident
    assert main is not None
    over = threading.Event()

    def press() -> None:
        while not over.wait(0.02):
            if _running("6543"):
                signal.pthread_kill(main, signal.SIGINT)
                return

    key = threading.Thread(target=press)
    key.start()
    try:
        with pytest.raises(KeyboardInterrupt), tree.sandbox() as sandbox:
            sandbox.run(["/bin/sh", "-c", "trap '' INT; sleep 6543"], doing="wait")
    finally:
        over.set()
        key.join()
    assert not _running("6543")


def test_a_tree_with_links_for_proc_and_dev_leads_nobody_out(tree: Tree, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("proc", "sys", "dev"):
        shutil.rmtree(tree.root / name, ignore_errors=True)
        (victim / name).mkdir()
        os.symlink(victim / name, tree.root / name)
    with contextlib.suppress(HostLacks):  # nothing in the tree has that name: it is made there, or refused
        tree.sh("true")
    if not str(victim).startswith("/dev/"):
        for name in ("proc", "sys", "dev"):
            (tree.root / str(victim / name).lstrip("/")).mkdir(parents=True, exist_ok=True)
        tree.sh("true")  # now the links lead to a folder: the tree's own
    assert [path for path in victim.rglob("*") if path.parent != victim or os.path.ismount(path)] == []
